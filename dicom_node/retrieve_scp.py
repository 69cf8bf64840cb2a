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
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import decode, encode

from dicom_node.association import associated
from dicom_node.errors import PeerError
from dicom_node.peer import Peer
from dicom_node.query import QueryFailure, QueryStatus, Wanted, read_wanted
from dicom_node.status import Status, describe, is_success

log = logging.getLogger(__name__)

# A file's data set is sent byte for byte from the disk, not decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

_TIMEOUT_S = 30.0
_MAX_FAILED_LISTED = 1000

Retrieve = Callable[[Wanted], Sequence[Path]]


@dataclass(slots=True)
class _Counts:
    """Sub-operations, as the responses tell them (PS3.7 9.1.4.1)."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, status: int | None, sop_instance_uid: str) -> None:
        self.remaining -= 1
        if status == Status.SUCCESS:
            self.completed += 1
        elif status is not None and is_success(status):
            self.warning += 1
        else:
            self.failed.append(sop_instance_uid)


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
            is_ours = isinstance(message, (C_GET, C_MOVE)) and message.is_valid_request
            if context is None or not is_ours:
                serve(message, context_id)
                return
            assoc.dimse.cancel_req = {}
            _Retrieval(assoc, message, context, self).run()

        assoc._serve_request = serve_or_retrieve

    def files(self, identifier: Dataset, sop_class_uid: str) -> Sequence[Path]:
        """Find what is asked for."""
        return self._retrieve(read_wanted(identifier, sop_class_uid))

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
    def destination(self, peer: Peer, paths: Sequence[Path]) -> Iterator[Any]:
        """Open an association to the destination of a C-MOVE.

        Raises
        ------
        QueryFailure
            0xA702 when it does not associate.
        """
        pairs = sorted({pair for path in paths for pair in _pairs(path)})
        tls = self._peer_tls.get(peer.ae_title)
        try:
            with associated(peer, self._ae_title, pairs, _TIMEOUT_S, tls) as assoc:
                yield assoc
        except PeerError as error:
            log.warning("C-MOVE: %s", error)
            why = "The move destination does not associate"
            raise QueryFailure(QueryStatus.UNABLE_TO_PERFORM_SUB_OPERATIONS, why) from error


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
            paths = self._scp.files(self._identifier(), str(self._request.AffectedSOPClassUID))
            counts.remaining = len(paths)
            status = self._send_all(paths, counts)
            self._respond(status, counts)
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

    def _send_all(self, paths: Sequence[Path], counts: _Counts) -> QueryStatus:
        """Perform the sub-operations; return the final status (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
        if self._is_move:
            peer = self._scp.peer_of(str(self._request.MoveDestination or "").strip())
            if not paths:
                return QueryStatus.SUCCESS
            with self._scp.destination(peer, paths) as assoc:
                cancelled = self._send_each(assoc, paths, counts)
        else:
            # The library sends only while it does not listen itself.
            self._assoc._is_paused = True
            cancelled = self._send_each(self._assoc, paths, counts)
            self._assoc._is_paused = False
        if cancelled:
            return QueryStatus.CANCELLED
        if counts.failed and len(counts.failed) == len(paths):
            return QueryStatus.UNABLE_TO_PERFORM_SUB_OPERATIONS
        return QueryStatus.SUB_OPERATIONS_FAILED if counts.failed else QueryStatus.SUCCESS

    def _send_each(self, assoc: Any, paths: Sequence[Path], counts: _Counts) -> bool:
        """Send files; return whether the peer cancelled that."""
        for number, path in enumerate(paths, start=1):
            if self._request.MessageID in self._assoc.dimse.cancel_req:
                return True
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            status = self._send(assoc, path, number)
            counts.add(status, uid)
            if status is None or not is_success(status):
                words = "no answer, or no presentation context"
                log.warning("%s of %s failed: %s", self._what, uid,
                            words if status is None else describe(status))  # fmt: skip
            if counts.remaining:
                self._respond(QueryStatus.PENDING, counts)
        return False

    def _send(self, assoc: Any, path: Path, number: int) -> int | None:
        """Send one file as it lies on the disk; what is not compressed may be encoded anew."""
        meta = read_file_meta_info(path)
        own = any(
            context.abstract_syntax == meta.MediaStorageSOPClassUID
            and context.transfer_syntax[0] == meta.TransferSyntaxUID
            for context in assoc.accepted_contexts
        )
        originator = {
            "originator_aet": str(self._assoc.requestor.ae_title).strip(),
            "originator_id": self._request.MessageID,
        }
        try:
            answer = assoc.send_c_store(
                path if own else dcmread(path),
                msg_id=(self._request.MessageID + number) % 65536,
                **(originator if self._is_move else {}),
            )
        except (RuntimeError, ValueError, AttributeError):
            return None
        status: int | None = answer.get("Status")
        return status

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
            failed = len(counts.failed)
        else:
            # What was not tried has failed.
            failed = len(counts.failed) + counts.remaining
        answer.NumberOfCompletedSuboperations = counts.completed
        answer.NumberOfFailedSuboperations = failed
        answer.NumberOfWarningSuboperations = counts.warning
        if counts.failed and status != QueryStatus.PENDING:
            answer.Identifier = self._failed_list(counts)
        self._assoc.dimse.send_msg(answer, self._context_id)

    def _failed_list(self, counts: _Counts) -> BytesIO:
        ds = Dataset()
        ds.FailedSOPInstanceUIDList = counts.failed[:_MAX_FAILED_LISTED]
        syntax = self._syntax
        return BytesIO(encode(ds, syntax.is_implicit_VR, syntax.is_little_endian,
                              syntax.is_deflated) or b"")  # fmt: skip


def _pairs(path: Path) -> set[tuple[str, str]]:
    """Return what to propose for a file: its own transfer syntax and the default."""
    meta = read_file_meta_info(path)
    sop_class = str(meta.MediaStorageSOPClassUID)
    return {(sop_class, str(meta.TransferSyntaxUID)), (sop_class, str(ImplicitVRLittleEndian))}
