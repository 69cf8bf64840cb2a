"""Stores instances that come by the web, each as the node stores what comes by C-STORE."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node import store
from dicom_node.correlation import about
from dicom_node.header import read_header
from dicom_node.incoming import StoreEvent, draft_of
from dicom_node.incoming_file import IncomingFile, NotTaken
from dicom_node.reception import Reply, association_id, handle_store, has_sent
from dicom_node.records import Outcome, Received
from dicom_node.status import Status
from worker import archiving, node
from worker.counting import count_stored
from worker.desk import Desk
from worker.web.dicomweb.objects import url_of
from worker.web.services import Announce

# Who brings it, where an AE title is asked for.
SENDER: Final = "DICOMWEB"
# SQLite has one writer at a time.
_TURN = threading.Lock()


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a part.

    Attributes
    ----------
    status
        0x0000, or why it is not stored.
    received
        What was recorded; None where nothing was, as of what a cxr-worker made.
    """

    status: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    received: Received | None = None


class Store:
    """Takes the parts of one request, one after the other.

    Parameters
    ----------
    desk, archive, announce
        As `worker.web.services.Services` has them; the archive is that for what comes in.
    before : callable
        Called with what is about to be recorded; what it raises keeps it from being so.
    study_instance_uid : str
        The only study that is taken; "" for any.
    """

    def __init__(
        self,
        desk: Desk,
        archive: store.Store,
        announce: Announce,
        before: Callable[[Received], None],
        study_instance_uid: str = "",
    ) -> None:
        self.told: list[Told] = []
        self._archive, self._before, self._study = archive, before, study_instance_uid
        # A request is to the ledger what an association is.
        self._assoc = SimpleNamespace(requestor=SimpleNamespace(ae_title=SENDER))
        is_sqlite = desk.settings.database_url.startswith("sqlite")
        turn: AbstractContextManager[Any] = _TURN if is_sqlite else nullcontext()
        self._record = node.recorder(
            desk.sessions, desk.settings.quiet_s, announce, desk.clock, turn,
            node.look_within(archive), archive.stays,
        )  # fmt: skip
        self._end = node.closer(desk.sessions, announce)
        self._sessions, self._looked = desk.sessions, False
        self._file: IncomingFile | None = None

    def begin(self) -> None:
        """Begin a part."""
        if not self._looked:  # no node may have been here; without the archive, parts are refused
            archiving.made(self._archive, self._sessions)
            self._looked = True
        self._file = IncomingFile(self._archive, self._assoc)

    def write(self, data: bytes) -> None:
        """Take more of it."""
        if self._file is not None:
            self._file.write(data)

    def end(self) -> None:
        """Store it."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            with about(association_id=association_id(self._assoc)):
                self.told.append(self._stored(file))
        except NotTaken as error:
            self.told.append(Told(error.status, error.sop_class_uid, error.sop_instance_uid))
        finally:
            file.discard()

    def refuse(self) -> None:
        """Say of a part that it is none that is stored."""
        self._file = None
        self.told.append(Told(Status.CANNOT_UNDERSTAND))

    def close(self) -> None:
        """End the request: what it brought is quiet from now on."""
        if self._file is not None:
            self._file.discard()
        if has_sent(self._assoc):
            self._end(association_id(self._assoc))

    def _stored(self, file: IncomingFile) -> Told:
        event = file.event()
        uids = event.request.AffectedSOPClassUID, event.request.AffectedSOPInstanceUID
        if self._study and _study_of(event) != self._study:
            return Told(Status.DOES_NOT_MATCH_SOP_CLASS, *uids)
        seen = _Seen(self._record, self._before)
        began_at = time.perf_counter()
        reply: Reply = handle_store(event, self._archive, seen)
        count_stored(uids[0], int(reply), time.perf_counter() - began_at)
        return Told(int(reply), *uids, received=seen.received)


@dataclass(slots=True)
class _Seen:
    """Records what is received, and keeps it for the answer."""

    record: Callable[[Received], Outcome]
    before: Callable[[Received], None]
    received: Received | None = field(default=None)

    def __call__(self, received: Received) -> Outcome:
        self.before(received)
        self.received = received
        return self.record(received)


def _study_of(event: StoreEvent) -> str:
    """Return the study of an instance; "" when it cannot be told."""
    try:
        draft = draft_of(event.request)
        if draft is None:
            return read_header(event.encoded_dataset())["StudyInstanceUID"]
        with draft.open() as file:
            return read_header(file)["StudyInstanceUID"]
    except OSError:
        raise NotTaken(
            Status.OUT_OF_RESOURCES,
            event.request.AffectedSOPClassUID,
            event.request.AffectedSOPInstanceUID,
        ) from None
    except Exception:  # noqa: BLE001 - what pydicom raises is not documented
        return ""


def answer_of(told: list[Told], base: str) -> tuple[int, Dataset]:
    """Return the status of the answer, and what it says of each part.

    References
    ----------
    DICOM PS3.18 10.5.3, I.2
    """
    stored = [each for each in told if each.status == Status.SUCCESS]
    failed = [each for each in told if each.status != Status.SUCCESS]
    ds = Dataset()
    ds.RetrieveURL = _study_url(told, base)
    if stored:
        ds.ReferencedSOPSequence = [_stored_item(each, base) for each in stored]
    if known := [each for each in failed if each.sop_instance_uid]:
        ds.FailedSOPSequence = [_failed_item(each) for each in known]
    if unknown := [each for each in failed if not each.sop_instance_uid]:
        ds.OtherFailuresSequence = [_failed_item(each) for each in unknown]
    if not failed:
        return 200, ds
    if stored:
        return 202, ds
    # Nothing was stored, for want of the archive or the database alone: it may be sent again.
    is_for_later = all(each.status == Status.OUT_OF_RESOURCES for each in failed)
    return (503 if is_for_later else 409), ds


def _study_url(told: list[Told], base: str) -> str | None:
    """Return the URL of the study that all was stored in; None when there is no single one."""
    studies = {
        each.received.study_instance_uid
        for each in told
        if each.received is not None and each.status == Status.SUCCESS
    }
    return url_of(base, *studies) if len(studies) == 1 else None


def _stored_item(told: Told, base: str) -> Dataset:
    item = _item(told)
    if (received := told.received) is not None:
        uids = received.study_instance_uid, received.series_instance_uid, received.sop_instance_uid
        item.RetrieveURL = url_of(base, *uids)
    return item


def _failed_item(told: Told) -> Dataset:
    item = _item(told)
    item.FailureReason = told.status
    return item


def _item(told: Told) -> Dataset:
    item = Dataset()
    if told.sop_instance_uid:
        # Perhaps no UIDs at all: they are said back as they came.
        item.add_new("ReferencedSOPClassUID", "UI", told.sop_class_uid[:64])
        item.add_new("ReferencedSOPInstanceUID", "UI", told.sop_instance_uid[:64])
    return item
