"""Verification and Storage SCP: bytes to disk, then a committed record, then Success."""

from __future__ import annotations

import enum
import errno
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.archive import Archive, StoredFile, is_valid_uid
from dicom_node.contexts import (
    STORAGE_SOP_CLASSES,
    UNCOMPRESSED_TRANSFER_SYNTAXES,
    VERIFICATION,
    decodable_transfer_syntaxes,
)
from dicom_node.entity import application_entity
from dicom_node.errors import ConfigurationError
from dicom_node.header import read_header
from dicom_node.status import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """An instance that is durably on disk and waits to be recorded.

    Every attribute of the data set is a str, "" when it is absent or empty. `association_id` is
    unique to the association that it came by; `path`, `size` and `sha256` are the archive's;
    `received_at` is in UTC.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str
    accession_number: str
    study_date: str
    modality: str
    calling_ae_title: str
    association_id: str
    path: str
    size: int
    sha256: str
    received_at: datetime


class Outcome(enum.Enum):
    """What recording an instance found."""

    STORED = "STORED"
    DUPLICATE = "DUPLICATE"  # the same UID with the same bytes: nothing to do
    CONFLICT = "CONFLICT"  # the same UID with other bytes: the first is kept


Record = Callable[[Received], Outcome]


class Reply(int):
    """A DIMSE status with the comment that explains it to the peer.

    Attributes
    ----------
    comment : str
        Error Comment (0000,0902), VR LO: 64 characters, never patient data.
    """

    comment: str

    def __new__(cls, status: int, comment: str = "") -> Reply:
        """Make a reply of a status."""
        reply = super().__new__(cls, status)
        reply.comment = comment
        return reply

    def to_dataset(self) -> Dataset:
        """Return the status elements of the response (PS3.7 9.3.1.2)."""
        ds = Dataset()
        ds.Status = int(self)
        if self.comment:
            ds.ErrorComment = self.comment
        return ds


class _Refused(Exception):
    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.reply = Reply(status, comment)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How the node listens.

    Attributes
    ----------
    ae_title : str
        Our AE title.
    bind : str
        Address to listen on.
    port : int
        TCP port; 0 takes a free one.
    allowed_ae_titles : frozenset of str
        Calling AE titles that may associate; empty is all.
    require_called_ae_title : bool
        Reject associations that call us by another title.
    max_associations : int
        Associations at once; more are rejected as transient (PS3.8 9.3.4).
    network_timeout_s : float
        An association silent for this long is aborted.
    maximum_pdu : int
        Largest PDU, in bytes; 0 is unlimited.
    transfer_syntaxes : tuple of str
        What to accept; empty is what this installation decodes. For a node whose workers, on
        other machines, decode more than it does itself.
    """

    ae_title: str
    bind: str = "0.0.0.0"  # noqa: S104
    port: int = 11112
    allowed_ae_titles: frozenset[str] = frozenset()
    require_called_ae_title: bool = False
    max_associations: int = 100
    network_timeout_s: float = 60.0
    maximum_pdu: int = 262144
    transfer_syntaxes: tuple[str, ...] = ()


def association_id(assoc: Any) -> str:
    """Return the id of an association, given to it when first asked for."""
    # dict.setdefault is atomic, so that two threads can never see two ids.
    return str(vars(assoc).setdefault("cxr_association_id", uuid.uuid4().hex))


