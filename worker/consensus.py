"""What readers say together about an image: each by their last verdict, all by what they share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row

from worker.states import Label
from worker.verdicts import KINDS

# Why an image gets no label.
UNSURE: Final = "readers are unsure"
CONTRADICTED: Final = "readers contradict each other"
TOO_FEW: Final = "too few readers agree"


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with what it shows; `image` is a row of `ledger.judged_since`."""

    image: Row[Any]
    label: Label


def agreed(rows: Iterable[Row[Any]], readers: int) -> tuple[Sequence[Labelled], Mapping[str, int]]:
    """Give the images that readers agree about, and how many are left out for which reason.

    Parameters
    ----------
    rows
        Verdicts, the first one first: of each reader the last about an image counts, whichever
        model's answer it was about.
    readers
        At least so many have to say what it shows.
    """
    last: dict[int, dict[str, Row[Any]]] = defaultdict(dict)
    for row in rows:
        last[row.instance_id][row.person] = row
    found: list[Labelled] = []
    left_out: Counter[str] = Counter()
    for given in last.values():
        labels = [Label(row.label) for row in given.values() if row.label]
        why = _why_not(labels, readers)
        if why:
            left_out[why] += 1
        else:
            found.append(Labelled(next(iter(given.values())), _shared(labels)))
    return found, left_out


def _why_not(labels: Sequence[Label], readers: int) -> str:
    if not labels:
        return UNSURE
    if len({label is Label.NORMAL for label in labels}) > 1:
        return CONTRADICTED
    return TOO_FEW if len(labels) < readers else ""


def _shared(labels: Sequence[Label]) -> Label:
    """Give what they share: a kind only where nobody who states one states the other."""
    if Label.NORMAL in labels:
        return Label.NORMAL
    kinds = {label for label in labels if label in KINDS}
    return kinds.pop() if len(kinds) == 1 else Label.PNEUMONIA
