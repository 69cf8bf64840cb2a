"""The findings of a batch are saved at once, and each as if it were saved by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.ledgers import FOUND, LEASE, Desk
from worker import ledger
from worker.ledger import Claim, NewFinding
from worker.states import JobKind
from worker.tables import FindingRow, Job, Model

CLASSIFY = JobKind.CLASSIFY
BLANK = NewFinding(assessed=False, reason="BLANK")


def batch_of(desk: Desk, count: int) -> list[Claim]:
    for _ in range(count):
        desk.receive()
    return desk.claim(CLASSIFY, count)


def owed(desk: Desk) -> list[int]:
    return [job.subject_id for job in desk.all(Job) if job.kind == CLASSIFY]


def test_the_findings_of_a_batch_are_saved_and_nothing_of_it_is_owed(desk: Desk) -> None:
    first, second = batch_of(desk, 2)
    found = {first: replace(FOUND, heatmap=b"png", flags=("AGE_UNKNOWN",)), second: BLANK}
    saved = desk.do(ledger.save_findings, desk.model(), found, desk.clock())
    assert saved == {first, second}
    rows = {row.instance_id: row for row in desk.all(FindingRow)}
    assert rows[first.subject_id].pneumonia == FOUND.pneumonia
    assert rows[first.subject_id].flags == ["AGE_UNKNOWN"]
    assert rows[second.subject_id].reason == "BLANK"
    assert owed(desk) == []


def test_a_later_answer_of_the_same_model_takes_the_place_of_an_earlier_one(desk: Desk) -> None:
    model = desk.model()
    batch = batch_of(desk, 2)
    desk.do(ledger.save_findings, model, dict.fromkeys(batch, FOUND), desk.clock())
    for claim in batch:
        desk.do(ledger.owe, CLASSIFY, claim.subject_id, claim.study_id, desk.clock())
    again = desk.claim(CLASSIFY, 2)
    desk.do(ledger.save_findings, model, dict.fromkeys(again, BLANK), desk.clock())
    assert [row.reason for row in desk.all(FindingRow)] == ["BLANK", "BLANK"]


def test_what_another_has_taken_over_is_left_to_it(desk: Desk) -> None:
    first, second = batch_of(desk, 2)
    desk.do(ledger.put_back, first, desk.clock(), "")
    (heir,) = desk.claim(CLASSIFY)
    found = {first: BLANK, second: FOUND}
    assert desk.do(ledger.save_findings, desk.model(), found, desk.clock()) == {second}
    assert [row.instance_id for row in desk.all(FindingRow)] == [second.subject_id]
    assert owed(desk) == [heir.subject_id]


def test_a_batch_that_was_lost_as_a_whole_leaves_nothing(desk: Desk) -> None:
    batch = batch_of(desk, 2)
    desk.clock.forward(LEASE.total_seconds() + 1)
    desk.claim(CLASSIFY, 1)
    desk.claim(CLASSIFY, 1)
    found = dict.fromkeys(batch, FOUND)
    assert desk.do(ledger.save_findings, desk.model(), found, desk.clock()) == set()
    assert desk.all(FindingRow) == []


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # SQLite locks all or nothing
def test_no_lock_is_waited_for_while_others_are_held(desk: Desk) -> None:
    first, second = batch_of(desk, 2)
    with desk.sessions() as other, other.begin():
        other.execute(select(Job).where(Job.id == first.job_id).with_for_update())
        found = dict.fromkeys((first, second), FOUND)
        assert desk.do(ledger.save_findings, desk.model(), found, desk.clock()) == {second}
    assert owed(desk) == [first.subject_id]


def test_of_a_batch_with_an_answer_that_no_database_takes_nothing_is_saved(desk: Desk) -> None:
    first, second = batch_of(desk, 2)
    found = {first: FOUND, second: replace(FOUND, pneumonia=None)}
    model = desk.model()
    with pytest.raises(IntegrityError):
        desk.do(ledger.save_findings, model, found, desk.clock())
    assert desk.all(FindingRow) == []
    assert owed(desk) == [first.subject_id, second.subject_id]


def test_a_model_is_entered_once(desk: Desk) -> None:
    assert desk.model("a" * 64) == desk.model("a" * 64) != desk.model("b" * 64)
    assert len(desk.all(Model)) == 2
