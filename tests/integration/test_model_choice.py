"""Another version is chosen while all runs: no study is lost, each report tells its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset

import model
from model import artifact
from tests.e2e.programs import wait_until
from tests.integration.house import WORKED_S, House, Pacs

pytestmark = pytest.mark.timeout(900)
NEXT = "99.0.0"


@dataclass
class Town:
    house: House
    pacs: Pacs
    models: Path

    def digest(self, version: str) -> str:
        (folder,) = self.models.glob(f"*{version}")
        return str(artifact.describe(folder)["digest"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house whose model comes from a folder with two versions; the tests tell its story."""
    folder = tmp_path_factory.mktemp("choice")
    models, pacs = folder / "models", Pacs()
    first = artifact.locate(Path(str(model.__file__)).parent / "released")
    shutil.copytree(first, models / f"{first.name}-first")
    (models / artifact.CURRENT).write_text(f"{first.name}-first\n")
    again = artifact.read(first)
    artifact.write(models / f"next-{NEXT}", {**again.description, "version": NEXT}, again.arrays)
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        house = House(
            folder / "home",
            folder / "logs",
            CXR_DESTINATIONS=str(peer),
            CXR_MODEL=str(models),
            CXR_ENGINE="tensorflow",  # what the others run with is left to the machine
        )
        stack.callback(house.kill_all)
        house.start_up()
        yield Town(house, pacs, models)


def tells(report: Dataset, digest: str) -> bool:
    """Whether a report names the digest: whole in its content, its start as the serial number."""
    inside = [str(e.value) for e in report.iterall() if e.VR in ("UT", "LO", "SH", "ST", "LT")]
    return report.DeviceSerialNumber == digest[:16] and any(digest in text for text in inside)


def test_each_study_is_reported_by_the_version_that_was_chosen_then(town: Town) -> None:
    house = town.house
    before = house.send_study(2)
    house.wait_for_state("DELIVERED", before)
    done = house.command("model", "use", NEXT)
    assert done.returncode == 0, done.stderr
    after = house.send_study(2)
    records = house.wait_for_state("DELIVERED", after)
    for study, version in ((before, "first"), (after, NEXT)):
        (report,) = town.pacs.reports(study)
        assert tells(report, town.digest(version))
        assert records[study]["model"]["digest"] == town.digest(version)
    assert "takes over from" in house.text()


def test_a_study_whose_images_saw_two_versions_is_reported_by_the_newer_alone(town: Town) -> None:
    house = town.house
    study = house.send_study(2)
    (first,) = town.models.glob("*-first")
    assert house.command("model", "use", first.name).returncode == 0
    house.wait_for_state("DELIVERED", study)
    (report,) = town.pacs.reports(study)
    told = house.results()[study]["model"]["digest"]
    assert told in (town.digest("first"), town.digest(NEXT))
    assert tells(report, told)


def test_a_damaged_version_never_takes_over_and_the_doctor_says_so(town: Town) -> None:
    house = town.house
    loaded = house.send_study()  # the choice before this one is taken up by a batch only
    assert house.wait_for_state("DELIVERED", loaded)[loaded]["model"]["version"] != NEXT
    (folder,) = town.models.glob(f"*{NEXT}")
    weights = folder / artifact.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    refused = house.command("model", "use", folder.name)
    assert refused.returncode == 1
    assert "digest differs" in refused.stderr
    (town.models / artifact.CURRENT).write_text(folder.name)  # by hand, without being asked
    study = house.send_study()
    records = house.wait_for_state("DELIVERED", study)
    assert records[study]["model"]["digest"] == town.digest("first")
    wait_until(lambda: "the new model is not used" in house.text(), WORKED_S, "the error line")
    house.wait_for_state("DELIVERED", house.send_study())
    assert house.text().count("the new model is not used") == 1
    assert "goes on answering" in house.command("doctor").stdout


def test_no_study_was_lost_and_none_was_reported_twice(town: Town) -> None:
    records = town.house.records()
    assert {record["state"] for record in records.values()} == {"DELIVERED"}
    assert all(len(town.pacs.reports(study)) == 1 for study in records)
    assert town.house.stop("up") == 0
