"""Storage Commitment SCP: what we took on, answered for; and what a peer answers for ours.

A request is answered at once. Its result follows on the same association while that is open, and
otherwise, or when the peer did not acknowledge it there, on a new association to the peer.

References
----------
DICOM PS3.4 Annex J
"""

from __future__ import annotations

import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from dicom_node.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    read_commitment,
    read_request,
    result_dataset,
)
from dicom_node.commitment_reporter import Reporter, Request, log_result
from dicom_node.peer import Peer
from dicom_node.records import Commitment, Reference
from dicom_node.status import Status

log = logging.getLogger(__name__)

_MAX_KNOWN = 1000

FailureOf = Callable[[Reference], int | None]
OnCommitment = Callable[[Commitment], bool]


class CommitmentSCP:
    """Answers requests for commitment, and takes the results of our own.

    Parameters
    ----------
    ae_title : str
        Ours.
    failure_of : callable, optional
        None for an instance that is durably stored here, else the Failure Reason (0008,1197).
        Requests are refused without it.
    on_commitment : callable
        Takes the result of a request of ours; False when it knows no such transaction.
    peers : mapping of str to Peer
        Where an AE title is found when its association has ended.
    peer_tls : mapping of str to ssl.SSLContext
        What to connect with to those of them that take TLS.
    """

    def __init__(
        self,
        ae_title: str,
        failure_of: FailureOf | None,
        on_commitment: OnCommitment,
        peers: Mapping[str, Peer],
        peer_tls: Mapping[str, ssl.SSLContext],
    ) -> None:
        self._failure_of = failure_of
        self._on_commitment = on_commitment
        self._reporter = Reporter(ae_title, peers, peer_tls, self._result)
        # What each association still owes, and the message that told it, until it is acknowledged.
        self._asked: dict[Any, list[Request]] = {}
        self._told: dict[tuple[Any, int], Request] = {}
        # What a Transaction UID stands for, by who asked.
        self._known: OrderedDict[tuple[str, str], tuple[Reference, ...]] = OrderedDict()

    def attach(self, assoc: Any) -> None:
        """Follow an association, before its thread starts.

        The library would wait for the peer's acknowledgement, and take any request that comes
        meanwhile for that; here it comes as any other message does.
        """
        serve = assoc._serve_request

        def serve_and_report(message: Any, context_id: int) -> None:
            if _is_acknowledgement(message):
                self._acknowledged(assoc, message)
                return
            serve(message, context_id)
            for request in self._asked.pop(assoc, ()):
                self._tell(assoc, request)

        assoc._serve_request = serve_and_report

    def close(self, assoc: Any) -> None:
        """Report what was not acknowledged on an association that has ended, on a new one."""
        owed = self._asked.pop(assoc, [])
        owed += [self._told.pop(key) for key in list(self._told) if key[0] is assoc]
        for request in owed:
            self._reporter.report_later(request)

    def stop(self) -> None:
        """Give up what is not reported yet."""
        self._reporter.stop()

    def on_action(self, event: Any) -> tuple[int, None]:
        """Answer N-ACTION (PS3.4 J.3.2)."""
        try:
            request = self._read(event)
        except _Refused as error:
            log.warning("storage commitment refused, 0x%04X: %s", error.status, error)
            return error.status, None
        # A request that comes again replaces the first, so that it is answered once.
        asked = self._asked.setdefault(event.assoc, [])
        asked[:] = [r for r in asked if r.transaction_uid != request.transaction_uid]
        asked.append(request)
        return Status.SUCCESS, None

    def _read(self, event: Any) -> Request:
        asked = event.request
        if self._failure_of is None:
            raise _Refused(Status.SOP_CLASS_NOT_SUPPORTED, "it is not offered here")
        _check_instance(asked.RequestedSOPClassUID, asked.RequestedSOPInstanceUID)
        if event.action_type != REQUEST_ACTION:
            raise _Refused(Status.NO_SUCH_ACTION, f"{event.action_type} is no action of it")
        try:
            transaction_uid, references = read_request(event.action_information)
        except Exception as error:
            why = str(error) if isinstance(error, ValueError) else "the data set cannot be read"
            raise _Refused(Status.INVALID_ARGUMENT, why) from error
        ae_title = str(event.assoc.requestor.ae_title).strip()
        known = self._known.setdefault((ae_title, transaction_uid), tuple(references))
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return Request(
            transaction_uid,
            tuple(references),
            ae_title,
            int(event.context.context_id),
            UID(event.context.transfer_syntax),
            is_duplicate=known != tuple(references),
        )

    def on_event_report(self, event: Any) -> tuple[int, None]:
        """Take the result of a request of ours (PS3.4 J.3.3)."""
        try:
            asked = event.request
            _check_instance(asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID)
            self._take(event)
        except _Refused as error:
            log.warning("a storage commitment result is refused, 0x%04X: %s", error.status, error)
            return error.status, None
        except Exception as error:  # noqa: BLE001 - the peer is answered, and tells us again
            name = type(error).__name__
            log.error("a storage commitment result is not recorded: %s", name)  # noqa: TRY400
            return Status.PROCESSING_FAILURE, None
        return Status.SUCCESS, None

    def _take(self, event: Any) -> None:
        try:
            information = event.event_information
        except Exception as error:
            raise _Refused(Status.INVALID_ARGUMENT, "the data set cannot be read") from error
        try:
            commitment = read_commitment(information, event.event_type)
        except ValueError as error:
            known = event.event_type in (1, 2)
            status = Status.INVALID_ARGUMENT if known else Status.NO_SUCH_EVENT_TYPE
            raise _Refused(status, str(error)) from error
        if not self._on_commitment(commitment):
            words = f"transaction {commitment.transaction_uid} is none of ours"
            raise _Refused(Status.INVALID_ARGUMENT, words)

    def _result(self, request: Request) -> Commitment:
        """Look what became of each instance."""
        committed: list[str] = []
        failed: list[tuple[str, int]] = []
        for reference in dict.fromkeys(request.references):
            reason = self._reason(reference, request)
            if reason is None:
                committed.append(reference.sop_instance_uid)
            else:
                failed.append((reference.sop_instance_uid, int(reason)))
        return Commitment(request.transaction_uid, tuple(committed), tuple(failed))

    def _reason(self, reference: Reference, request: Request) -> int | None:
        """Say why an instance is not committed; one that cannot be looked up is not."""
        assert self._failure_of is not None  # or the request was refused
        if request.is_duplicate:
            return Status.DUPLICATE_TRANSACTION
        try:
            return self._failure_of(reference)
        except Exception as error:  # noqa: BLE001 - the database may be away
            log.error(  # noqa: TRY400
                "storage commitment cannot look %s up: %s",
                reference.sop_instance_uid, type(error).__name__,
            )  # fmt: skip
            return Status.PROCESSING_FAILURE

    def _tell(self, assoc: Any, request: Request) -> None:
        """Report on the association that asked, without waiting for the answer."""
        if not assoc.is_established:
            self._reporter.report_later(request)
            return
        commitment = self._result(request)
        message = N_EVENT_REPORT()
        message.MessageID = _next_message_id(assoc)
        message.AffectedSOPClassUID = UID(PUSH_MODEL)
        message.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
        message.EventTypeID = commitment.event_type
        message.EventInformation = _encoded(
            result_dataset(commitment, request.references), request.syntax
        )
        self._told[assoc, message.MessageID] = request
        assoc.dimse.send_msg(message, request.context_id)
        log_result(commitment, request)

    def _acknowledged(self, assoc: Any, message: Any) -> None:
        request = self._told.pop((assoc, message.MessageIDBeingRespondedTo), None)
        if request is not None and message.Status != Status.SUCCESS:
            log.warning(
                "%s answered 0x%04X to storage commitment result %s",
                request.ae_title,
                message.Status,
                request.transaction_uid,
            )
            self._reporter.report_later(request)


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def _check_instance(sop_class_uid: Any, sop_instance_uid: Any) -> None:
    if sop_class_uid != PUSH_MODEL:
        raise _Refused(Status.NO_SUCH_CLASS, "it is not of the Push Model SOP class")
    if sop_instance_uid != PUSH_MODEL_INSTANCE:
        raise _Refused(Status.NO_SUCH_INSTANCE, "it is not of the well-known instance")


def _is_acknowledgement(message: Any) -> bool:
    return isinstance(message, N_EVENT_REPORT) and message.MessageIDBeingRespondedTo is not None


def _next_message_id(assoc: Any) -> int:
    """Count our own messages on an association (PS3.7 9.1.1.1.1)."""
    number = int(vars(assoc).get("cxr_message_id", 0)) % 65535 + 1
    assoc.cxr_message_id = number
    return number


def _encoded(ds: Dataset, syntax: UID) -> BytesIO:
    data = encode(ds, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if data is None:
        raise ValueError("the result cannot be encoded")
    return BytesIO(data)
