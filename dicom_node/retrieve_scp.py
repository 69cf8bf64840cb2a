"""Retrieve SCP: our own reports, and what goes with them, for whoever asks by C-MOVE or C-GET.

The library would encode each instance anew, answer each failure before the first instance with a
status of its own, and call a destination that does not answer an unknown one.

References
----------
DICOM PS3.4 C.4.2, C.4.3; PS3.7 9.1.3, 9.1.4
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import decode, encode

from dicom_node.association import accepted, associated
from dicom_node.errors import PeerError
from dicom_node.outgoing import File, Sent, as_file, in_default_syntax
from dicom_node.peer import Peer
from dicom_node.query import (
    RETRIEVE_SOP_CLASSES,
    QueryFailure,
    QueryStatus,
    Wanted,
    read_retrieval,
)
from dicom_node.status import Status, is_success
from dicom_node.store import Source

log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_MAX_FAILED_LISTED = 1000

Retrieve = Callable[[Wanted], Sequence[Source]]


@dataclass(slots=True)
class _Counts:
    """Sub-operations, as the responses tell them (PS3.7 9.1.4.1)."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def add(self, sent: Sent) -> None:
        self.remaining -= 1
        if sent.status == Status.SUCCESS:
            self.completed += 1
        elif is_success(sent.status):
            self.warning += 1
        else:
            self.failed += 1
            if sent.sop_instance_uid:
                self.failed_uids.append(sent.sop_instance_uid)


class RetrieveSCP:
    """Answers C-MOVE and C-GET.

    Parameters
    ----------
    ae_title : str
        Ours.
    retrieve : callable
        Files that a retrieval asks for.
    peers : mapping of str to Peer
        Where the AE titles are found that C-MOVE may name.
    peer_tls : mapping of str to ssl.SSLContext
        What to connect with to those of them that take TLS.
    """

    def __init__(
        self,
        ae_title: str,
        retrieve: Retrieve,
        peers: Mapping[str, Peer],
        peer_tls: Mapping[str, ssl.SSLContext],
    ) -> None:
        self._ae_title = ae_title
        self._retrieve = retrieve
        self._peers = peers
        self._peer_tls = peer_tls

    def attach(self, assoc: Any) -> None:
        """Take the retrievals of an association, before its thread starts."""
        serve = assoc._serve_request

        def serve_or_retrieve(message: Any, context_id: int) -> None:
            context = assoc._accepted_cx.get(context_id)
            is_retrieval = (
                isinstance(message, (C_GET, C_MOVE))
                and message.is_valid_request
                and message.AffectedSOPClassUID in RETRIEVE_SOP_CLASSES
            )
            if context is None or not is_retrieval:
                serve(message, context_id)
                return
            assoc.dimse.cancel_req = {}
            _Retrieval(assoc, message, context, self).run()

        assoc._serve_request = serve_or_retrieve

    def files(self, identifier: Dataset, sop_class_uid: str, folder: Path) -> list[File | Sent]:
        """Find what is asked for; what cannot be read is its own answer.

        Parameters
        ----------
        folder : Path
            For what is not on this machine.
        """
        found = self._retrieve(read_retrieval(identifier, sop_class_uid))
        return [_as_file(each, folder) for each in found]

    def peer_of(self, title: str) -> Peer:
        """Find the destination of a C-MOVE.

        Raises
        ------
        QueryFailure
            0xA801 when it is not known.
        """
        if title not in self._peers:
            why = "The move destination is not in CXR_PEERS"
            raise QueryFailure(QueryStatus.MOVE_DESTINATION_UNKNOWN, why)
        return self._peers[title]

    @contextmanager
    def destination(self, peer: Peer, files: Sequence[File | Sent]) -> Iterator[Any]:
        """Open an association to the destination of a C-MOVE.

        Raises
        ------
        QueryFailure
            0xA702 when it does not associate.
        """
        pairs = sorted({pair for file in files if isinstance(file, File) for pair in file.pairs()})
        tls = self._peer_tls.get(peer.ae_title)
        try:
            with associated(peer, self._ae_title, pairs, _TIMEOUT_S, tls) as assoc:
                yield assoc
        except PeerError as error:
            log.warning("C-MOVE: %s", error)
            why = "The move destination does not associate"
            raise QueryFailure(QueryStatus.UNABLE_TO_PERFORM_SUB_OPERATIONS, why) from error


def _as_file(source: Source, folder: Path) -> File | Sent:
    if isinstance(source, Path):
        return as_file(source, folder)
    try:
        return as_file(source(), folder)
    except OSError as error:
        log.warning("an instance cannot be fetched: %s", error.strerror)
        return Sent("", Status.PROCESSING_FAILURE, "it is not in the archive")


