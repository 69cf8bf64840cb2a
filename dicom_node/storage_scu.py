"""Verification and Storage SCU: instances go out in one association, as they are."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import _config, evt
from pynetdicom.presentation import build_context

from dicom_node.contexts import VERIFICATION
from dicom_node.entity import application_entity
from dicom_node.errors import PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.status import Status, describe, is_permanent, is_success

__all__ = ["Delivered", "Peer", "Sent", "accepts", "deliver", "echo", "send"]

# A file's data set is sent byte for byte from the disk, not decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

# What may be encoded again in the default transfer syntax without touching pixel data.
_CONVERTIBLE = (str(ExplicitVRLittleEndian), str(DeflatedExplicitVRLittleEndian))

_MAXIMUM_PDU = 262144
_MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: ids are the odd numbers from 1 to 255


@dataclass(frozen=True, slots=True)
class Sent:
    """What a peer answered to one instance.

    Attributes
    ----------
    sop_instance_uid : str
        The instance; "" when the file could not be read.
    status : int
        The DIMSE status; 0x0122 when the peer accepted no presentation context for it, 0xC000
        when the file is not a DICOM file.
    comment : str
        Why, in words.
    """

    sop_instance_uid: str
    status: int
    comment: str = ""

    @property
    def words(self) -> str:
        """What a person reads of the answer."""
        return self.comment or describe(self.status)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A report that a peer has taken.

    Attributes
    ----------
    status : int
        Of the report: success, or a warning (0xBxxx).
    sop_class_uid : str
        As which it was taken.
    sop_instance_uid : str
        Under which UID.
    companions : tuple of Sent
        What became of each companion, in order.
    offers_commitment : bool
        Whether the peer accepted the Storage Commitment Push Model in this negotiation.
    """

    status: int
    sop_class_uid: str
    sop_instance_uid: str
    companions: tuple[Sent, ...] = ()
    offers_commitment: bool = False


@dataclass(frozen=True, slots=True)
class _File:
    """A Part 10 file that waits to be sent."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def syntaxes(self) -> tuple[str, ...]:
        """Return the transfer syntaxes to propose, its own first.

        PS3.5 10.1: the default transfer syntax is proposed for whatever is not compressed.
        """
        if self.transfer_syntax_uid in _CONVERTIBLE:
            return (self.transfer_syntax_uid, str(ImplicitVRLittleEndian))
        return (self.transfer_syntax_uid,)


def send(
    instances: Iterable[Dataset | Path | bytes],
    peer: Peer,
    calling_ae_title: str,
    *,
    timeout_s: float = 30.0,
    on_sent: Callable[[Sent], None] | None = None,
) -> list[Sent]:
    """Send instances in one association.

    Parameters
    ----------
    instances : iterable of Dataset, Path or bytes
        Files are sent in their own transfer syntax, byte for byte. Only when the peer takes
        nothing but the default transfer syntax, what is not compressed is encoded in that.
    peer : Peer
        Where to.
    calling_ae_title : str
        Who we are.
    timeout_s : float
        For each step: connection, association, each answer.
    on_sent : callable, optional
        Called after each instance.

    Returns
    -------
    list of Sent
        In the order of `instances`.

    Raises
    ------
    PeerError
        When there is no association, or it is lost on the way.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [_as_file(instance, folder) for instance in instances]
        pairs = {
            (file.sop_class_uid, syntax)
            for file in files
            if isinstance(file, _File)
            for syntax in file.syntaxes()
        }
        answers: list[Sent] = []
        with _association(peer, calling_ae_title, sorted(pairs), timeout_s) as assoc:
            for file in files:
                answer = _store(assoc, peer, file, folder) if isinstance(file, _File) else file
                answers.append(answer)
                if on_sent is not None:
                    on_sent(answer)
        return answers


def deliver(
    report: Dataset | Path | bytes, peer: Peer, calling_ae_title: str, timeout_s: float = 30.0
) -> int:
    """Send one report, and sort the answer by what the caller has to do.

    Returns
    -------
    int
        Success or a warning (0xBxxx): the peer has the report.

    Raises
    ------
    PeerError
        No association, a lost one, or a status that passes (0xA7xx): try again later.
    ReportRefused
        The peer does not take the SOP class, or answered 0xA9xx, 0xCxxx or 0x01xx.
    """
    (answer,) = send([report], peer, calling_ae_title, timeout_s=timeout_s)
    if is_success(answer.status):
        return answer.status
    error = ReportRefused if is_permanent(answer.status) else PeerError
    raise error(f"{peer} did not take the report: {answer.words}.", str(peer), answer.status)


def echo(peer: Peer, calling_ae_title: str, timeout_s: float = 10.0) -> None:
    """Ask `peer` whether it is there (C-ECHO, PS3.4 A).

    Raises
    ------
    PeerError
        With a sentence that says what to do.
    """
    pairs = [(VERIFICATION, str(ImplicitVRLittleEndian))]
    with _association(peer, calling_ae_title, pairs, timeout_s) as assoc:
        if not assoc.accepted_contexts:
            raise PeerError(
                f"{peer} associates but does not offer Verification; storing may still work.",
                str(peer),
            )
        status = assoc.send_c_echo().get("Status")
    if status != Status.SUCCESS:
        words = "did not answer in time" if status is None else f"answered {describe(status)}"
        raise PeerError(f"{peer} {words} to a C-ECHO.", str(peer), status)


