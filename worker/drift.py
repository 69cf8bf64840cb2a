"""Whether the images of a time are like those of an earlier one, or like those of the training.

References
----------
Siddiqi, Credit Risk Scorecards, 2006: the Population Stability Index and its rule of thumb.
Smirnov, Annals of Mathematical Statistics 19, 1948: two samples compared by their distributions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy.orm import Session

from worker.ledger.populations import Image, population

# Fewer images than that, in either time, say nothing.
FEWEST: Final = 100
# What is read of a time: the newest.
MOST: Final = 50_000
BINS: Final = 10
# The rule of thumb for the PSI: below the first little has changed, from the second on much.
SOME, MUCH = 0.1, 0.25
# How unlikely a Kolmogorov-Smirnov statistic must be, by chance alone, to be called a change.
UNLIKELY: Final = 0.01
# Of a distribution of many values, those are named whose share changed most.
NAMED: Final = 5


class Change(StrEnum):
    """What the rule of thumb says."""

    LITTLE = "little"
    SOME = "some"
    MUCH = "much"


@dataclass(frozen=True, slots=True)
class Window:
    """A time; `until` is not included."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Shift:
    """A value whose share changed: from, and to, in [0, 1]."""

    value: str
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How far something is distributed otherwise than before.

    Attributes
    ----------
    psi : float
        Population Stability Index.
    by_chance : float
        What it is on average where nothing has changed, as the images are so many only.
    shifts : sequence of Shift
        The values whose share changed most, the first by most.
    ks, p : float or None
        Kolmogorov-Smirnov statistic of the scores, and how likely one so large is by chance.
    """

    what: str
    psi: float
    by_chance: float
    shifts: Sequence[Shift]
    ks: float | None = None
    p: float | None = None

    @property
    def change(self) -> Change:
        """What the rule of thumb says, beyond what chance does."""
        beyond = self.psi - self.by_chance
        return Change.MUCH if beyond >= MUCH else Change.SOME if beyond >= SOME else Change.LITTLE

    @property
    def is_unlikely(self) -> bool:
        """Whether chance alone hardly makes the scores so different."""
        return self.p is not None and self.p < UNLIKELY


@dataclass(frozen=True, slots=True)
class Report:
    """The images of a time beside others; `drifts` is empty where they are too few."""

    before: int
    now: int
    drifts: Sequence[Drift]
    is_cut: bool = False

    @property
    def too_few(self) -> bool:
        """Whether nothing can be said."""
        return min(self.before, self.now) < FEWEST


def over_time(session: Session, model_id: int, window: Window, baseline: Window) -> Report:
    """Compare the images of a time with those of another one, as one model saw them."""
    now, more = population(session, model_id, window.since, window.until, MOST)
    before, earlier = population(session, model_id, baseline.since, baseline.until, MOST)
    is_cut = more or earlier
    if min(len(now), len(before)) < FEWEST:
        return Report(len(before), len(now), (), is_cut)
    return Report(len(before), len(now), list(_drifts(before, now)), is_cut)


def against_training(
    session: Session, model_id: int, window: Window, metrics: Mapping[str, Any]
) -> Report:
    """Compare the scores of a time with those of the held-out images that a model was measured on.

    Of those the artifact holds how many scores lie in each tenth, so there is a PSI alone.
    """
    rows, is_cut = population(session, model_id, window.since, window.until, MOST)
    scores = (row.pneumonia for row in rows if row.pneumonia is not None)
    now: Counter[Hashable] = Counter(map(_tenth, scores))
    before: Counter[Hashable] = Counter()
    for each in metrics.get("validation", {}).get("calibration", ()):
        before[_tenth(each["predicted"])] += each["count"]
    counts = before.total(), now.total()
    if min(counts) < FEWEST:
        return Report(*counts, (), is_cut)
    return Report(*counts, [_drift("score", before, now)], is_cut)


# --- what is compared ------------------------------------------------------------------------

_VALUES: Final[Mapping[str, Callable[[Image], Hashable]]] = {
    "answer": lambda row: row.finding or "NOT_ASSESSED",
    "reason for not assessed": lambda row: row.reason or "-",
    "flags": lambda row: ", ".join(sorted(row.flags)) or "-",
    "sender": lambda row: row.calling_ae_title,
    "modality": lambda row: row.modality,
    "SOP class": lambda row: row.sop_class_uid,
    "transfer syntax": lambda row: row.transfer_syntax_uid,
}


def _drifts(before: Sequence[Image], now: Sequence[Image]) -> Iterator[Drift]:
    scores = [
        [row.pneumonia for row in rows if row.pneumonia is not None] for rows in (before, now)
    ]
    if min(map(len, scores)) >= FEWEST:
        yield _of_scores(*scores)
    for what, value in _VALUES.items():
        yield _drift(what, Counter(map(value, before)), Counter(map(value, now)))


def _of_scores(before: Sequence[float], now: Sequence[float]) -> Drift:
    edges = _edges(before)

    def counted(scores: Iterable[float]) -> Counter[Hashable]:
        return Counter(sum(each > edge for edge in edges) for each in scores)

    found = _drift("score", counted(before), counted(now))
    bounds = [0.0, *edges, 1.0]
    named = [
        Shift(f"{bounds[int(s.value)]:.2f} to {bounds[int(s.value) + 1]:.2f}", s.before, s.now)
        for s in found.shifts
    ]
    ks = kolmogorov_smirnov(before, now)
    p = likelihood(ks, len(before), len(now))
    return Drift(found.what, found.psi, found.by_chance, named, ks, p)


def _edges(scores: Sequence[float]) -> list[float]:
    """Part scores into tenths of as many each; fewer where many are alike."""
    ordered = sorted(scores)
    return sorted({ordered[len(ordered) * number // BINS] for number in range(1, BINS)})


def _tenth(score: float) -> int:
    return min(BINS - 1, int(score * BINS))


# --- the measures ----------------------------------------------------------------------------


def _drift(what: str, before: Mapping[Hashable, int], now: Mapping[Hashable, int]) -> Drift:
    values = sorted({*before, *now}, key=str)
    shares = [
        Shift(str(value), *(_smoothed(counts, value, len(values)) for counts in (before, now)))
        for value in values
    ]
    psi = sum((each.now - each.before) * math.log(each.now / each.before) for each in shares)
    total_before, total_now = sum(before.values()), sum(now.values())
    by_chance = (len(values) - 1) * (1 / total_before + 1 / total_now)
    moved = sorted(shares, key=lambda each: -abs(each.now - each.before))
    return Drift(what, psi, by_chance, moved[:NAMED])


def _smoothed(counts: Mapping[Hashable, int], value: Hashable, values: int) -> float:
    """Give the share of a value, with half an image more of each, so that none is nothing."""
    return (counts.get(value, 0) + 0.5) / (sum(counts.values()) + 0.5 * values)


def kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the largest distance between two empirical distributions."""
    first, second = sorted(one), sorted(other)
    most, i, j = 0.0, 0, 0
    while i < len(first) and j < len(second):
        value = min(first[i], second[j])
        while i < len(first) and first[i] == value:
            i += 1
        while j < len(second) and second[j] == value:
            j += 1
        most = max(most, abs(i / len(first) - j / len(second)))
    return most


def likelihood(ks: float, one: int, other: int) -> float:
    """Give how likely such a distance is by chance, of samples of these sizes (asymptotic)."""
    effective = one * other / (one + other)
    scaled = ks * (math.sqrt(effective) + 0.12 + 0.11 / math.sqrt(effective))
    if scaled < 0.3:  # the series does not converge there, and it is 1 to 5 digits
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))
