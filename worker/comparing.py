"""A candidate beside the model in use: what both say of the same images, and who is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.orm import Session

from worker.agreement import Share
from worker.consensus import agreed
from worker.ledger import candidates
from worker.ledger.candidates import Artifact
from worker.states import Finding, Label

# What is read of a trial: a comparison of more says nothing else.
MOST: Final = 50_000
SHOWN: Final = 100
NOT_ASSESSED: Final = "NOT_ASSESSED"
# What a model may say, in the order of the table.
OUTCOMES: Final = (*Finding, NOT_ASSESSED)
# Bars of the score differences, from -1 to 1.
BARS: Final = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """One model against readers; None where they judged nothing that it answered."""

    sensitivity: Share | None
    specificity: Share | None


@dataclass(frozen=True, slots=True)
class Differences:
    """How much higher the candidate's scores are, where both have one.

    Attributes
    ----------
    bars : sequence of int
        How many lie in each of `BARS` parts of [-1, 1], the least first.
    median, low, high : float
        Half lie below the median, 90 % between low and high.
    """

    count: int
    bars: Sequence[int]
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate beside the model in use.

    Attributes
    ----------
    table : mapping
        Counts by what the model in use says and what the candidate says, of `OUTCOMES`.
    is_cut
        Whether there were more images than are compared.
    judged
        Images that readers agree about.
    live, tried
        The model in use and the candidate against those.
    disagreed
        The newest images of which they say different things, with their studies' UIDs.
    behind
        Answers that the candidate is still to look at.
    """

    model: Artifact
    since: datetime
    until: datetime | None
    last_error: str | None
    count: int
    is_cut: bool
    first_at: datetime | None
    last_at: datetime | None
    table: Mapping[tuple[str, str], int]
    same: Share | None
    differences: Differences | None
    judged: int
    live: Measured
    tried: Measured
    disagreed: Sequence[Row[Any]]
    behind: int
    live_models: int


def compare(session: Session) -> Comparison | None:
    """Compare the candidate, or the last one, with the model in use; None when there was none."""
    trial = candidates.last_candidate(session)
    if trial is None:
        return None
    found = candidates.compared(session, trial, MOST + 1)
    rows, times = found[:MOST], [row.created_at for row in found[:MOST]]
    table = Counter((outcome(row.live_finding), outcome(row.finding)) for row in rows)
    same = sum(count for (live, tried), count in table.items() if live == tried)
    truth = _truth(candidates.judged_of_trial(session, trial))
    return Comparison(
        model=candidates.artifact_of(trial),
        since=trial.since,
        until=trial.until,
        last_error=trial.last_error,
        count=len(rows),
        is_cut=len(found) > MOST,
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        table=table,
        same=_share(same, len(rows)),
        differences=_differences(rows),
        judged=sum(row.instance_id in truth for row in rows),
        live=_measured(rows, truth, lambda row: row.live_finding),
        tried=_measured(rows, truth, lambda row: row.finding),
        disagreed=candidates.disagreed(session, trial, SHOWN),
        behind=0 if trial.until else candidates.count_unseen(session, trial, MOST),
        live_models=len({row.live_model_id for row in rows}),
    )


def outcome(finding: str | None) -> str:
    """Give what a model said; that it assessed nothing is a thing too."""
    return finding or NOT_ASSESSED


def _truth(verdicts: Iterable[Row[Any]]) -> dict[int, bool]:
    """Give whether there is a pneumonia, by instance, where readers say so and none contradicts."""
    found, _ = agreed(verdicts, 1)
    return {each.image.instance_id: each.label is not Label.NORMAL for each in found}


def _measured(
    rows: Sequence[Row[Any]], truth: Mapping[int, bool], said: Callable[[Row[Any]], str | None]
) -> Measured:
    counts = Counter(
        (truth[row.instance_id], said(row)) for row in rows if row.instance_id in truth
    )

    def share(right: Finding, *, ill: bool) -> Share | None:
        whole = counts[ill, Finding.PRESENT] + counts[ill, Finding.ABSENT]
        return _share(counts[ill, right], whole)

    return Measured(share(Finding.PRESENT, ill=True), share(Finding.ABSENT, ill=False))


def _differences(rows: Sequence[Row[Any]]) -> Differences | None:
    scored = (row for row in rows if row.pneumonia is not None and row.live_pneumonia is not None)
    found = sorted(row.pneumonia - row.live_pneumonia for row in scored)
    if not found:
        return None
    bars = Counter(min(BARS - 1, max(0, int((each + 1) * BARS / 2))) for each in found)
    return Differences(
        len(found), [bars[number] for number in range(BARS)],
        *(_quantile(found, share) for share in (0.5, 0.05, 0.95)),
    )  # fmt: skip


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _share(part: int, whole: int) -> Share | None:
    return Share(part, whole) if whole else None
