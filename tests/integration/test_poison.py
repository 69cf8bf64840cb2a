"""An image that kills every worker that looks at it, with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.house import House, Pacs, study_of

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).resolve().parent


def test_an_image_that_kills_two_workers_is_not_assessed_and_the_others_are(
    model_setting: dict[str, str], tmp_path: Path
) -> None:
    pacs = Pacs()
    with pacs.listening() as peer:
        house = House(
            tmp_path / "home", tmp_path / "logs", CXR_DESTINATIONS=str(peer),
            PYTHONPATH=f"{HERE / 'poison'}:{HERE.parents[1]}", **model_setting,
        )  # fmt: skip
        try:
            house.start_up()
            poisoned = study_of(3)
            poisoned[1].ImageComments = "poison"
            assert house.store(poisoned) == [0] * 3
            others = [house.send_study() for _ in range(4)]
            study = str(poisoned[0].StudyInstanceUID)
            records = house.wait_for_state("DELIVERED", study, *others)
        finally:
            house.kill_all()
    reasons = [instance["reason"] for instance in records[study]["instances"]]
    assert reasons.count("WORKER_FAILURE") == 1
    assert reasons.index("WORKER_FAILURE") == 1
    told = {i["reason"] for other in others for i in records[other]["instances"]}
    assert "WORKER_FAILURE" not in told
    assert len(pacs.reports(study)) == 1
    assert f"{poisoned[1].SOPInstanceUID} ended its worker 2 times" in house.text()
