"""States of a study and of owed work, and the one table of what may follow what."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    """Where a study stands; the words of ``cxr-worker results``."""

    RECEIVING = "RECEIVING"
    READY = "READY"
    REPORTED = "REPORTED"
    DELIVERED = "DELIVERED"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"
    DISCARDED = "DISCARDED"


class StudyEvent(StrEnum):
    """What may happen to a study."""

    STORED = "STORED"
    QUIET = "QUIET"
    REPORT_SAVED = "REPORT_SAVED"
    ALL_DELIVERED = "ALL_DELIVERED"
    ALL_COMMITTED = "ALL_COMMITTED"
    GIVEN_UP = "GIVEN_UP"
    REQUEUED = "REQUEUED"
    DELIVERY_OWED = "DELIVERY_OWED"
    WRITTEN_OFF = "WRITTEN_OFF"


_S, _E = StudyState, StudyEvent

# A pair that is not listed leaves the state as it is: events may come late or twice.
TRANSITIONS: dict[tuple[StudyState, StudyEvent], StudyState] = {
    (_S.RECEIVING, _E.QUIET): _S.READY,
    (_S.RECEIVING, _E.GIVEN_UP): _S.FAILED,
    (_S.RECEIVING, _E.WRITTEN_OFF): _S.DISCARDED,
    (_S.READY, _E.STORED): _S.RECEIVING,
    (_S.READY, _E.REPORT_SAVED): _S.REPORTED,
    (_S.READY, _E.GIVEN_UP): _S.FAILED,
    (_S.READY, _E.WRITTEN_OFF): _S.DISCARDED,
    (_S.REPORTED, _E.STORED): _S.RECEIVING,
    (_S.REPORTED, _E.ALL_DELIVERED): _S.DELIVERED,
    (_S.REPORTED, _E.GIVEN_UP): _S.FAILED,
    (_S.REPORTED, _E.REQUEUED): _S.RECEIVING,
    (_S.DELIVERED, _E.STORED): _S.RECEIVING,
    (_S.DELIVERED, _E.ALL_COMMITTED): _S.COMMITTED,
    (_S.DELIVERED, _E.DELIVERY_OWED): _S.REPORTED,
    (_S.DELIVERED, _E.REQUEUED): _S.RECEIVING,
    (_S.COMMITTED, _E.STORED): _S.RECEIVING,
    (_S.COMMITTED, _E.REQUEUED): _S.RECEIVING,
    (_S.FAILED, _E.STORED): _S.RECEIVING,
    (_S.FAILED, _E.REQUEUED): _S.RECEIVING,
    (_S.FAILED, _E.DELIVERY_OWED): _S.REPORTED,
    (_S.FAILED, _E.REPORT_SAVED): _S.REPORTED,
    (_S.FAILED, _E.ALL_DELIVERED): _S.DELIVERED,
    (_S.FAILED, _E.WRITTEN_OFF): _S.DISCARDED,
    (_S.DISCARDED, _E.STORED): _S.RECEIVING,
    (_S.DISCARDED, _E.REQUEUED): _S.RECEIVING,
}


def after(state: StudyState, event: StudyEvent) -> StudyState:
    """Give the state that follows `event` in `state`."""
    return TRANSITIONS.get((state, event), state)


class JobKind(StrEnum):
    """The steps a worker owes; the subject is an instance, study, delivery, delivery or notice."""

    CLASSIFY = "CLASSIFY"
    REPORT = "REPORT"
    DELIVER = "DELIVER"
    COMMIT = "COMMIT"
    NOTIFY = "NOTIFY"


class JobState(StrEnum):
    """Owed work: to be done when due, held by a worker, or given up for a person to see."""

    DUE = "DUE"
    LEASED = "LEASED"
    DEAD = "DEAD"


class DeliveryState(StrEnum):
    """Where one report stands at one destination."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    COMMITTED = "COMMITTED"
    SUPERSEDED = "SUPERSEDED"
    FAILED = "FAILED"
    DISCARDED = "DISCARDED"


class NoticeState(StrEnum):
    """Where one notice of a positive study stands; each is for one target."""

    PENDING = "PENDING"
    SENT = "SENT"
    SUPERSEDED = "SUPERSEDED"
    FAILED = "FAILED"
    DISCARDED = "DISCARDED"


class NoticeKind(StrEnum):
    """What a notice is to who hears it: news, or a correction of what they may have heard."""

    NEW = "NEW"
    CORRECTION = "CORRECTION"


# A destination has the report.
ARRIVED = frozenset({DeliveryState.DELIVERED, DeliveryState.COMMITTED})


class DecisionAction(StrEnum):
    """What a person may decide about a study."""

    REQUEUED = "REQUEUED"
    DISCARDED = "DISCARDED"


# The reason of an image that a model was never shown, as it was kept no longer.
REMOVED = "REMOVED"
# The reason of an image whose answer is withheld, as its study is known as another patient's.
ANOTHER_PATIENT = "ANOTHER_PATIENT"


class RemovalKind(StrEnum):
    """What is removed of a study: files of either kind, rows, or files that no row names."""

    IMAGES = "IMAGES"
    REPORTS = "REPORTS"
    RESULTS = "RESULTS"
    FILES = "FILES"


class RemovalCause(StrEnum):
    """Why something is removed: its age, the archive's size, a person's wish, no row names it."""

    AGE = "AGE"
    SPACE = "SPACE"
    ERASED = "ERASED"
    UNNAMED = "UNNAMED"


class CompanionKind(StrEnum):
    """What may go with a report to a destination that asks for it."""

    PICTURE = "PICTURE"
    KEY_OBJECT = "KEY_OBJECT"


class Finding(StrEnum):
    """Presence of pneumonia (DICOM PS3.16 CID 240 terms are the report's concern)."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    UNDETERMINED = "UNDETERMINED"


class Verdict(StrEnum):
    """What a reader thinks of a model's answer; where it gave none, what they state themselves."""

    AGREE = "AGREE"
    DISAGREE = "DISAGREE"
    UNSURE = "UNSURE"
    STATED = "STATED"


class Label(StrEnum):
    """What an image shows, as a reader says; a pneumonia's kind only where they say that too."""

    NORMAL = "NORMAL"
    PNEUMONIA = "PNEUMONIA"
    BACTERIAL = "BACTERIAL"
    VIRAL = "VIRAL"


class ModelAction(StrEnum):
    """A step in the life of a model; the last is one that nobody took."""

    USED = "USED"
    SHADOWED = "SHADOWED"
    WITHDRAWN = "WITHDRAWN"
    PROMOTED = "PROMOTED"
    ROLLED_BACK = "ROLLED_BACK"
    STOPPED = "STOPPED"
