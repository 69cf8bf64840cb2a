"""Who was told at once of a study, for whoever asks: people read words, programs a record.

What is said is from the ledger alone. It has the name of a target and no address, so that nothing
secret of one can be shown; its words are those of `worker.webhook` and `worker.hl7`, which repeat
neither the address nor what was answered. The audit trail has the address of each try.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Row

from worker.states import Finding, NoticeKind, NoticeState

# How a target is called in a sentence.
NAMES: Final = {"webhook": "webhook", "hl7": "HL7"}


def kind_of(notice: Row[Any]) -> NoticeKind:
    """Say whether a notice is the first that its target hears of the study."""
    is_new = notice.finding == Finding.PRESENT and not notice.corrects
    return NoticeKind.NEW if is_new else NoticeKind.CORRECTION


def may_have_arrived(notice: Row[Any]) -> bool:
    """Tell whether its target may know of it, whatever became of the notice then."""
    return bool(notice.attempts or notice.state == NoticeState.SENT)


def answer_of(notice: Row[Any]) -> str | None:
    """Give the last answer, or what went wrong last; None when there was neither.

    What is in the way before a target is called is told by the job, which is there as long as the
    notice is owed or given up, and not by the notice.
    """
    in_the_way: str | None = notice.last_error
    answered: str | None = notice.last_answer
    return in_the_way or answered


def state_of(notice: Row[Any]) -> str:
    """Say where a notice stands, and whether it may be known all the same."""
    if notice.state == NoticeState.SENT:
        return "acknowledged"
    words = _WORDS[NoticeState(notice.state)]
    if notice.state == NoticeState.PENDING and answer_of(notice) is None and not notice.tries:
        words = "to be sent"
    return f"{words}; may have arrived" if may_have_arrived(notice) else words


_WORDS: Final = {
    NoticeState.PENDING: "not acknowledged yet, is tried again",
    NoticeState.SUPERSEDED: "withdrawn, not needed any more",
    NoticeState.FAILED: "given up",
    NoticeState.DISCARDED: "discarded",
}


def notice_record(notice: Row[Any], revisions: Mapping[int, int]) -> dict[str, Any]:
    """Give the JSON of a notice.

    Parameters
    ----------
    revisions
        Of the study's reports, by their ids.
    """
    return {
        "target": notice.target,
        "message_id": notice.message_id,
        "kind": kind_of(notice),
        "finding": notice.finding,
        "revision": revisions.get(notice.report_id),
        "state": notice.state,
        "tries": notice.tries,
        "may_have_arrived": may_have_arrived(notice),
        "owed_at": notice.owed_at.isoformat(),
        "acknowledged_at": notice.sent_at and notice.sent_at.isoformat(),
        "answer": answer_of(notice),
    }