class _Retrieval:
    """One C-MOVE or C-GET on its way."""

    def __init__(self, assoc: Any, request: Any, context: Any, scp: RetrieveSCP) -> None:
        self._assoc = assoc
        self._request = request
        self._context_id = context.context_id
        self._syntax = UID(context.transfer_syntax[0])
        self._scp = scp
        self._is_move = isinstance(request, C_MOVE)
        self._what = "C-MOVE" if self._is_move else "C-GET"

    def run(self) -> None:
        """Answer it, whatever happens."""
        counts = _Counts(0)
        try:
            with TemporaryDirectory(prefix="cxr-worker-") as folder:
                sop_class_uid = str(self._request.AffectedSOPClassUID)
                files = self._scp.files(self._identifier(), sop_class_uid, Path(folder))
                counts.remaining = len(files)
                self._respond(self._send_all(files, counts), counts)
        except QueryFailure as error:
            log.warning("%s refused, 0x%04X: %s", self._what, error.status, error)
            self._respond(error.status, counts, str(error))
        except Exception as error:  # noqa: BLE001 - a peer is answered, whatever happens here
            log.error("%s failed: %s", self._what, type(error).__name__)  # noqa: TRY400
            self._respond(QueryStatus.UNABLE_TO_PROCESS, counts, "The node cannot answer")

    def _identifier(self) -> Dataset:
        syntax = self._syntax
        try:
            return decode(
                self._request.Identifier,
                syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated,
            )  # fmt: skip
        except Exception as error:
            why = "The identifier cannot be parsed"
            raise QueryFailure(QueryStatus.IDENTIFIER_DOES_NOT_MATCH, why) from error

    def _send_all(self, files: Sequence[File | Sent], counts: _Counts) -> QueryStatus:
        """Perform the sub-operations; return the final status (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
        if self._is_move:
            peer = self._scp.peer_of(str(self._request.MoveDestination or "").strip())
            if not files:
                return QueryStatus.SUCCESS
            with self._scp.destination(peer, files) as assoc:
                cancelled = self._send_each(assoc, files, counts)
        else:
            # The library sends only while it does not listen itself.
            self._assoc._is_paused = True
            cancelled = self._send_each(self._assoc, files, counts)
            self._assoc._is_paused = False
        if cancelled:
            return QueryStatus.CANCELLED
        if counts.failed and counts.failed == len(files):
            return QueryStatus.UNABLE_TO_PERFORM_SUB_OPERATIONS
        return QueryStatus.SUB_OPERATIONS_FAILED if counts.failed else QueryStatus.SUCCESS

    def _send_each(self, assoc: Any, files: Sequence[File | Sent], counts: _Counts) -> bool:
        """Send files; return whether the peer cancelled that."""
        for number, file in enumerate(files, start=1):
            if self._request.MessageID in self._assoc.dimse.cancel_req:
                return True
            sent = file if isinstance(file, Sent) else self._send(assoc, file, number)
            counts.add(sent)
            if not is_success(sent.status):
                log.warning("%s of %s failed: %s", self._what, sent.sop_instance_uid, sent.words)
            if counts.remaining:
                self._respond(QueryStatus.PENDING, counts)
        return False

    def _send(self, assoc: Any, file: File, number: int) -> Sent:
        """Send one file as it lies on the disk; what is not compressed may be encoded anew."""
        is_own = file.transfer_syntax_uid in accepted(assoc).get(file.sop_class_uid, ())
        originator = {
            "originator_aet": str(self._assoc.requestor.ae_title).strip(),
            "originator_id": self._request.MessageID,
        }
        try:
            answer = assoc.send_c_store(
                file.path if is_own else in_default_syntax(file.path),
                msg_id=(self._request.MessageID + number) % 65536,
                **(originator if self._is_move else {}),
            )
        except (RuntimeError, ValueError, AttributeError, OSError):
            words = "it cannot be sent, or not in a transfer syntax that the peer accepts"
            return Sent(file.sop_instance_uid, Status.PROCESSING_FAILURE, words)
        if "Status" not in answer:
            words = "the peer did not answer, or hung up"
            return Sent(file.sop_instance_uid, Status.PROCESSING_FAILURE, words)
        return Sent(file.sop_instance_uid, answer.Status)

    def _respond(self, status: QueryStatus, counts: _Counts, comment: str = "") -> None:
        if not self._assoc.is_established:
            return
        answer = type(self._request)()
        answer.MessageIDBeingRespondedTo = self._request.MessageID
        answer.AffectedSOPClassUID = self._request.AffectedSOPClassUID
        answer.Status = int(status)
        if comment:
            answer.ErrorComment = comment
        if status in (QueryStatus.PENDING, QueryStatus.CANCELLED):
            answer.NumberOfRemainingSuboperations = counts.remaining
            failed = counts.failed
        else:
            # What was not tried has failed.
            failed = counts.failed + counts.remaining
        answer.NumberOfCompletedSuboperations = counts.completed
        answer.NumberOfFailedSuboperations = failed
        answer.NumberOfWarningSuboperations = counts.warning
        if counts.failed_uids and status != QueryStatus.PENDING:
            answer.Identifier = self._failed_list(counts)
        self._assoc.dimse.send_msg(answer, self._context_id)

    def _failed_list(self, counts: _Counts) -> BytesIO:
        ds = Dataset()
        ds.FailedSOPInstanceUIDList = counts.failed_uids[:_MAX_FAILED_LISTED]
        syntax = self._syntax
        return BytesIO(encode(ds, syntax.is_implicit_VR, syntax.is_little_endian,
                              syntax.is_deflated) or b"")  # fmt: skip
