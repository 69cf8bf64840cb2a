"""Agreement: what is counted, in which month, and what it is measured against."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.fakes import NOON
from tests.ledgers import Desk
from worker import ledger
from worker.agreement import OfModel, agreement, last_months
from worker.states import Finding
from worker.tables import Instance, Study
from worker.verdicts import Says, judge

PRESENT, ABSENT, UNDETERMINED = Finding.PRESENT, Finding.ABSENT, Finding.UNDETERMINED


def judged(desk: Desk, finding: Finding, says: Says, version: str = "1") -> None:
    """Have an instance answered by a model of a version, and judge it."""
    desk.receive()
    model = desk.do(
        ledger.model_row, name="m", version=version, digest=version * 64, details={}, now=NOON
    )
    desk.classify(ledger.NewFinding(assessed=True, finding=finding, pneumonia=0.5), model)
    row = desk.all(Instance)[-1]
    said = judge(finding, says)
    new = ledger.NewVerdict(
        row.sop_instance_uid, model, finding, said.verdict, said.label, "", "anna"
    )
    uids = {each.id: each.study_instance_uid for each in desk.all(Study)}
    assert desk.do(ledger.save_verdict, uids[row.study_id], new, desk.clock())


def told(desk: Desk, months: int = 12) -> list[OfModel]:
    found: list[OfModel] = desk.do(agreement, desk.clock(), months)
    return found


def test_the_model_is_measured_against_what_readers_see(desk: Desk) -> None:
    for finding, says in (
        (PRESENT, Says.AGREE), (PRESENT, Says.AGREE), (PRESENT, Says.DISAGREE),
        (ABSENT, Says.AGREE), (ABSENT, Says.DISAGREE), (PRESENT, Says.UNSURE),
        (UNDETERMINED, Says.PNEUMONIA), (UNDETERMINED, Says.NORMAL),
    ):  # fmt: skip
        judged(desk, finding, says)
    (model,) = told(desk)
    whole = model.whole
    shares = (whole.agreement, whole.sensitivity, whole.specificity)
    assert [(s.part, s.whole) for s in shares if s] == [(3, 5), (2, 3), (1, 2)]
    assert whole.count() == 8
    assert shares[0] is not None
    assert shares[0].interval == pytest.approx((0.231, 0.882), abs=0.001)


def test_models_and_months_are_told_apart_the_newest_first(desk: Desk) -> None:
    judged(desk, PRESENT, Says.AGREE)
    desk.clock.forward(timedelta(days=40).total_seconds())
    judged(desk, PRESENT, Says.DISAGREE)
    judged(desk, ABSENT, Says.AGREE, version="2")
    two, one = told(desk)
    assert (two.name, one.name) == ("m 2", "m 1")
    assert [tally.count() for tally in one.months.values()] == [1, 1]
    assert [month.since for month in one.months] == sorted(
        (month.since for month in one.months), reverse=True
    )
    assert [each.name for each in told(desk, months=1)] == ["m 2", "m 1"]
    assert told(desk, months=1)[1].whole.count() == 1


def test_where_nothing_was_judged_there_is_no_share(desk: Desk) -> None:
    assert told(desk) == []
    judged(desk, UNDETERMINED, Says.UNSURE)
    (model,) = told(desk)
    assert (model.whole.agreement, model.whole.sensitivity) == (None, None)


def test_months_follow_each_other_over_the_end_of_a_year() -> None:
    names = [str(month) for month in last_months(datetime(2026, 2, 3, 12).astimezone(), 4)]
    assert names == ["2026-02", "2026-01", "2025-12", "2025-11"]
    months = list(last_months(NOON, 5))
    assert [month.until for month in months[1:]] == [month.since for month in months[:-1]]
