"""DIMSE statuses by name, each with its clause, and what to do about them."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The statuses that this node answers or meets by name.

    References
    ----------
    DICOM PS3.7 Annex C; PS3.4 B.2.3 (C-STORE)
    """

    SUCCESS = 0x0000  # PS3.7 Annex C
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 Annex C
    NO_SUCH_INSTANCE = 0x0112  # PS3.7 Annex C
    NO_SUCH_EVENT_TYPE = 0x0113  # PS3.7 Annex C
    NO_SUCH_ARGUMENT = 0x0114  # PS3.7 Annex C
    NO_SUCH_ACTION = 0x0123  # PS3.7 Annex C
    DUPLICATE_TRANSACTION = 0x0131  # PS3.3 C.14.1.1, a failure reason of Storage Commitment
    CLASS_INSTANCE_CONFLICT = 0x0119  # PS3.7 Annex C
    DUPLICATE_INSTANCE = 0x0111  # PS3.7 Annex C
    DUPLICATE_INVOCATION = 0x0210  # PS3.7 Annex C
    INVALID_ARGUMENT = 0x0115  # PS3.7 Annex C
    INVALID_INSTANCE = 0x0117  # PS3.7 Annex C
    MISTYPED_ARGUMENT = 0x0212  # PS3.7 Annex C
    NO_SUCH_CLASS = 0x0118  # PS3.7 Annex C
    PROCESSING_FAILURE = 0x0110  # PS3.7 Annex C
    RESOURCE_LIMITATION = 0x0213  # PS3.7 Annex C
    UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 Annex C
    NOT_AUTHORIZED = 0x0124  # PS3.7 Annex C
    OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
    DOES_NOT_MATCH_SOP_CLASS = 0xA900  # PS3.4 Table B.2-1
    CANNOT_UNDERSTAND = 0xC000  # PS3.4 Table B.2-1
    # In the same range, so that a peer's log can tell them apart (PS3.4 B.2.3, Cxxx).
    OTHER_BYTES_UNDER_THIS_UID = 0xC010
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122  # PS3.18 Table I.2-2
    COERCION = 0xB000  # PS3.4 Table B.2-1
    ELEMENTS_DISCARDED = 0xB006  # PS3.4 Table B.2-1
    WARNING_DOES_NOT_MATCH_SOP_CLASS = 0xB007  # PS3.4 Table B.2-1


_WORDS: dict[int, str] = {
    Status.SUCCESS: "success",
    Status.SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    Status.CLASS_INSTANCE_CONFLICT: "class-instance conflict",
    Status.DUPLICATE_INSTANCE: "duplicate SOP instance",
    Status.DUPLICATE_INVOCATION: "duplicate invocation",
    Status.INVALID_ARGUMENT: "invalid argument value",
    Status.INVALID_INSTANCE: "invalid SOP instance",
    Status.MISTYPED_ARGUMENT: "mistyped argument",
    Status.NO_SUCH_CLASS: "no such SOP class",
    Status.NO_SUCH_INSTANCE: "no such SOP instance",
    Status.NO_SUCH_EVENT_TYPE: "no such event type",
    Status.NO_SUCH_ARGUMENT: "no such argument",
    Status.NO_SUCH_ACTION: "no such action",
    Status.DUPLICATE_TRANSACTION: "duplicate transaction UID",
    Status.PROCESSING_FAILURE: "processing failure",
    Status.RESOURCE_LIMITATION: "resource limitation",
    Status.UNRECOGNIZED_OPERATION: "unrecognized operation",
    Status.NOT_AUTHORIZED: "not authorized",
    Status.OTHER_BYTES_UNDER_THIS_UID: "the same UID was stored before with other content",
    Status.COERCION: "stored, with coercion of data elements",
    Status.ELEMENTS_DISCARDED: "stored, with elements discarded",
    Status.WARNING_DOES_NOT_MATCH_SOP_CLASS: "stored, though it does not match its SOP class",
}

# PS3.4 B.2.3: the ranges of the Storage Service, as (mask, value, words).
_RANGES: tuple[tuple[int, int, str], ...] = (
    (0xFF00, 0xA700, "out of resources"),
    (0xFF00, 0xA900, "the data set does not match its SOP class"),
    (0xF000, 0xC000, "cannot understand"),
    (0xF000, 0xB000, "stored, with a warning"),
    (0xFF00, 0x0100, "refused"),
    (0xFF00, 0x0200, "refused"),
)


def _matches(status: int, mask: int, value: int) -> bool:
    return status & mask == value


def describe(status: int) -> str:
    """Say a status in words, with its number.

    Parameters
    ----------
    status : int
        A DIMSE status, such as ``0xA700``.
    """
    words = _WORDS.get(status) or next(
        (words for mask, value, words in _RANGES if _matches(status, mask, value)), "unknown status"
    )
    return f"{words} (0x{status:04X})"


def is_success(status: int) -> bool:
    """Tell whether the instance is stored: Success, or a warning (0xBxxx, PS3.4 B.2.3)."""
    return status == Status.SUCCESS or _matches(status, 0xF000, 0xB000)


def is_permanent(status: int) -> bool:
    """Tell whether the same instance would be refused again.

    0xA9xx and 0xCxxx concern the data set (PS3.4 B.2.3); 0x01xx and 0x02xx the request
    (PS3.7 Annex C), save a resource limitation, which passes. 0xA7xx, and what the standard does
    not know, are worth another try.
    """
    if status == Status.RESOURCE_LIMITATION:
        return False
    permanent = ((0xFF00, 0xA900), (0xF000, 0xC000), (0xFF00, 0x0100), (0xFF00, 0x0200))
    return any(_matches(status, mask, value) for mask, value in permanent)
