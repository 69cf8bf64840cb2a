"""Owed work is done by one at a time, and never lost, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fakes import NOON, in_threads, new_uid
from tests.ledgers import FOUND, LEASE, PACS, QUIET, SILENCE, VIEWER, Desk
from worker import ledger
from worker.ledger import LeaseLost
from worker.states import JobKind
from worker.tables import FindingRow, Job, Study

CLASSIFY, REPORT, DELIVER = JobKind.CLASSIFY, JobKind.REPORT, JobKind.DELIVER


def test_claimed_work_is_hidden_from_others(desk: Desk) -> None:
    for _ in range(5):
        desk.receive()
    first, second = desk.claim(CLASSIFY, 3), desk.claim(CLASSIFY, 3)
    assert (len(first), len(second)) == (3, 2)
    assert not {c.subject_id for c in first} & {c.subject_id for c in second}
    assert desk.claim(CLASSIFY) == []


def test_the_oldest_work_comes_first(desk: Desk) -> None:
    for _ in range(4):
        desk.receive()
        desk.clock.forward(1)
    claimed = [claim.subject_id for claim in desk.claim(CLASSIFY, 2)]
    ids = [job.subject_id for job in desk.all(Job) if job.kind == CLASSIFY]
    assert claimed == ids[:2]


@pytest.mark.parametrize("limit", [1, 4])
def test_of_many_workers_at_once_each_job_is_claimed_exactly_once(desk: Desk, limit: int) -> None:
    for _ in range(24):
        desk.receive()

    def work(_: int) -> list[int]:
        mine: list[int] = []
        # SKIP LOCKED may show a busy worker nothing although there is work: ask again.
        while any(job.kind == CLASSIFY and job.state == "DUE" for job in desk.all(Job)):
            mine += [claim.job_id for claim in desk.claim(CLASSIFY, limit)]
        return mine

    claimed = Counter(job for mine in in_threads(8, work) for job in mine)
    assert set(claimed.values()) == {1}
    assert len(claimed) == 24


def test_work_not_due_yet_is_not_claimed(desk: Desk) -> None:
    desk.receive(received_at=NOON.replace(hour=13))
    assert desk.claim(CLASSIFY) == []


def test_the_work_of_a_dead_worker_is_taken_over_when_its_lease_expires(desk: Desk) -> None:
    desk.receive()
    (dead,) = desk.claim(CLASSIFY)
    desk.clock.forward(LEASE.total_seconds() - 1)
    assert desk.claim(CLASSIFY) == []
    desk.clock.forward(1)
    (heir,) = desk.claim(CLASSIFY)
    assert (heir.job_id, heir.attempts) == (dead.job_id, 2)
    assert heir.token > dead.token


def test_a_worker_that_lost_its_lease_cannot_write(desk: Desk) -> None:
    desk.receive()
    (late,) = desk.claim(CLASSIFY)
    desk.clock.forward(LEASE.total_seconds())
    (heir,) = desk.claim(CLASSIFY)
    model = desk.model()
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_finding, late, model, FOUND, desk.clock())
    assert desk.do(ledger.put_back, late, desk.clock(), "late") is False
    assert desk.do(ledger.bury, late, "late") is False
    assert not desk.all(FindingRow)
    desk.do(ledger.save_finding, heir, model, FOUND, desk.clock())
    assert len(desk.all(FindingRow)) == 1
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_finding, late, model, FOUND, desk.clock())


def test_of_two_that_finish_the_same_work_at_once_one_writes(desk: Desk) -> None:
    desk.receive()
    (late,) = desk.claim(CLASSIFY)
    desk.clock.forward(LEASE.total_seconds())
    (heir,) = desk.claim(CLASSIFY)
    model = desk.model()

    def finish(number: int) -> str:
        try:
            desk.do(ledger.save_finding, (late, heir)[number], model, FOUND, desk.clock())
        except LeaseLost:
            return "lost"
        return "written"

    assert in_threads(2, finish) == ["lost", "written"]


def test_failed_work_is_put_back_until_it_is_due_again(desk: Desk) -> None:
    desk.receive()
    (claim,) = desk.claim(CLASSIFY)
    later = desk.clock().replace(minute=1)
    assert desk.do(ledger.put_back, claim, later, "MemoryError") is True
    assert desk.claim(CLASSIFY) == []
    assert desk.all(Job)[0].last_error == "MemoryError"
    desk.clock.forward(60)
    assert [c.attempts for c in desk.claim(CLASSIFY)] == [2]


def test_a_suspect_is_claimed_alone(desk: Desk) -> None:
    for _ in range(3):
        desk.receive()
    for claim in desk.claim(CLASSIFY):
        desk.do(ledger.put_back, claim, desk.clock(), "failed")
    sizes = [len(desk.claim(CLASSIFY)) for _ in range(4)]
    assert sizes == [1, 1, 1, 0]


def test_fresh_work_goes_on_around_a_suspect(desk: Desk) -> None:
    desk.receive()
    (suspect,) = desk.claim(CLASSIFY)
    desk.do(ledger.put_back, suspect, desk.clock().replace(minute=1), "failed")
    for _ in range(3):
        desk.receive()
    desk.clock.forward(60)
    batches = [[c.job_id for c in desk.claim(CLASSIFY)] for _ in range(3)]
    assert sorted(map(len, batches)) == [0, 1, 3]
    assert [suspect.job_id] in batches


def test_buried_work_is_seen_by_people_and_not_claimed(desk: Desk) -> None:
    study = desk.ready()
    claim = desk.claim_report()
    assert desk.do(ledger.bury, claim, "no disk") is True
    assert desk.study_state(study) == "FAILED"
    desk.clock.forward(1e6)
    assert desk.claim(REPORT) == []
    ((job, uid),) = desk.do(ledger.dead_letters)
    assert (uid, job.kind, job.last_error) == (study, "REPORT", "no disk")


# --- when a report is due --------------------------------------------------------------------


def test_a_report_waits_for_the_study_to_be_quiet(desk: Desk) -> None:
    desk.receive()
    desk.close()
    desk.classify()
    assert desk.claim(REPORT) == []
    desk.clock.forward(QUIET.total_seconds())
    assert len(desk.claim(REPORT)) == 1


def test_a_report_waits_for_the_association_that_is_still_sending(desk: Desk) -> None:
    desk.receive()
    desk.classify()
    desk.clock.forward(QUIET.total_seconds() + 10)
    assert desk.claim(REPORT) == []
    desk.close()
    assert len(desk.claim(REPORT)) == 1


def test_a_reception_of_a_node_that_died_holds_up_nothing(desk: Desk) -> None:
    desk.receive()
    desk.classify()
    desk.clock.forward(SILENCE.total_seconds() - 1)
    assert desk.claim(REPORT) == []
    desk.clock.forward(2)
    assert len(desk.claim(REPORT)) == 1


def test_a_report_waits_for_the_last_instance_to_be_classified(desk: Desk) -> None:
    study = new_uid()
    desk.receive(study)
    desk.receive(study)
    desk.close()
    desk.clock.forward(QUIET.total_seconds())
    (first,) = desk.claim(CLASSIFY, 1)
    desk.do(ledger.save_finding, first, desk.model(), FOUND, desk.clock())
    assert desk.claim(REPORT) == []
    desk.classify()
    assert len(desk.claim(REPORT)) == 1


def test_one_study_that_is_being_sent_does_not_hold_up_another(desk: Desk) -> None:
    desk.receive(association_id="slow")
    desk.receive("1.2", association_id="quick")
    desk.close("quick")
    desk.classify()
    desk.clock.forward(QUIET.total_seconds())
    (claim,) = desk.claim(REPORT)
    with desk.sessions() as session:
        assert session.get_one(Study, claim.study_id).study_instance_uid == "1.2"


# --- what the relay announces ----------------------------------------------------------------


def bells(desk: Desk) -> list[tuple[JobKind, str]]:
    found: list[tuple[JobKind, str]] = desk.do(ledger.due_bells, desk.clock(), SILENCE)
    return found


def test_a_bell_is_due_for_each_kind_of_due_work_and_each_destination(desk: Desk) -> None:
    assert bells(desk) == []
    desk.ready()
    desk.report(PACS, VIEWER)
    desk.ready()
    desk.receive()
    assert sorted(bells(desk)) == [(CLASSIFY, ""), (DELIVER, PACS), (DELIVER, VIEWER), (REPORT, "")]


def test_a_destination_that_is_away_or_busy_silences_no_bell_of_another(desk: Desk) -> None:
    for _ in range(2):
        desk.ready()
        desk.report(PACS, VIEWER, "THIRD@192.0.2.3:104")
    later = desk.clock().replace(hour=13)
    desk.do(ledger.save_outage, VIEWER, desk.clock(), later, "down")
    (_,) = desk.claim(DELIVER, 1, destination=PACS)
    assert bells(desk) == [(DELIVER, "THIRD@192.0.2.3:104")]


def test_no_bell_is_due_for_claimed_dead_or_future_work(desk: Desk) -> None:
    desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "gone")
    desk.receive()
    desk.claim(CLASSIFY)
    assert bells(desk) == []
    desk.clock.forward(LEASE.total_seconds())
    assert bells(desk) == [(CLASSIFY, "")]


def test_destinations_do_not_see_each_others_work(desk: Desk) -> None:
    desk.ready()
    desk.report(PACS, VIEWER)
    (claim,) = desk.claim(DELIVER, destination=PACS)
    assert desk.claim(DELIVER, destination=PACS) == []
    desk.do(ledger.save_failed_delivery, claim, None, "down", desk.clock().replace(hour=13))
    assert desk.claim(DELIVER, destination=PACS) == []
    assert len(desk.claim(DELIVER, destination=VIEWER)) == 1


def test_the_depth_counts_what_is_owed(desk: Desk) -> None:
    desk.receive()
    desk.receive()
    desk.claim(CLASSIFY, 1)
    assert desk.do(ledger.depth) == {"CLASSIFY DUE": 1, "CLASSIFY LEASED": 1, "REPORT DUE": 2}


def test_a_lost_lease_is_none_on_later_work_with_the_same_number(desk: Desk) -> None:
    """SQLite gives the id of the last row again when that is deleted, unless it is told not to."""
    desk.receive("1.2")
    (late,) = desk.claim(CLASSIFY)
    desk.do(ledger.drop, [late])
    desk.do(ledger.owe, CLASSIFY, late.subject_id, late.study_id, desk.clock())
    (heir,) = desk.claim(CLASSIFY)
    assert heir.job_id != late.job_id
    with pytest.raises(LeaseLost):
        desk.do(ledger.save_finding, late, desk.model(), FOUND, desk.clock())


def test_a_worker_that_lost_its_lease_and_is_alive_takes_its_death_back(desk: Desk) -> None:
    desk.receive()
    (late,) = desk.claim(CLASSIFY)
    desk.clock.forward(LEASE.total_seconds())
    (heir,) = desk.claim(CLASSIFY)
    assert (heir.deaths, heir.tries) == (1, 1)
    desk.do(ledger.take_death_back, late)
    desk.do(ledger.take_death_back, late)
    (job,) = [job for job in desk.all(Job) if job.kind == CLASSIFY]
    assert (job.deaths, job.attempts) == (0, 1)
    desk.do(ledger.take_death_back, heir)
    assert [job.deaths for job in desk.all(Job)] == [0, 0]


def test_of_many_workers_at_once_one_sends_to_a_destination(desk: Desk) -> None:
    for _ in range(6):
        desk.ready()
        desk.report()
    claimed = [
        claim
        for mine in in_threads(6, lambda _: desk.claim(DELIVER, 1, destination=PACS))
        for claim in mine
    ]
    assert len(claimed) == 1


def test_what_was_given_up_is_not_handed_back(desk: Desk) -> None:
    desk.receive()
    (claim,) = desk.claim(CLASSIFY)
    desk.do(ledger.bury, claim, "gone")
    desk.do(ledger.hand_back, claim, desk.clock(), "later", counts=True)
    (job,) = [job for job in desk.all(Job) if job.kind == CLASSIFY]
    assert (job.state, job.last_error) == ("DEAD", "gone")


def test_a_late_image_hides_no_dead_letter(desk: Desk) -> None:
    desk.receive("1.2")
    (claim,) = desk.claim(CLASSIFY)
    desk.do(ledger.bury, claim, "gone")
    desk.receive("1.2")
    assert desk.study_state("1.2") == "FAILED"
