"""What a program may ask for: filters and pages of studies, and the kinds of a report."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.listing import CURSOR_PATTERN, MOST, Criteria, Place
from worker.states import StudyState
from worker.worklist import Answer

# PS3.5 9.1: components without leading zeros.
UID_PATTERN: Final = r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*$"
_LONGEST_UID: Final = 64
# No control characters, as in the attributes themselves.
_WORD_PATTERN: Final = r"^[^\x00-\x1f\x7f]+$"
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def _time(value: Any) -> datetime:
    """Read a time of RFC 3339; beyond what a calendar in UTC holds, its end."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("must be a time of RFC 3339 with its offset, where + is written %2B")
    time = datetime.fromisoformat(value.upper())
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _FIRST if time.year == 1 else _LAST


def _no_default(schema: dict[str, Any]) -> None:
    """Say nothing of None, which is there for what was not asked for and cannot be asked for."""
    schema.pop("default", None)


_EXTRA: Any = _no_default
Uid = Annotated[str, Field(pattern=UID_PATTERN, max_length=_LONGEST_UID)]
Word = Annotated[str, Field(pattern=_WORD_PATTERN, max_length=256)]
Time = Annotated[datetime, BeforeValidator(_time)]
StudyUid = Annotated[
    str, Path(pattern=UID_PATTERN, max_length=_LONGEST_UID, description="Study Instance UID")
]


def _optional(description: str) -> Any:
    return Field(None, description=description, json_schema_extra=_EXTRA)


class Asked(BaseModel):
    """Which studies, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    study: Uid = _optional("Study Instance UID")
    accession: Word = _optional("accession number, exactly")
    patient_id: Word = _optional("Patient ID, exactly")
    state: StudyState = _optional("state of the study")
    answer: Answer = _optional("the most alarming answer of its images")
    since: Time = _optional("received at this time or later (RFC 3339)")
    until: Time = _optional("received before this time (RFC 3339)")
    limit: int = Field(50, ge=1, le=MOST, description="studies of a page, at most")
    cursor: Annotated[str, Field(pattern=CURSOR_PATTERN)] = _optional(
        "where the page begins: of `next` in the page before"
    )

    def criteria(self) -> Criteria:
        """Say what is looked for."""
        return Criteria(**self.model_dump(exclude={"limit", "cursor"}))

    def place(self) -> Place | None:
        """Say behind which study the page begins."""
        return Place.at(self.cursor) if self.cursor else None

    def given(self) -> dict[str, str]:
        """Give what was asked for, in words."""
        told = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        return {name: str(value) for name, value in told.items()}


def preferred(accept: str, offered: tuple[str, ...]) -> str | None:
    """Give the kind of answer that suits best; the first of those that suit alike.

    Parameters
    ----------
    accept
        The header; empty when anything suits.
    offered
        Media types. None is returned when none of them suits.

    References
    ----------
    RFC 9110 12.5.1
    """
    wishes = [_wish(each) for each in (accept or "*/*").lower().split(",")]
    best = max(offered, key=lambda kind: _weight(wishes, kind))
    return best if _weight(wishes, best) > 0 else None


def _wish(word: str) -> tuple[str, float]:
    kind, *parameters = (each.strip() for each in word.split(";"))
    weights = [each[2:] for each in parameters if each.startswith("q=")]
    is_number = bool(weights) and re.fullmatch(r"[01](\.[0-9]{0,3})?", weights[0]) is not None
    return kind, float(weights[0]) if is_number else 1.0


def _weight(wishes: list[tuple[str, float]], kind: str) -> float:
    """Give how much a kind is wished for; what names it most closely counts."""
    for named in (kind, kind.partition("/")[0] + "/*", "*/*"):
        if weights := [weight for wish, weight in wishes if wish == named]:
            return max(weights)
    return 0.0