def handle_store(event: Any, archive: Archive, record: Record) -> Reply:
    """Answer one C-STORE request.

    The bytes go to disk exactly as received and durably, then `record` commits, and only then is
    the answer Success.

    Parameters
    ----------
    event : pynetdicom.events.Event
        ``EVT_C_STORE``.
    archive : Archive
        Where instances are kept.
    record : Record
        Commits what was received; any exception of it means that nothing is recorded.

    Returns
    -------
    Reply
        The DIMSE status, with the comment for a failure.

    References
    ----------
    DICOM PS3.4 B.2.3
    """
    try:
        data = event.encoded_dataset()
        header = _checked_header(data, event.request)
        stored = archive.write(header["StudyInstanceUID"], header["SOPInstanceUID"], data)
        return _recorded(_received(event, header, stored), archive, record)
    except _Refused as error:
        log.warning("C-STORE refused, 0x%04X: %s", error.reply, error.reply.comment)
        return error.reply
    except OSError as error:
        # strerror only: the text of the error holds a path.
        log.error("cannot store: %s", error.strerror or type(error).__name__)  # noqa: TRY400
        return Reply(Status.OUT_OF_RESOURCES, "The archive cannot take the instance now")
    except Exception as error:  # noqa: BLE001 - a peer is answered, whatever happens here
        log.error("C-STORE failed: %s", type(error).__name__)  # noqa: TRY400
        return Reply(Status.OUT_OF_RESOURCES, "The node cannot store the instance now")


def _checked_header(data: bytes, request: Any) -> dict[str, str]:
    """Read the header and hold it against the command."""
    try:
        header = read_header(data)
    except Exception as error:
        raise _Refused(Status.CANNOT_UNDERSTAND, "The data set cannot be parsed") from error
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not is_valid_uid(header[keyword]):
            raise _Refused(Status.CANNOT_UNDERSTAND, f"{keyword} is missing or invalid")
    if header["SOPClassUID"] != str(request.AffectedSOPClassUID):
        raise _Refused(
            Status.DOES_NOT_MATCH_SOP_CLASS, "SOPClassUID differs from the C-STORE request's"
        )
    if header["SOPInstanceUID"] != str(request.AffectedSOPInstanceUID):
        raise _Refused(
            Status.DOES_NOT_MATCH_SOP_CLASS, "SOPInstanceUID differs from the C-STORE request's"
        )
    return header


def _received(event: Any, header: dict[str, str], stored: StoredFile) -> Received:
    return Received(
        sop_instance_uid=header["SOPInstanceUID"],
        sop_class_uid=header["SOPClassUID"],
        study_instance_uid=header["StudyInstanceUID"],
        series_instance_uid=header["SeriesInstanceUID"],
        transfer_syntax_uid=str(event.context.transfer_syntax),
        patient_id=header["PatientID"],
        accession_number=header["AccessionNumber"],
        study_date=header["StudyDate"],
        modality=header["Modality"],
        calling_ae_title=str(event.assoc.requestor.ae_title).strip(),
        association_id=association_id(event.assoc),
        path=stored.path,
        size=stored.size,
        sha256=stored.sha256,
        received_at=datetime.now(UTC),
    )


def _recorded(received: Received, archive: Archive, record: Record) -> Reply:
    """Commit, and say what came of it; never Success unless `record` returned."""
    try:
        outcome = record(received)
    except Exception as error:
        # The error's text is not logged: a database quotes the values of the row.
        log.error(  # noqa: TRY400
            "instance %s is not recorded: %s", received.sop_instance_uid, type(error).__name__
        )
        raise _Refused(
            Status.OUT_OF_RESOURCES, "The node cannot record the instance now"
        ) from error
    if outcome is Outcome.CONFLICT:
        aside = archive.quarantine(received.path)
        log.error("instance %s came again with other bytes: %s", received.sop_instance_uid, aside)
        return Reply(
            Status.OTHER_BYTES_UNDER_THIS_UID, "This SOPInstanceUID was stored with other content"
        )
    return Reply(Status.SUCCESS)


