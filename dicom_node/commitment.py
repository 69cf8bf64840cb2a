"""Storage Commitment Push Model: a peer answers for the instances that it was sent.

References
----------
DICOM PS3.4 Annex J; PS3.3 C.14
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt

from dicom_node.association import accepted, associated
from dicom_node.errors import PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.records import ALL_COMMITTED, FAILURES_EXIST, Commitment, Reference
from dicom_node.status import Status, describe, is_permanent, is_success

log = logging.getLogger(__name__)

PUSH_MODEL = "1.2.840.10008.1.20.1"  # PS3.4 J.3.4
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"  # PS3.4 J.3.5, a well-known instance

REQUEST_ACTION = 1  # PS3.4 Table J.3-1, Request Storage Commitment


def request_commitment(
    references: Sequence[Reference],
    peer: Peer,
    calling_ae_title: str,
    transaction_uid: str,
    *,
    timeout_s: float = 30.0,
    wait_s: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> Commitment | None:
    """Ask a peer to commit itself to instances (N-ACTION), on an association of its own.

    Parameters
    ----------
    references : sequence of Reference
        The instances; at least one.
    peer : Peer
        Whom to ask.
    calling_ae_title : str
        Who we are, and where the peer reports to when it does so later.
    transaction_uid : str
        Of this request, and no other one.
    timeout_s : float
        For each step: connection, association, the answer to the request.
    wait_s : float
        How long to keep the association for a result that comes at once.
    tls : ssl.SSLContext, optional
        To connect with, of :func:`dicom_node.tls.client_context`.

    Returns
    -------
    Commitment or None
        None: the peer took the request, and answers later on an association of its own.

    Raises
    ------
    PeerError
        No association, no answer, or one that passes: ask again later.
    ReportRefused
        The peer does not offer it, or refuses for good.
    """
    result = _Result(peer, transaction_uid)
    pairs = [(PUSH_MODEL, str(ImplicitVRLittleEndian)), (PUSH_MODEL, str(ExplicitVRLittleEndian))]
    with associated(peer, calling_ae_title, pairs, timeout_s, tls, result.handlers) as assoc:
        status = _request(assoc, peer, request_dataset(transaction_uid, references))
        if is_success(status):
            result.wait(wait_s)
    if is_success(status) or result.commitment is not None:
        return result.commitment
    # Here, other than with C-STORE, a processing failure tells nothing of the instances.
    final = is_permanent(status) and status != Status.PROCESSING_FAILURE
    error = ReportRefused if final else PeerError
    raise error(f"{peer} refused to commit itself: {describe(status)}.", str(peer), status)


def _request(assoc: Any, peer: Peer, action_information: Dataset) -> int:
    """Send the N-ACTION; return the status that the peer answers."""
    if PUSH_MODEL not in accepted(assoc):
        raise ReportRefused(
            f"{peer} does not offer Storage Commitment; set commitment=off for it.",
            str(peer),
            Status.SOP_CLASS_NOT_SUPPORTED,
        )
    try:
        status, _ = assoc.send_n_action(
            action_information, REQUEST_ACTION, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"{peer} ended the association while we asked.", str(peer)) from error
    if "Status" not in status:
        raise PeerError(
            f"{peer} did not answer a request for commitment in time, or hung up.", str(peer)
        )
    return int(status.Status)


class _Result:
    """Waits for the N-EVENT-REPORT of one request, on the association that made the request.

    PS3.4 J.3.3: the peer reports in the role that it has, so no roles are negotiated.
    """

    def __init__(self, peer: Peer, transaction_uid: str) -> None:
        self._peer, self._transaction_uid = peer, transaction_uid
        self._ended = threading.Event()
        self._reporting: threading.Thread | None = None
        self.commitment: Commitment | None = None
        self.handlers: list[tuple[Any, Callable[[Any], Any]]] = [
            (evt.EVT_N_EVENT_REPORT, self._report),
            *((event, self._end) for event in (evt.EVT_RELEASED, evt.EVT_ABORTED)),
            (evt.EVT_CONN_CLOSE, self._end),
        ]

    def wait(self, wait_s: float) -> None:
        """Wait until the result is there and answered, or the association has ended."""
        self._ended.wait(wait_s)
        if self._reporting is not None:  # its response must be on its way before a release is
            self._reporting.join(wait_s)

    def _end(self, _: Any) -> None:
        self._ended.set()

    def _report(self, event: Any) -> tuple[int, None]:
        """Take a result; called in a thread of its own."""
        try:
            commitment = read_commitment(event.event_information, event.event_type)
        except Exception as error:  # noqa: BLE001 - pydicom's errors on broken values are many
            log.warning("%s reports a commitment that is not readable: %s", self._peer, error)
            known = event.event_type in (ALL_COMMITTED, FAILURES_EXIST)
            return Status.INVALID_ARGUMENT if known else Status.NO_SUCH_EVENT_TYPE, None
        if commitment.transaction_uid != self._transaction_uid:
            log.warning("%s reports a commitment that is not what we asked for", self._peer)
            return Status.PROCESSING_FAILURE, None
        self.commitment, self._reporting = commitment, threading.current_thread()
        self._ended.set()
        return Status.SUCCESS, None


def request_dataset(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Return the Action Information of a request (PS3.4 Table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = UID(transaction_uid)
    ds.ReferencedSOPSequence = Items(_item(reference) for reference in references)
    return ds


def read_request(action_information: Dataset) -> tuple[str, list[Reference]]:
    """Read a request for commitment that a peer sent.

    Returns
    -------
    tuple of (str, list of Reference)
        The Transaction UID, and the instances in the peer's order.

    Raises
    ------
    ValueError
        When an attribute is missing, empty or unreadable.
    """
    transaction_uid = _uid(action_information, "TransactionUID")
    items = _items(action_information, "ReferencedSOPSequence")
    if not items:
        raise ValueError("ReferencedSOPSequence is missing or empty")
    return transaction_uid, [
        Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))
        for item in items
    ]


def read_commitment(event_information: Dataset, event_type: int) -> Commitment:
    """Read the result that a peer reports (N-EVENT-REPORT).

    What the peer lists as failed has failed, whatever the event type and the other list say.

    Parameters
    ----------
    event_information : Dataset
        The Event Information (PS3.4 Table J.3-2).
    event_type : int
        The Event Type ID, 1 or 2.

    Raises
    ------
    ValueError
        When the event type is none of this service, or an attribute is missing or unreadable.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise ValueError(f"{event_type} is not an event type of Storage Commitment")
    failed = {
        _uid(item, "ReferencedSOPInstanceUID"): _failure_reason(item)
        for item in _items(event_information, "FailedSOPSequence")
    }
    listed = [
        _uid(item, "ReferencedSOPInstanceUID")
        for item in _items(event_information, "ReferencedSOPSequence")
    ]
    return Commitment(
        _uid(event_information, "TransactionUID"),
        tuple(uid for uid in dict.fromkeys(listed) if uid not in failed),
        tuple(failed.items()),
    )