def accepts(peer: Peer, calling_ae_title: str, sop_class_uid: str, timeout_s: float = 10.0) -> bool:
    """Tell whether `peer` takes instances of a SOP class, by the negotiation alone.

    Raises
    ------
    PeerError
        When there is no association.
    """
    pairs = [(sop_class_uid, s) for s in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    with _association(peer, calling_ae_title, pairs, timeout_s) as assoc:
        return bool(assoc.accepted_contexts)


def _as_file(instance: Dataset | Path | bytes, folder: Path) -> _File | Sent:
    """Return `instance` as a file on disk, or the reason why it cannot be sent."""
    path = instance
    try:
        if not isinstance(path, Path):
            path = _written(path, folder)
        meta = read_file_meta_info(path)
        return _File(
            path,
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, ValueError, OSError, EOFError):
        return Sent("", Status.CANNOT_UNDERSTAND, "not a readable DICOM Part 10 file")


def _written(instance: Dataset | bytes, folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(suffix=".dcm", dir=folder)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - mkstemp gives a descriptor
        if isinstance(instance, bytes):
            file.write(instance)
        else:
            dcmwrite(file, instance, enforce_file_format=True)
    return Path(name)


def _store(assoc: Any, peer: Peer, file: _File, folder: Path) -> Sent:
    """Send one file; a peer that does not accept it is an answer, a lost association is not."""
    accepted = {
        str(context.transfer_syntax[0])
        for context in assoc.accepted_contexts
        if context.abstract_syntax == file.sop_class_uid
    }
    syntax = next((each for each in file.syntaxes() if each in accepted), None)
    if syntax is None:
        words = "the peer does not accept this SOP class in this transfer syntax"
        return Sent(file.sop_instance_uid, Status.SOP_CLASS_NOT_SUPPORTED, words)
    own = syntax == file.transfer_syntax_uid
    path = file.path if own else _in_default_syntax(file.path, folder)
    try:
        status = assoc.send_c_store(path)
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"{peer} ended the association while sending.", str(peer)) from error
    if "Status" not in status:
        raise PeerError(f"{peer} did not answer a C-STORE in time, or hung up.", str(peer))
    words = describe(status.Status)
    comment = status.get("ErrorComment", "")
    return Sent(file.sop_instance_uid, status.Status, f"{words}: {comment}" if comment else words)


def _in_default_syntax(path: Path, folder: Path) -> Path:
    """Encode a file in Implicit VR Little Endian (PS3.5 10.1)."""
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return _written(ds, folder)


@contextmanager
def _association(
    peer: Peer, calling_ae_title: str, pairs: Sequence[tuple[str, str]], timeout_s: float
) -> Iterator[Any]:
    """Open an association with one presentation context a pair; release it, or abort on errors.

    Raises
    ------
    PeerError
        When the peer cannot be reached or does not associate.
    """
    entity = application_entity(calling_ae_title, timeout_s, _MAXIMUM_PDU)
    contexts = [build_context(*pair) for pair in islice(pairs, _MAX_CONTEXTS)]
    try:
        assoc = entity.associate(
            peer.host,
            peer.port,
            contexts=contexts,
            ae_title=peer.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, partial(_limit_sending, timeout_s=timeout_s))],
        )
    except OSError as error:  # the host name
        raise PeerError(_why_unreachable(peer, timeout_s), str(peer)) from error
    # A peer that associates but accepts none of the contexts has been aborted by the library. That
    # is an answer, and the caller finds it in `accepted_contexts`.
    if not assoc.is_established and not assoc.rejected_contexts:
        raise PeerError(_why_not(assoc, peer, timeout_s), str(peer))
    try:
        yield assoc
    except BaseException:
        assoc.abort()
        raise
    if assoc.is_established:
        assoc.release()


def _why_not(assoc: Any, peer: Peer, timeout_s: float) -> str:
    """Say why there is no association, and what to look at."""
    if assoc.is_rejected:
        reason = getattr(assoc.acceptor.primitive, "reason_str", "") or "no reason given"
        return f"{peer} rejected the association: {reason}; check both AE titles at the peer."
    return _why_unreachable(peer, timeout_s)


def _why_unreachable(peer: Peer, timeout_s: float) -> str:
    """Try a bare connection, and say how far it came."""
    try:
        with socket.create_connection((peer.host, peer.port), timeout=min(timeout_s, 5.0)):
            return (
                f"{peer} takes the connection but does not associate; "
                "check that it speaks DICOM there, without TLS."
            )
    except socket.gaierror:
        return f"{peer}: the host name {peer.host!r} is not known; check its spelling and the DNS."
    except ConnectionRefusedError:
        return (
            f"{peer}: nothing listens on port {peer.port}; check that the peer runs, and its port."
        )
    except OSError:
        return f"{peer} is not reachable; check the address, the network and its firewall."


def _limit_sending(event: Any, timeout_s: float) -> None:
    """Limit each write too: a peer that stops reading would hold us for ever."""
    connection = event.assoc.dul.socket.socket
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
