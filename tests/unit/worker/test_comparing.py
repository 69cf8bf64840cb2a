"""A candidate beside the model in use: what is counted, and against whom it is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.fakes import Clock
from tests.ledgers import Desk
from worker import ledger
from worker.comparing import BARS, NOT_ASSESSED, Comparison, Measured, compare
from worker.ledger import NewFinding, candidates
from worker.ledger.candidates import Artifact
from worker.shadowing import LEASE
from worker.states import Finding
from worker.tables import Instance, Study
from worker.telling_models import comparison_lines
from worker.verdicts import Says, judge

PRESENT, ABSENT, UNDETERMINED = Finding.PRESENT, Finding.ABSENT, Finding.UNDETERMINED
SCORES = {PRESENT: 0.9, UNDETERMINED: 0.5, ABSENT: 0.1}


def says(finding: Finding | None) -> NewFinding:
    if finding is None:
        return NewFinding(assessed=False, reason="NOT_CHEST")
    return NewFinding(assessed=True, finding=finding, pneumonia=SCORES[finding])


@dataclass
class Trial:
    """A ledger where a model in use and a candidate answer what a test says."""

    desk: Desk
    model: int = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.desk.model()

    def begin(self, digest: str = "e" * 64) -> None:
        tried = Artifact("m", "2", digest, "m-2")
        self.desk.do(candidates.begin_trial, tried, self.desk.clock())

    def both(self, live: Finding | None, tried: Finding | None, *read: Says) -> str:
        """Have an image answered by both, and judged by readers; give its study's UID."""
        desk = self.desk
        desk.receive()
        desk.classify(says(live), self.model)
        desk.clock.forward(60)
        row = desk.all(Instance)[-1]
        uid = str({each.id: each.study_instance_uid for each in desk.all(Study)}[row.study_id])
        for number, word in enumerate(read):
            said = judge(live, word)
            new = ledger.NewVerdict(
                row.sop_instance_uid, self.model, live, said.verdict, said.label, "", f"r{number}"
            )
            assert desk.do(ledger.save_verdict, uid, new, desk.clock())
        self.tried(tried)
        return uid

    def tried(self, finding: Finding | None) -> None:
        desk, now = self.desk, self.desk.clock()
        limits = (candidates.SETTLED, LEASE, 4)
        trial = desk.do(candidates.claim_trial, now, *limits)
        found = {each.instance_id: says(finding) for each in trial.answers}
        assert desk.do(candidates.save_shadows, trial, found, now)

    def compared(self) -> Comparison:
        found = self.desk.do(compare)
        assert isinstance(found, Comparison)
        return found


@pytest.fixture
def trial(sessions: sessionmaker[Session]) -> Trial:
    return Trial(Desk(sessions, Clock()))


def test_without_a_candidate_nothing_is_compared(trial: Trial) -> None:
    assert trial.desk.do(compare) is None
    trial.begin()
    found = trial.compared()
    assert (found.count, found.same, found.differences, found.behind) == (0, None, None, 0)
    assert "It has seen no image yet." in list(comparison_lines(found))


def test_what_both_say_is_counted_by_what_each_says(trial: Trial) -> None:
    trial.begin()
    for live, tried in (
        (PRESENT, PRESENT), (PRESENT, ABSENT), (ABSENT, ABSENT), (ABSENT, UNDETERMINED),
        (None, None), (None, PRESENT),
    ):  # fmt: skip
        trial.both(live, tried)
    found = trial.compared()
    assert found.count == 6
    assert found.table[PRESENT, ABSENT] == found.table[NOT_ASSESSED, PRESENT] == 1
    assert found.table[NOT_ASSESSED, NOT_ASSESSED] == 1
    assert found.same is not None
    assert (found.same.part, found.same.whole) == (3, 6)
    assert found.same.interval == pytest.approx((0.188, 0.812), abs=0.001)


def test_the_scores_of_both_are_set_against_each_other(trial: Trial) -> None:
    trial.begin()
    for live, tried in ((ABSENT, PRESENT), (PRESENT, ABSENT), (ABSENT, ABSENT), (None, PRESENT)):
        trial.both(live, tried)
    found = trial.compared().differences
    assert found is not None
    assert found.count == 3
    assert (found.low, found.median, found.high) == pytest.approx((-0.8, 0, 0.8))
    assert sum(found.bars) == 3
    assert len(found.bars) == BARS
    assert found.bars[BARS // 2] == 1


def test_both_are_measured_against_what_readers_see(trial: Trial) -> None:
    trial.begin()
    trial.both(PRESENT, ABSENT, Says.AGREE)
    trial.both(PRESENT, PRESENT, Says.AGREE)
    trial.both(PRESENT, ABSENT, Says.DISAGREE)
    trial.both(ABSENT, ABSENT, Says.AGREE, Says.AGREE)
    trial.both(ABSENT, PRESENT, Says.AGREE, Says.DISAGREE)  # they contradict each other
    trial.both(ABSENT, PRESENT, Says.UNSURE)
    trial.both(UNDETERMINED, PRESENT, Says.PNEUMONIA)
    trial.both(ABSENT, ABSENT)
    found = trial.compared()
    assert found.judged == 5

    def parts(of: Measured) -> list[tuple[int, int]]:
        return [(each.part, each.whole) for each in (of.sensitivity, of.specificity) if each]

    assert parts(found.live) == [(2, 2), (1, 2)]
    assert parts(found.tried) == [(2, 3), (2, 2)]


def test_studies_of_which_they_say_different_things_are_listed_the_newest_first(
    trial: Trial,
) -> None:
    trial.begin()
    trial.both(PRESENT, PRESENT)
    first = trial.both(PRESENT, ABSENT)
    trial.both(None, None)
    second = trial.both(None, UNDETERMINED)
    found = trial.compared()
    assert [row.study_instance_uid for row in found.disagreed] == [second, first]
    told = "\n".join(comparison_lines(found))
    assert f"{second}  NOT_ASSESSED, UNDETERMINED" in told
    assert "same answer: 50.0%" in told


def test_a_trial_that_is_over_is_compared_until_another_begins(trial: Trial) -> None:
    trial.begin()
    trial.both(PRESENT, ABSENT)
    trial.desk.do(candidates.end_trial, trial.desk.clock())
    assert (trial.compared().count, trial.compared().until) == (1, trial.desk.clock())
    trial.desk.clock.forward(1)
    trial.begin("f" * 64)
    assert trial.compared().count == 0


def test_what_a_candidate_has_still_to_look_at_is_told(trial: Trial) -> None:
    trial.begin()
    trial.both(PRESENT, PRESENT)
    for _ in range(3):
        trial.desk.receive()
    trial.desk.classify(says(ABSENT), trial.model)
    assert trial.compared().behind == 3