def result_dataset(commitment: Commitment, references: Iterable[Reference]) -> Dataset:
    """Return the Event Information of a result that we report (PS3.4 Table J.3-2).

    Parameters
    ----------
    commitment : Commitment
        The result; :attr:`Commitment.event_type` belongs to it.
    references : iterable of Reference
        The request that it answers, for the SOP classes.
    """
    asked = {reference.sop_instance_uid: reference for reference in references}
    ds = Dataset()
    ds.TransactionUID = UID(commitment.transaction_uid)
    if commitment.committed:
        ds.ReferencedSOPSequence = Items(_item(asked[uid]) for uid in commitment.committed)
    if commitment.failed:
        ds.FailedSOPSequence = Items(_item(asked[uid]) for uid, _ in commitment.failed)
        for item, (_, reason) in zip(ds.FailedSOPSequence, commitment.failed, strict=True):
            item.FailureReason = reason
    return ds


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
    return item


def _items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence, none when it is missing or empty."""
    try:
        value = ds.get(keyword) or ()
    except Exception as error:
        raise ValueError(f"{keyword} cannot be read") from error
    if not isinstance(value, Sequence) or not all(isinstance(item, Dataset) for item in value):
        raise ValueError(f"{keyword} is not a sequence")
    return value


def _uid(ds: Dataset, keyword: str) -> str:
    try:
        value = ds.get(keyword)
    except Exception as error:
        raise ValueError(f"{keyword} cannot be read") from error
    uid = value.strip("\0 ") if isinstance(value, str) else ""
    if not UID(uid).is_valid:
        raise ValueError(f"{keyword} is missing or not one UID")
    return uid


def _failure_reason(item: Dataset) -> int:
    """Return the Failure Reason (0008,1197); a failure without a readable one is a failure."""
    try:
        value = item.get("FailureReason")
    except Exception:  # noqa: BLE001 - what pydicom raises for broken values is not one error
        value = None
    return value if isinstance(value, int) else int(Status.PROCESSING_FAILURE)
