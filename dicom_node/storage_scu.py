"""Verification and Storage SCU: images that people send, and reports to their destinations."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.association import MAX_CONTEXTS, Pair, accepted, associated, limited
from dicom_node.commitment import PUSH_MODEL
from dicom_node.contexts import REPORT_SOP_CLASSES, VERIFICATION
from dicom_node.errors import PeerError, ReportRefused
from dicom_node.fallback import as_sop_class
from dicom_node.outgoing import File, Sent, as_file, store
from dicom_node.peer import Peer
from dicom_node.status import Status, describe, is_permanent, is_success

__all__ = ["Deliver", "Delivered", "Peer", "Sent", "delivering", "echo", "offers", "send"]

# PS3.5 10.1: what any peer takes one of.
_LITTLE_ENDIAN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))

# Answers that say that a peer negotiated a SOP class which it does not store (PS3.7 Annex C).
_CLASS_NOT_TAKEN = (Status.SOP_CLASS_NOT_SUPPORTED, Status.NO_SUCH_CLASS)

_NO_REPORT_CLASS = (
    "it accepts neither Comprehensive 3D SR nor Comprehensive SR nor Enhanced SR; allow one of "
    f"{', '.join(REPORT_SOP_CLASSES)} there"
)


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


def send(
    instances: Iterable[Dataset | Path | bytes],
    peer: Peer,
    calling_ae_title: str,
    *,
    timeout_s: float = 30.0,
    on_sent: Callable[[Sent], None] | None = None,
    tls: ssl.SSLContext | None = None,
) -> list[Sent]:
    """Send instances, in one association unless they need more presentation contexts than it has.

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
    tls : ssl.SSLContext, optional
        To connect with, of :func:`dicom_node.tls.client_context`.

    Returns
    -------
    list of Sent
        In the order of `instances`.

    Raises
    ------
    PeerError
        When there is no association, or it is lost on the way.
    """
    answers: list[Sent] = []

    def tell(answer: Sent) -> None:
        answers.append(answer)
        if on_sent is not None:
            on_sent(answer)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for files, pairs in _in_rounds([as_file(instance, folder) for instance in instances]):
            opened = associated(peer, calling_ae_title, sorted(pairs), timeout_s, tls)
            with opened if pairs else nullcontext() as assoc:
                for file in files:
                    tell(store(assoc, peer, file, folder))
    return answers


class Deliver(Protocol):
    """Sends one report with its companions, and sorts the answer by what the caller has to do."""

    def __call__(self, report: bytes, companions: Sequence[bytes] = ()) -> Delivered:
        """Send a report.

        Parameters
        ----------
        report : bytes
            A Part 10 file, of :func:`dicom_node.report.build_report`.
        companions : sequence of bytes
            Part 10 files to send after it, in this order. One that is refused for good does not
            fail the report.

        Raises
        ------
        PeerError
            A lost association, or a status that passes (0xA7xx), of the report or of a companion:
            send all of it again later.
        ReportRefused
            The peer takes none of the report's SOP classes, or answered 0xA9xx, 0xCxxx or 0x01xx.
            The next report may be sent all the same.
        """
        ...


@contextmanager
def delivering(
    peer: Peer,
    calling_ae_title: str,
    timeout_s: float = 30.0,
    *,
    companions: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[Deliver]:
    """Open an association to deliver reports by, one after the other.

    A report goes as the richest of `REPORT_SOP_CLASSES` that the peer accepts. One that accepts
    a class in the negotiation and then answers that it does not support it gets the next.

    Parameters
    ----------
    peer : Peer
        Where to.
    calling_ae_title : str
        Who we are.
    timeout_s : float
        For each step: connection, association, each answer; and for each report and companion all
        in all.
    companions : collection of str
        SOP classes of what goes with the reports.
    tls : ssl.SSLContext, optional
        To connect with, of :func:`dicom_node.tls.client_context`.

    Raises
    ------
    PeerError
        When there is no association.
    AssociationRejected
        When the peer rejects it for good.
    """
    classes = (*REPORT_SOP_CLASSES, PUSH_MODEL, *sorted(companions))
    pairs = [(uid, syntax) for uid in classes for syntax in _LITTLE_ENDIAN]
    with (
        tempfile.TemporaryDirectory() as name,
        associated(peer, calling_ae_title, pairs, timeout_s, tls) as assoc,
    ):
        yield partial(_deliver, assoc, peer, timeout_s, Path(name))


def _deliver(
    assoc: Any,
    peer: Peer,
    timeout_s: float,
    folder: Path,
    report: bytes,
    companions: Sequence[bytes] = (),
) -> Delivered:
    sent: tuple[Sent, ...] = ()
    try:
        with limited(assoc, (1 + len(companions)) * timeout_s):
            sop_class_uid, answer = _store_report(assoc, peer, report, folder)
            if is_success(answer.status):
                files = (as_file(companion, folder) for companion in companions)
                sent = tuple(store(assoc, peer, file, folder) for file in files)
    except BaseException:
        assoc.abort()
        raise
    _raise_unless_stored(peer, "report", answer)
    for companion in sent:
        if not is_permanent(companion.status):
            _raise_unless_stored(peer, "companion of the report", companion)
    offers_commitment = PUSH_MODEL in accepted(assoc)
    return Delivered(answer.status, sop_class_uid, answer.sop_instance_uid, sent, offers_commitment)


def _store_report(assoc: Any, peer: Peer, report: bytes, folder: Path) -> tuple[str, Sent]:
    """Send a report as the richest SOP class that the peer takes; say which, and its answer."""
    offered = accepted(assoc)
    sop_class_uid, answer = "", Sent("", Status.SOP_CLASS_NOT_SUPPORTED, _NO_REPORT_CLASS)
    for sop_class_uid in (uid for uid in REPORT_SOP_CLASSES if uid in offered):
        file = as_file(report, folder)
        if isinstance(file, File) and file.sop_class_uid != sop_class_uid:
            file = as_file(as_sop_class(report, sop_class_uid), folder)
        answer = store(assoc, peer, file, folder)
        if answer.status not in _CLASS_NOT_TAKEN:
            break
    return sop_class_uid, answer


def _raise_unless_stored(peer: Peer, what: str, answer: Sent) -> None:
    if is_success(answer.status):
        return
    error = ReportRefused if is_permanent(answer.status) else PeerError
    raise error(f"{peer} did not take the {what}: {answer.words}.", str(peer), answer.status)


def echo(
    peer: Peer,
    calling_ae_title: str,
    timeout_s: float = 10.0,
    *,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Ask `peer` whether it is there (C-ECHO, PS3.4 A).

    Raises
    ------
    PeerError
        With a sentence that says what to do.
    """
    pairs = [(VERIFICATION, str(ImplicitVRLittleEndian))]
    with associated(peer, calling_ae_title, pairs, timeout_s, tls) as assoc:
        if not accepted(assoc):
            raise PeerError(
                f"{peer} associates but does not offer Verification; storing may still work.",
                str(peer),
            )
        status = assoc.send_c_echo().get("Status")
    if status != Status.SUCCESS:
        words = "did not answer in time" if status is None else f"answered {describe(status)}"
        raise PeerError(f"{peer} {words} to a C-ECHO.", str(peer), status)