class RunningNode:
    """A node that listens, until `shutdown`.

    Attributes
    ----------
    port : int
        The TCP port it listens on.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self.port: int = server.server_address[1]

    @property
    def open_associations(self) -> int:
        """How many associations are open."""
        return len(self._server.active_associations)

    def shutdown(self, grace_s: float = 10.0) -> None:
        """Stop accepting, let running associations end for `grace_s`, and abort the rest."""
        self._stop_accepting()
        deadline = time.monotonic() + grace_s
        while self.open_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        aborting = [
            threading.Thread(target=assoc.abort, daemon=True)
            for assoc in self._server.active_associations
        ]
        for thread in aborting:
            thread.start()
        for assoc in self._server.active_associations:
            assoc.join(timeout=5.0)

    def _stop_accepting(self) -> None:
        """Close the listening socket, and leave the associations alone."""
        self._server.shutdown()


def start_node(
    config: NodeConfig,
    archive: Archive,
    record: Record,
    on_association_closed: Callable[[str], None],
) -> RunningNode:
    """Start to listen, in threads of its own.

    Parameters
    ----------
    config : NodeConfig
        How to listen.
    archive : Archive
        Where instances are kept.
    record : Record
        Called in the association's thread for each instance, many at once.
    on_association_closed : callable
        Called once with the association's id when an association that sent something has ended,
        by release, abort or loss alike, and after its last instance was answered.

    Raises
    ------
    ConfigurationError
        When the address or the port cannot be had.
    """
    entity = application_entity(config.ae_title, config.network_timeout_s, config.maximum_pdu)
    entity.maximum_associations = config.max_associations
    entity.require_calling_aet = sorted(config.allowed_ae_titles)
    entity.require_called_aet = config.require_called_ae_title
    syntaxes = list(config.transfer_syntaxes or decodable_transfer_syntaxes())
    for sop_class in STORAGE_SOP_CLASSES:
        entity.add_supported_context(sop_class, syntaxes)
    entity.add_supported_context(VERIFICATION, list(UNCOMPRESSED_TRANSFER_SYNTAXES))
    handlers = [
        (evt.EVT_CONN_OPEN, partial(_on_open, on_association_closed=on_association_closed)),
        (evt.EVT_REJECTED, _on_rejected),
        (evt.EVT_C_STORE, lambda event: handle_store(event, archive, record).to_dataset()),
    ]
    try:
        server = entity.start_server((config.bind, config.port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise _cannot_listen(config, error) from error
    log.info("node %s listens on %s:%d", config.ae_title, config.bind, server.server_address[1])
    return RunningNode(server)


def _cannot_listen(config: NodeConfig, error: OSError) -> ConfigurationError:
    """Say which setting keeps the node from listening."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(
        error, socket.gaierror
    ):
        return ConfigurationError("CXR_BIND", f"{config.bind} is not an address of this machine")
    why = {
        errno.EADDRINUSE: "is in use by another program; stop that or choose another port",
        errno.EACCES: "needs privileges that we lack; choose a port above 1023",
    }.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
    return ConfigurationError("CXR_PORT", f"port {config.port} {why}")


def _on_open(event: Any, on_association_closed: Callable[[str], None]) -> None:
    """Prepare a new association, before its thread starts.

    Release, abort and loss have events of their own, some of which come while an instance is still
    being stored. The end of the association's thread comes once and after everything.
    """
    assoc = event.assoc
    connection = assoc.dul.socket.socket
    # A response is a small packet that the peer waits for: do not hold it back.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Half a PDU, and then silence, would hold the reading thread for ever.
    connection.settimeout(assoc.network_timeout)
    run = assoc.run

    def run_and_tell() -> None:
        try:
            run()
        finally:
            _closed(assoc, on_association_closed)

    assoc.run = run_and_tell


def _closed(assoc: Any, on_association_closed: Callable[[str], None]) -> None:
    if "cxr_association_id" not in vars(assoc):
        return  # it sent nothing
    try:
        on_association_closed(association_id(assoc))
    except Exception as error:  # noqa: BLE001 - the thread ends here; nobody else could hear it
        log.error("closing an association failed: %s", type(error).__name__)  # noqa: TRY400


def _on_rejected(event: Any) -> None:
    log.warning(
        "association rejected: calling %r, called %r, from %s",
        event.assoc.requestor.primitive.calling_ae_title,
        event.assoc.requestor.primitive.called_ae_title,
        event.assoc.requestor.address,
    )
