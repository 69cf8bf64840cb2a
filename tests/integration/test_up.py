"""`cxr-worker up` with real processes: restarts, kills, and what is left when it is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from pydicom import Dataset

from tests.e2e.programs import START_S, wait_until
from tests.integration.house import NAME, PLANTED, WORKED_S, House, Pacs, study_of

pytestmark = pytest.mark.timeout(900)


@dataclass
class Town:
    house: House
    pacs: Pacs
    unfinished: str = ""


@pytest.fixture(scope="module")
def town(model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house with a PACS; the tests of this module tell its story in their order."""
    folder = tmp_path_factory.mktemp("town")
    pacs = Pacs()
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer),
            CXR_DELIVERY_RETRY_S="1", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        yield Town(house, pacs)


def numbers(report: Dataset) -> list[float]:
    return [float(elem.value) for elem in report.iterall() if elem.keyword == "NumericValue"]


def texts(report: Dataset) -> str:
    return "\n".join(str(e.value) for e in report.iterall() if e.keyword == "TextValue")


def referenced(report: Dataset) -> set[str]:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    return {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def assert_tells(report: Dataset, record: dict[str, object]) -> None:
    """Report and JSON tell the same story."""
    instances = record["instances"]
    assert isinstance(instances, list)
    assert referenced(report) == {i["sop_instance_uid"] for i in instances}
    (told,) = record["reports"]  # type: ignore[misc]
    assert told["sop_instance_uid"] == report.SOPInstanceUID
    for instance in instances:
        if instance["assessed"]:
            percent = 100 * instance["probabilities"]["pneumonia"]
            assert min(abs(percent - number) for number in numbers(report)) < 0.06
        else:
            assert f"({instance['reason']})" in texts(report)


def test_two_studies_come_back_with_one_report_each(town: Town) -> None:
    house, pacs = town.house, town.pacs
    house.start_up()
    studies = [house.send_study(2), house.send_study(1)]
    house.wait_for_state("DELIVERED", *studies)
    records = house.results()
    for study in studies:
        (report,) = pacs.reports(study)
        assert str(report.PatientName) == NAME
        assert_tells(report, records[study])


def test_doctor_is_content_while_all_runs(town: Town) -> None:
    done = town.house.command("doctor")
    assert "look" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_study_again_gives_no_second_report(town: Town) -> None:
    house, pacs = town.house, town.pacs
    images = study_of(1)
    uid = str(images[0].StudyInstanceUID)
    assert house.store(images) == [0]
    house.wait_for_state("DELIVERED", uid)
    assert house.store(images) == [0]
    # A later study has overtaken whatever the first might still do.
    house.wait_for_state("DELIVERED", house.send_study())
    assert len(pacs.reports(uid)) == 1


@pytest.mark.parametrize("victim", ["node", "relay", "redis", "io", "gpu"])
def test_a_role_that_is_killed_is_restarted_and_the_work_completes(town: Town, victim: str) -> None:
    house, pacs = town.house, town.pacs
    before = house.send_study(2)
    words = {"redis": ["redis"], "io": ["worker", "io"], "gpu": ["worker", "gpu"]}
    house.kill(*words.get(victim, [victim]))
    wait_until(house.is_receiving, WORKED_S, "the node's return")
    after = house.send_study(1)
    records = house.wait_for_state("DELIVERED", before, after)
    for study in (before, after):
        (report,) = pacs.reports(study)
        assert_tells(report, records[study])


def test_the_child_that_classifies_may_be_killed_too(town: Town) -> None:
    house, pacs = town.house, town.pacs
    study = house.send_study(3)
    for child in house.role("worker", "gpu").children():
        child.kill()
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_a_pacs_that_refuses_is_a_dead_letter_until_it_is_requeued(town: Town) -> None:
    house, pacs = town.house, town.pacs
    pacs.status = 0xC000
    study = house.send_study()
    house.wait_for_state("FAILED", study)
    letters = house.command("dead-letters").stdout
    assert study in letters
    assert "0xC000" in letters
    pacs.status = 0x0000
    assert house.command("requeue", study).returncode == 0
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_a_pacs_that_is_busy_gets_the_report_later(town: Town) -> None:
    house, pacs = town.house, town.pacs
    pacs.status = 0xA700
    study = house.send_study()
    house.wait_for_state("REPORTED", study)

    def tried() -> bool:
        (delivery,) = house.results()[study]["reports"][0]["deliveries"]
        return bool(delivery["attempts"] >= 1)

    wait_until(tried, WORKED_S, "the first try")
    pacs.status = 0x0000
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_sigint_to_the_parent_stops_everything_and_keeps_what_is_owed(town: Town) -> None:
    house = town.house
    town.unfinished = house.send_study(3)
    assert house.stop("up") == 0
    assert house.left_over() == []


def test_a_second_start_in_the_same_home_goes_on_with_the_work(town: Town) -> None:
    house, pacs = town.house, town.pacs
    house.start_up()
    records = house.wait_for_state("DELIVERED", town.unfinished)
    (report,) = pacs.reports(town.unfinished)
    assert_tells(report, records[town.unfinished])


def test_ctrl_c_in_a_terminal_reaches_every_process_and_stops_them(town: Town) -> None:
    assert town.house.stop("up", group=True) == 0
    assert town.house.left_over() == []


def test_sigterm_stops_everything_though_it_has_only_begun_to_start(town: Town) -> None:
    house = town.house
    house.start("up")
    wait_until(house.is_receiving, START_S, "the node's start")
    assert house.stop("up", number=signal.SIGTERM) == 0
    assert house.left_over() == []


def test_when_the_parent_is_killed_its_children_end(town: Town) -> None:
    house = town.house
    house.start("up")
    wait_until(house.is_receiving, START_S, "the node's start")
    assert house.stop("up", number=signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not house.left_over(), WORKED_S, "the end of the children")


def test_every_report_was_sent_once(town: Town) -> None:
    assert len(set(town.pacs.received)) == len(town.pacs.received)


def test_nothing_that_was_written_names_the_patient(town: Town) -> None:
    house = town.house
    text = house.text().lower()
    assert "is ready" in text
    assert [word for word in PLANTED if word in text] == []
    for path in (house.home / "redis").rglob("*"):
        if path.is_file():
            data = path.read_bytes().lower()
            assert [word for word in PLANTED if word.encode() in data] == [], path
