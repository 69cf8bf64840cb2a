"""What the node counts of its associations and of what comes by them."""

from __future__ import annotations

from pydicom.uid import UID

from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.status import Status
from dicom_node.watch import Rejection, Watch
from worker import metrics
from worker.metrics import Stage

# What a peer says may be anything.
_SOP_CLASSES = {str(uid): UID(uid).keyword for uid in STORAGE_SOP_CLASSES}
OTHER = "Other"
# What a C-STORE request may be answered with here.
_ANSWERS = (
    Status.SUCCESS,
    Status.OUT_OF_RESOURCES,
    Status.DOES_NOT_MATCH_SOP_CLASS,
    Status.CANNOT_UNDERSTAND,
    Status.OTHER_BYTES_UNDER_THIS_UID,
    Status.SOP_CLASS_NOT_SUPPORTED,
)


def sop_class_word(sop_class_uid: str) -> str:
    """Name a SOP class by a word of a closed list."""
    return _SOP_CLASSES.get(sop_class_uid, OTHER)


def _shown(status: int) -> str:
    return f"0x{status:04X}"


class CountingWatch(Watch):
    """Counts what a node does."""

    def __init__(self) -> None:
        metrics.expect(metrics.ACCEPTED)
        for status in _ANSWERS:
            metrics.expect(metrics.RESPONSES, status=_shown(status))
        for why in Rejection:
            metrics.expect(metrics.REJECTED, reason=why)

    def accepted(self) -> None:
        """Count an association."""
        metrics.count(metrics.ACCEPTED)

    def rejected(self, why: Rejection) -> None:
        """Count an association that was not taken."""
        metrics.count(metrics.REJECTED, reason=why)

    def stored(self, sop_class_uid: str, status: int, seconds: float) -> None:
        """Count an answer to a C-STORE request."""
        count_stored(sop_class_uid, status, seconds)


def count_stored(sop_class_uid: str, status: int, seconds: float) -> None:
    """Count what was stored, or was not, however it came."""
    metrics.observe(metrics.STAGE_SECONDS, seconds, stage=Stage.STORE)
    metrics.count(metrics.RESPONSES, status=_shown(status))
    if status == Status.SUCCESS:
        metrics.count(metrics.RECEIVED, sop_class=sop_class_word(sop_class_uid))
