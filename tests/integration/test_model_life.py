"""A candidate is tried, compared, promoted and rolled back while studies come in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import model
from model import artifact
from tests.e2e.programs import wait_until
from tests.integration.house import WORKED_S, House, Pacs
from tests.integration.test_model_choice import Town, tells

pytestmark = pytest.mark.timeout(900)
NEXT = "99.0.0"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house with two versions: the one in use, and one that calls everything a pneumonia."""
    folder = tmp_path_factory.mktemp("life")
    models, pacs = folder / "models", Pacs()
    first = artifact.locate(Path(str(model.__file__)).parent / "released")
    shutil.copytree(first, models / f"{first.name}-first")
    (models / artifact.CURRENT).write_text(f"{first.name}-first\n")
    again = artifact.read(first)
    point = {**again.description["operating_point"], "threshold": 1e-6, "low": 0.0, "high": 1e-6}
    other = {**again.description, "version": NEXT, "operating_point": point}
    artifact.write(models / f"next-{NEXT}", other, again.arrays)
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer), CXR_MODEL=str(models),
            CXR_ENGINE="tensorflow",
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        yield Town(house, pacs, models)


def done(house: House, *words: str) -> str:
    ran = house.command("model", *words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def answered_by(town: Town, version: str, *studies: str) -> None:
    """See to it that reports and results tell of this version, and of no other."""
    records = town.house.wait_for_state("DELIVERED", *studies)
    other = next(each for each in ("first", NEXT) if each != version)
    for study in studies:
        assert records[study]["model"]["digest"] == town.digest(version)
        assert town.digest(other) not in str(records[study])
        for report in town.pacs.reports(study):
            assert tells(report, town.digest(version))
            assert not tells(report, town.digest(other))


def test_what_a_candidate_says_is_told_to_nobody(town: Town) -> None:
    house = town.house
    assert "is tried from now on" in done(house, "shadow", NEXT, "--reason", "retrained")
    studies = [house.send_study(2) for _ in range(2)]
    answered_by(town, "first", *studies)
    wait_until(
        lambda: "images seen by both: 4" in done(house, "compare"), WORKED_S, "the candidate"
    )
    assert all(len(town.pacs.reports(study)) == 1 for study in studies)
    answered_by(town, "first", *studies)


def test_a_promoted_candidate_answers_and_is_rolled_back(town: Town) -> None:
    house = town.house
    done(house, "promote", "--reason", "tried for long enough")
    study = house.send_study()
    answered_by(town, NEXT, study)
    done(house, "rollback", "--reason", "a mistake")
    study = house.send_study()
    answered_by(town, "first", study)
    refused = house.command("model", "rollback", "--reason", "again")
    assert refused.returncode == 1
    assert "nothing to return to" in refused.stderr
    told = [line.split()[2] for line in done(house, "history").splitlines()]
    assert told == ["ROLLED_BACK", "PROMOTED", "SHADOWED"]


def test_a_candidate_that_is_damaged_meanwhile_holds_up_nothing(town: Town) -> None:
    house = town.house
    (folder,) = town.models.glob(f"*{NEXT}")
    broken = town.models / "broken"
    again = artifact.read(folder)
    artifact.write(broken, {**again.description, "version": "100.0.0"}, again.arrays)
    done(house, "shadow", "broken")
    (broken / artifact.WEIGHTS).write_bytes(b"damaged")
    study = house.send_study(2)
    answered_by(town, "first", study)
    wait_until(
        lambda: "could not be tried" in done(house, "compare"), WORKED_S, "the candidate's error"
    )
    answered_by(town, "first", house.send_study())
    assert {record["state"] for record in house.records().values()} == {"DELIVERED"}
    assert house.stop("up") == 0