def offers(
    peer: Peer,
    calling_ae_title: str,
    sop_class_uids: Collection[str],
    timeout_s: float = 10.0,
    *,
    tls: ssl.SSLContext | None = None,
) -> frozenset[str]:
    """Return those of some SOP classes that `peer` accepts, by the negotiation alone.

    Parameters
    ----------
    peer : Peer
        Whom to ask.
    calling_ae_title : str
        Who we are.
    sop_class_uids : collection of str
        Such as `REPORT_SOP_CLASSES`, of which one will do, and `PUSH_MODEL`; at most 64.
    timeout_s : float
        For each step.
    tls : ssl.SSLContext, optional
        To connect with, of :func:`dicom_node.tls.client_context`.

    Raises
    ------
    PeerError
        When there is no association.
    """
    pairs = [(uid, syntax) for uid in sop_class_uids for syntax in _LITTLE_ENDIAN]
    with associated(peer, calling_ae_title, pairs, timeout_s, tls) as assoc:
        return frozenset(accepted(assoc))


def _in_rounds(files: Sequence[File | Sent]) -> Iterator[tuple[list[File | Sent], set[Pair]]]:
    """Split files into runs, each with the presentation contexts of one association."""
    run: list[File | Sent] = []
    pairs: set[Pair] = set()
    for file in files:
        needed = pairs | _pairs(file)
        if len(needed) > MAX_CONTEXTS:
            yield run, pairs
            run, needed = [], _pairs(file)
        run.append(file)
        pairs = needed
    yield run, pairs


def _pairs(file: File | Sent) -> set[Pair]:
    return file.pairs() if isinstance(file, File) else set()
