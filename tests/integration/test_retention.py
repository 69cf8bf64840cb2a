"""Images that go by their age, come again, and are erased, with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dicom_node.archive import MARK
from tests.e2e.programs import wait_until
from tests.integration.house import ID, PLANTED, House, Pacs, study_of

pytestmark = pytest.mark.timeout(600)

GONE_S = 30


@pytest.fixture
def house(
    model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("retention")
    with ExitStack() as stack:
        peer = stack.enter_context(Pacs().listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer),
            CXR_KEEP_IMAGES_DAYS="0.00005", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        yield house


def files(house: House, name: str = "*") -> set[str]:
    """Name the files of the archive."""
    found = (path for path in (house.home / "archive").rglob(name) if path.is_file())
    return {path.name for path in found if path.name != MARK}


def test_images_go_come_again_and_are_erased(house: House) -> None:
    house.start_up()
    images = study_of(2)
    study = str(images[0].StudyInstanceUID)
    received = f"{study}.1.*"
    assert house.store(images) == [0, 0]
    house.wait_for_state("DELIVERED", study)
    wait_until(lambda: not files(house, received), GONE_S, "the removal of the images")
    assert len(files(house)) == 1, "the report"
    looked = house.command("retention").stdout
    assert "images are kept for 5e-05 days" in looked
    assert "0 files that no row names would go" in looked

    assert house.store(images[:1]) == [0]
    late = study_of(3)[2]
    late.StudyInstanceUID, late.SeriesInstanceUID = study, f"{study}.1"
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.9"
    assert house.store([late]) == [0]
    wait_until(
        lambda: len(house.records()[study]["reports"]) == 2, GONE_S, "the report of the late image"
    )
    record = house.wait_for_state("DELIVERED", study)[study]
    assert [each["reason"] for each in record["instances"]].count("REMOVED") == 0

    erased = house.command("erase", "--patient-id", ID, "--reason", "asked for", "--yes")
    assert erased.returncode == 0, erased.stdout + erased.stderr
    assert files(house) == set()
    assert house.records() == {}
    assert house.stop("up") == 0
    said = (house.text() + erased.stdout).lower()
    assert not [word for word in PLANTED if word in said]
    assert "Traceback" not in house.text()
    assert house.left_over() == []
