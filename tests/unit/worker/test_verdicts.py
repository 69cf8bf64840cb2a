"""What readers say of answers: what it means, which row counts, and what goes with a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from tests.fakes import NOON
from tests.keeping import DAY, Attic
from tests.ledgers import Desk
from tests.light_report import light_reports
from worker import erasing, ledger
from worker.states import Finding, Label, Verdict
from worker.tables import FindingRow, Instance, Study, VerdictRow
from worker.verdicts import Judged, NotAnAnswer, Says, choices, judge, sentence

# --- what it means ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "says", "verdict", "label"),
    [
        ("PRESENT", Says.AGREE, Verdict.AGREE, Label.PNEUMONIA),
        ("PRESENT", Says.DISAGREE, Verdict.DISAGREE, Label.NORMAL),
        ("ABSENT", Says.AGREE, Verdict.AGREE, Label.NORMAL),
        ("ABSENT", Says.DISAGREE, Verdict.DISAGREE, Label.PNEUMONIA),
        ("UNDETERMINED", Says.PNEUMONIA, Verdict.STATED, Label.PNEUMONIA),
        ("UNDETERMINED", Says.NORMAL, Verdict.STATED, Label.NORMAL),
        (None, Says.PNEUMONIA, Verdict.STATED, Label.PNEUMONIA),
        (None, Says.UNSURE, Verdict.UNSURE, None),
    ],
)
def test_what_a_reader_says_of_an_answer_gives_the_image_its_label(
    finding: str | None, says: Says, verdict: Verdict, label: Label | None
) -> None:
    assert judge(finding, says) == Judged(verdict, label)


@pytest.mark.parametrize("kind", [Label.BACTERIAL, Label.VIRAL])
def test_a_kind_counts_only_where_there_is_pneumonia(kind: Label) -> None:
    assert judge("PRESENT", Says.AGREE, kind).label is kind
    assert judge("ABSENT", Says.DISAGREE, kind).label is kind
    assert judge("PRESENT", Says.DISAGREE, kind).label is Label.NORMAL
    assert judge("PRESENT", Says.UNSURE, kind).label is None
    assert judge("PRESENT", Says.AGREE, Label.NORMAL).label is Label.PNEUMONIA


@pytest.mark.parametrize(
    ("finding", "says"),
    [("PRESENT", Says.NORMAL), ("UNDETERMINED", Says.AGREE), (None, Says.DISAGREE)],
)
def test_nobody_agrees_with_what_leaves_it_open(finding: str | None, says: Says) -> None:
    with pytest.raises(NotAnAnswer):
        judge(finding, says)


def test_the_keys_of_what_may_be_said_of_an_answer_differ() -> None:
    for finding in (*Finding, None):
        given = choices(finding)
        assert len({says.key for says in given}) == len(given) == 3


# --- rows ------------------------------------------------------------------------------------


def judged(desk: Desk, study: str, person: str = "anna", **changes: Any) -> bool:
    words = {"verdict": Verdict.AGREE, "label": Label.PNEUMONIA, "comment": ""} | changes
    uid = desk.all(Instance)[-1].sop_instance_uid
    new = ledger.NewVerdict(uid, 1, Finding.PRESENT, person=person, **words)
    saved: bool = desk.do(ledger.save_verdict, study, new, desk.clock())
    return saved


def counted(desk: Desk, hours: float = 24) -> dict[tuple[str, str | None], int]:
    until = desk.clock() + timedelta(hours=1)
    rows = desk.do(ledger.count_verdicts, until - timedelta(hours=hours), until)
    return {(row.verdict, row.label): row.number for row in rows}


def test_a_verdict_holds_what_the_model_had_said(desk: Desk) -> None:
    study = desk.ready()
    assert judged(desk, study, comment="left lower lobe")
    row = desk.one(VerdictRow)
    assert (row.finding, row.verdict, row.label) == ("PRESENT", "AGREE", "PNEUMONIA")
    assert (row.person, row.comment, row.decided_at) == ("anna", "left lower lobe", desk.clock())
    assert sentence(row) == "anna agrees: pneumonia"


def test_who_changes_their_mind_adds_a_row_and_only_the_last_counts(desk: Desk) -> None:
    study = desk.ready()
    judged(desk, study)
    judged(desk, study, "bert")
    judged(desk, study, verdict=Verdict.UNSURE, label=None)
    assert len(desk.all(VerdictRow)) == 3
    assert counted(desk) == {("AGREE", "PNEUMONIA"): 1, ("UNSURE", None): 1}


def test_a_verdict_counts_at_the_time_that_it_was_given(desk: Desk) -> None:
    study = desk.ready()
    judged(desk, study)
    desk.clock.forward(2 * 3600)
    assert counted(desk, hours=2) == {}
    assert counted(desk, hours=4) == {("AGREE", "PNEUMONIA"): 1}
    judged(desk, study, verdict=Verdict.DISAGREE, label=Label.NORMAL)
    assert counted(desk, hours=4) == {("DISAGREE", "NORMAL"): 1}


def test_verdicts_stay_when_a_study_is_done_again(desk: Desk) -> None:
    study = desk.ready()
    judged(desk, study)
    desk.do(ledger.requeue, study, desk.clock())
    desk.classify(new=ledger.NewFinding(assessed=False, reason="NOT_CHEST"))
    assert desk.one(FindingRow).finding is None
    assert [row.finding for row in desk.all(VerdictRow)] == ["PRESENT"]
    assert not judged(desk, study), "nobody has seen this answer"


def test_no_verdict_is_saved_on_what_is_not_there_or_of_another_study(desk: Desk) -> None:
    study, other = desk.ready(), desk.ready()
    uid = desk.all(Instance)[0].sop_instance_uid
    new = ledger.NewVerdict(uid, 1, Finding.PRESENT, Verdict.UNSURE, None, "", "anna")
    for where, what in (
        (other, new),
        ("1.2.3", new),
        (study, replace(new, model_id=2)),
        (study, replace(new, finding=None)),
        (study, replace(new, sop_instance_uid="1.2.3")),
    ):
        assert not desk.do(ledger.save_verdict, where, what, NOON)
    assert desk.do(ledger.save_verdict, study, new, NOON)
    assert len(desk.all(VerdictRow)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "MAYBE"},
        {"label": "HEALTHY"},
        {"verdict": "UNSURE"},
        {"label": None},
        {"instance_id": 99},
    ],
)
def test_the_database_refuses_a_verdict_that_cannot_be(desk: Desk, wrong: dict[str, Any]) -> None:
    judged(desk, desk.ready())
    with pytest.raises(IntegrityError):
        desk.do(lambda session: session.execute(update(VerdictRow).values(**wrong)))


# --- what goes with a study ------------------------------------------------------------------


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Attic]:
    with light_reports():
        yield Attic(tmp_path, sessions, CXR_KEEP_RESULTS_DAYS="30", CXR_KEEP_IMAGES_DAYS="10",
                    CXR_KEEP_REPORTS_DAYS="10")  # fmt: skip


def judge_all(ward: Attic) -> None:
    studies = {row.id: row.study_instance_uid for row in ward.all(Study)}
    for row in ward.findings():
        with ward.sessions() as session, session.begin():
            instance = session.get_one(Instance, row.instance_id)
            new = ledger.NewVerdict(
                instance.sop_instance_uid, row.model_id, row.finding, Verdict.UNSURE, None, "", "a"
            )
            study = studies[instance.study_id]
            assert ledger.save_verdict(session, study, new, ward.clock())


def test_erasing_a_study_takes_its_verdicts_at_once(ward: Attic) -> None:
    erased, kept = ward.tell(2), ward.tell()
    judge_all(ward)
    assert len(ward.all(VerdictRow)) == 3
    found = erasing.find(ward.desk, study=erased)
    list(
        erasing.erase(
            ward.desk, found, "somebody", "by request", ward.write_down, even_if_owed=False
        )
    )
    assert len(ward.all(VerdictRow)) == 1
    assert [row.study_instance_uid for row in ward.all(Study)] == [kept]


def test_verdicts_stay_with_the_results_and_go_with_them(ward: Attic) -> None:
    ward.tell()
    judge_all(ward)
    ward.clock.forward(15 * DAY)
    ward.turn()
    assert ward.files() == set()
    assert len(ward.all(VerdictRow)) == 1
    ward.clock.forward(20 * DAY)
    ward.turn()
    assert (ward.all(VerdictRow), ward.all(Study)) == ([], [])


@pytest.mark.parametrize(("version", "left"), [(0, 1), (1, 0)])
def test_verdicts_stand_for_the_same_bytes_alone(ward: Attic, version: int, left: int) -> None:
    """An image that was removed may come again, as it was or as another."""
    study = ward.tell()
    judge_all(ward)
    ward.clock.forward(15 * DAY)
    ward.turn()
    assert ward.store(study, f"{study}.1", version) == 0
    assert len(ward.all(VerdictRow)) == left
