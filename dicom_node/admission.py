"""Which associations are taken, as it is told: a line of the log, and an event for who counts."""

from __future__ import annotations

import logging
from typing import Any

from dicom_node.serving import who
from dicom_node.watch import Rejection, Watch

log = logging.getLogger(__name__)

# As many associations as a node takes that is about to end: the rest is rejected as transient.
STOPPING = 0

# PS3.8 Table 9-21: source and diagnostic of a rejection -> what it is, and what to look at.
_REJECTIONS = {
    (1, 3): (
        Rejection.CALLING_AE_TITLE, "CXR_ALLOWED_AE_TITLES does not have the calling AE title",
    ),
    (1, 7): (Rejection.CALLED_AE_TITLE, "the called AE title is not ours"),
    (3, 2): (Rejection.TOO_MANY, "as many are open as CXR_MAX_ASSOCIATIONS allows"),
}  # fmt: skip


def on_accepted(event: Any, watch: Watch) -> None:
    """Tell of an accepted association (``EVT_ACCEPTED``)."""
    log.info("association accepted: %s", who(event.assoc))
    watch.accepted()


def on_rejected(event: Any, watch: Watch) -> None:
    """Tell of a rejected association (``EVT_REJECTED``), and of the setting behind it."""
    answer = event.assoc.acceptor.primitive
    diagnosis = (answer.result_source, answer.diagnostic)
    reason, why = _REJECTIONS.get(diagnosis, (Rejection.OTHER, answer.reason_str))
    if event.assoc.ae.maximum_associations == STOPPING:
        reason, why = Rejection.STOPPING, "the node is about to end"
    log.warning("association rejected: %s: %s", who(event.assoc), why)
    watch.rejected(reason)
