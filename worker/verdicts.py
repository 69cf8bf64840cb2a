"""What a reader may say of an answer, and what it means: a verdict, and a label for the image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from worker.states import Finding, Label, Verdict


class Says(StrEnum):
    """What a reader says, by one key or button."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"
    PNEUMONIA = "pneumonia"
    NORMAL = "no pneumonia"

    @property
    def key(self) -> str:
        """The key that says it: its first letter."""
        return self.value[0]


class NotAnAnswer(Exception):
    """What was said cannot be said of this finding."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reader's words come to."""

    verdict: Verdict
    label: Label | None


_DOES: Final = {
    Verdict.AGREE: "agrees", Verdict.DISAGREE: "disagrees", Verdict.UNSURE: "is unsure",
    Verdict.STATED: "states",
}  # fmt: skip
LABEL_WORDS: Final = {
    Label.NORMAL: "no pneumonia", Label.PNEUMONIA: "pneumonia",
    Label.BACTERIAL: "bacterial pneumonia", Label.VIRAL: "viral pneumonia",
}  # fmt: skip

# Who agrees says that what was found is there, or is not. Nobody can agree with what leaves it
# open: of that a reader says what they see.
_MEANS: Final = {
    Finding.PRESENT: {
        Says.AGREE: Judged(Verdict.AGREE, Label.PNEUMONIA),
        Says.DISAGREE: Judged(Verdict.DISAGREE, Label.NORMAL),
    },
    Finding.ABSENT: {
        Says.AGREE: Judged(Verdict.AGREE, Label.NORMAL),
        Says.DISAGREE: Judged(Verdict.DISAGREE, Label.PNEUMONIA),
    },
}
_OPEN: Final = {
    Says.PNEUMONIA: Judged(Verdict.STATED, Label.PNEUMONIA),
    Says.NORMAL: Judged(Verdict.STATED, Label.NORMAL),
}
_ALWAYS: Final = {Says.UNSURE: Judged(Verdict.UNSURE, None)}
KINDS: Final = (Label.BACTERIAL, Label.VIRAL)


def choices(finding: str | None) -> dict[Says, Judged]:
    """Give what may be said of a finding, with what it means; None is that it was not assessed."""
    return _MEANS.get(Finding(finding), _OPEN) | _ALWAYS if finding else _OPEN | _ALWAYS


def judge(finding: str | None, says: Says, kind: Label | None = None) -> Judged:
    """Tell what a reader's words come to.

    Parameters
    ----------
    kind
        Of the pneumonia, if they see one; it says nothing otherwise.

    Raises
    ------
    NotAnAnswer
        When it cannot be said of this finding.
    """
    given = choices(finding).get(says)
    if given is None:
        raise NotAnAnswer(f"{says.value} says nothing of this finding")
    if given.label is Label.PNEUMONIA and kind in KINDS:
        return Judged(given.verdict, kind)
    return given


def sentence(row: Any) -> str:
    """Say a row of `verdicts` in words, such as `anna disagrees: no pneumonia`."""
    seen = f": {LABEL_WORDS[Label(row.label)]}" if row.label else ""
    return f"{row.person} {_DOES[Verdict(row.verdict)]}{seen}"
