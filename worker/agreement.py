"""How often readers agree with the models: by model and month, with what that says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row
from sqlalchemy.orm import Session

from model.metrics import wilson
from worker.ledger.verdicts import count_verdicts
from worker.states import Finding, Label, Verdict


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with its 95 % interval (Wilson)."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.part / self.whole

    @property
    def interval(self) -> tuple[float, float]:
        """Where it lies, in [0, 1]."""
        low, high = wilson(self.part, self.whole)
        return low, high


@dataclass(slots=True)
class Tally:
    """Verdicts, counted."""

    rows: list[Row[Any]] = field(default_factory=list)

    def count(self, verdict: Verdict | None = None) -> int:
        """Count the verdicts of a kind, or all."""
        return sum(row.number for row in self.rows if verdict in (None, row.verdict))

    @property
    def agreement(self) -> Share | None:
        """How many agree, of those who agree or disagree."""
        agree, disagree = self.count(Verdict.AGREE), self.count(Verdict.DISAGREE)
        return _share(agree, agree + disagree)

    @property
    def sensitivity(self) -> Share | None:
        """How many pneumonias of the readers the model found, of those that it answered."""
        return self._found(Finding.PRESENT, ill=True)

    @property
    def specificity(self) -> Share | None:
        """How many images without pneumonia the model found so, of those that it answered."""
        return self._found(Finding.ABSENT, ill=False)

    def _found(self, right: Finding, *, ill: bool) -> Share | None:
        counts: dict[str, int] = defaultdict(int)
        for row in self.rows:
            if row.label and (row.label != Label.NORMAL) is ill:
                counts[row.finding] += row.number
        return _share(counts[right], counts[Finding.PRESENT] + counts[Finding.ABSENT])


class Month(NamedTuple):
    """A month of this machine's time zone; `until` is not included."""

    since: datetime
    until: datetime

    def __str__(self) -> str:
        """Give it as 2026-11."""
        return f"{self.since:%Y-%m}"


@dataclass(slots=True)
class OfModel:
    """The verdicts about one model's answers: all of the time, and month by month."""

    name: str
    whole: Tally = field(default_factory=Tally)
    months: dict[Month, Tally] = field(default_factory=dict)


def agreement(session: Session, now: datetime, months: int) -> Sequence[OfModel]:
    """Count the verdicts of the last months, this one included: by model, the newest first."""
    models: dict[int, OfModel] = {}
    for month in last_months(now, months):
        for row in count_verdicts(session, month.since, month.until):
            of = models.setdefault(row.id, OfModel(f"{row.name} {row.version}"))
            of.whole.rows.append(row)
            of.months.setdefault(month, Tally()).rows.append(row)
    return [models[id_] for id_ in sorted(models, reverse=True)]


def last_months(now: datetime, count: int) -> Iterator[Month]:
    """Give the last months, the newest first."""
    here = now.astimezone()
    newest = here.year * 12 + here.month - 1
    for number in range(newest, newest - count, -1):
        yield Month(_begin(number), _begin(number + 1))


def _begin(number: int) -> datetime:
    return datetime(number // 12, number % 12 + 1, 1).astimezone()


def _share(part: int, whole: int) -> Share | None:
    return Share(part, whole) if whole else None
