"""One C-STORE request: bytes to disk, then a committed record, then Success."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO

from pydicom.dataset import Dataset

from dicom_node.archive import StoredFile, is_valid_uid
from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.header import read_header
from dicom_node.incoming import draft_of
from dicom_node.ours import is_ours
from dicom_node.records import Outcome, Received
from dicom_node.status import Status
from dicom_node.store import Store

log = logging.getLogger(__name__)

# Where an association keeps its id, and that it has sent: attributes of what stands for it.
_ID, _HAS_SENT = "cxr_association_id", "cxr_has_sent"


Record = Callable[[Received], Outcome]
# Stores what was received, under a Study Instance UID and a SOP Instance UID.
Keep = Callable[[str, str], StoredFile]


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


def association_id(assoc: Any) -> str:
    """Return the id of an association, given to it when first asked for."""
    # dict.setdefault is atomic, so that two threads can never see two ids.
    return str(vars(assoc).setdefault(_ID, uuid.uuid4().hex))


def has_sent(assoc: Any) -> bool:
    """Tell whether an instance came by this association."""
    return _HAS_SENT in vars(assoc)


def handle_store(event: Any, archive: Store, record: Record) -> Reply:
    """Answer one C-STORE request.

    The bytes go to disk exactly as received and durably, then `record` commits, and only then is
    the answer Success. What a cxr-worker made, and a PACS sends back, is answered with Success
    and not kept.

    Parameters
    ----------
    event : pynetdicom.events.Event
        ``EVT_C_STORE``.
    archive : Store
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
    began_at = time.perf_counter()
    try:
        with _content(event, archive) as (source, keep):
            header = _checked_header(source, event.request)
            if is_ours(header):
                log.info("not kept, a cxr-worker made it: %s", header["SOPInstanceUID"])
                return Reply(Status.SUCCESS)
            uids = header["StudyInstanceUID"], header["SOPInstanceUID"]
            received = _received(event, header, keep(*uids), began_at)
            outcome = _recorded(received, record)
            if outcome is Outcome.VANISHED:
                received = replace(received, path=archive.write(*uids, _whole(source)).path)
                outcome = _recorded(received, record)
        return _reply(outcome, received, archive)
    except _Refused as error:
        log.warning("%s refused, 0x%04X: %s", _what(event), error.reply, error.reply.comment)
        return error.reply
    except OSError as error:
        # strerror only: the text of the error holds a path.
        reason = error.strerror or type(error).__name__
        log.error("%s failed: %s", _what(event), reason)  # noqa: TRY400
        return Reply(Status.OUT_OF_RESOURCES, "The archive cannot take the instance now")
    except Exception as error:  # noqa: BLE001 - a peer is answered, whatever happens here
        log.error("%s failed: %s", _what(event), type(error).__name__)  # noqa: TRY400
        return Reply(Status.OUT_OF_RESOURCES, "The node cannot store the instance now")


@contextmanager
def _content(event: Any, archive: Store) -> Iterator[tuple[bytes | BinaryIO, Keep]]:
    """Give an instance's file, and what stores it; a draft that is not stored is removed."""
    draft = draft_of(event.request)
    if draft is None:
        data = event.encoded_dataset()
        yield data, partial(archive.write, data=data)
        return
    try:
        with draft.open() as file:
            yield file, partial(archive.keep, draft=draft)
    finally:
        draft.discard()


def _what(event: Any) -> str:
    """Name a request in the log; what is no UID is not repeated there."""
    uid = str(event.request.AffectedSOPInstanceUID)
    sender = str(event.assoc.requestor.ae_title).strip()
    return f"C-STORE of {uid if is_valid_uid(uid) else 'an invalid UID'} from {sender!r}"


def _checked_header(source: bytes | BinaryIO, request: Any) -> dict[str, str]:
    """Read the header and hold it against the command."""
    try:
        header = read_header(source)
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
    if header["SOPClassUID"] not in STORAGE_SOP_CLASSES and not is_ours(header):
        raise _Refused(Status.SOP_CLASS_NOT_SUPPORTED, "This SOP class is not stored here")
    return header


def _received(event: Any, header: dict[str, str], stored: StoredFile, began_at: float) -> Received:
    vars(event.assoc)[_HAS_SENT] = True
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
        storing_s=time.perf_counter() - began_at,
    )


def _whole(source: bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    source.seek(0)
    return source.read()


def _recorded(received: Received, record: Record) -> Outcome:
    """Commit, and give what came of it."""
    try:
        return record(received)
    except Exception as error:
        # The error's text is not logged: a database quotes the values of the row.
        log.error(  # noqa: TRY400
            "instance %s is not recorded: %s", received.sop_instance_uid, type(error).__name__
        )
        raise _Refused(
            Status.OUT_OF_RESOURCES, "The node cannot record the instance now"
        ) from error


def _reply(outcome: Outcome, received: Received, archive: Store) -> Reply:
    """Say what came of it; Success is only for what is recorded."""
    if outcome is Outcome.VANISHED:
        return Reply(Status.OUT_OF_RESOURCES, "The node cannot store the instance now")
    if outcome is Outcome.CONFLICT:
        aside = archive.quarantine(received.path)
        log.error("instance %s came again with other bytes: %s", received.sop_instance_uid, aside)
        return Reply(
            Status.OTHER_BYTES_UNDER_THIS_UID, "This SOPInstanceUID was stored with other content"
        )
    return Reply(Status.SUCCESS)
