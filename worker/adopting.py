"""Takes into the ledger what the archive has and no row names, by the same entry as reception.

So it is when a database was restored that is older than the archive: the files of what was
acknowledged since are there, and nobody owes them anything.

What was removed on purpose must not come back with a copy. In a folder the time of a file tells
whether it came after that, as copies keep it; in a bucket it is the time of the copy.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from io import BytesIO
from itertools import groupby

from dicom_node.clearance import Found
from dicom_node.contexts import STORAGE_SOP_CLASSES
from dicom_node.header import read_header
from dicom_node.object_archive import ObjectArchive
from dicom_node.ours import is_ours
from dicom_node.records import Outcome, Received
from worker import ledger, unnamed
from worker.desk import Desk
from worker.given_up import WriteDown
from worker.node import look_within
from worker.reading import ArchiveAway

log = logging.getLogger(__name__)

# A node that runs enters within a second what it has written.
YOUNG_S = 60.0


class Fate(StrEnum):
    """What becomes of a file that no row names."""

    ADOPTED = "instances to be assessed and reported"
    OURS = "reports, pictures and flags of ours, which are made again where they are owed"
    REMOVED = "that were removed on purpose, or may have been"
    OTHER_BYTES = "of instances that are known with other bytes"
    YOUNG = "younger than a minute, which a node may be writing; look again after it"
    NOT_WHOLE = "that are not what they are called, or no data set"


@dataclass(frozen=True, slots=True)
class Adoption:
    """A file, and what becomes of it."""

    found: Found
    fate: Fate


def adopt(
    desk: Desk, *, write_down: WriteDown | None, also_removed: bool = False
) -> Iterator[Adoption]:
    """Enter instances that no row names, a study at a time; or only tell which.

    A file comes to its study as received when it was written. What was entered by a node meanwhile
    is left as it is; so everything may be done twice, and beside all roles.

    Parameters
    ----------
    write_down : callable or None
        Writes down that a study is taken in; None where only to be told which would be.
    also_removed : bool
        Enter also what was removed on purpose, or may have been.

    Raises
    ------
    ArchiveAway
        When the archive cannot be looked through now.
    """
    before = time.time() - YOUNG_S
    there = (each for each in unnamed.find(desk, 0.0) if each.path == each.named)
    for study, files in groupby(there, key=lambda each: each.study_instance_uid):
        old: list[Found] = []
        for each in files:
            if each.written_at < before:
                old.append(each)
            else:
                yield Adoption(each, Fate.YOUNG)
        yield from _adopt_study(desk, study, old, write_down, also_removed=also_removed)


def _adopt_study(
    desk: Desk,
    study: str,
    files: Iterable[Found],
    write_down: WriteDown | None,
    *,
    also_removed: bool,
) -> Iterator[Adoption]:
    gone_at = None if also_removed else _gone_at(desk, study)
    received: list[tuple[Found, Received]] = []
    for found in sorted(files, key=lambda each: (each.written_at, each.path)):
        looked = _looked_at(desk, found, gone_at)
        if isinstance(looked, Fate):
            yield Adoption(found, looked)
        else:
            received.append((found, looked))
    if write_down is not None and received:
        fates = _enter(desk, [each for _, each in received], write_down)
        yield from (Adoption(each, fate) for (each, _), fate in zip(received, fates, strict=True))
    else:
        yield from (Adoption(each, Fate.ADOPTED) for each, _ in received)


def _gone_at(desk: Desk, study: str) -> datetime | None:
    """Tell until when what was written of a study may have been removed; None when nothing was."""
    with desk.sessions() as session:
        gone_at = ledger.last_removed_at(session, study)
    if gone_at is not None and isinstance(desk.archive, ObjectArchive):
        return datetime.max.replace(tzinfo=UTC)
    return gone_at


def _looked_at(desk: Desk, found: Found, gone_at: datetime | None) -> Received | Fate:
    """Read a file as reception would have; or say why it is not to be entered."""
    try:
        data = desk.archive.read(found.path)
    except FileNotFoundError:
        return Fate.REMOVED
    except OSError as error:
        raise ArchiveAway.because(error) from error
    written_at = datetime.fromtimestamp(found.written_at, UTC)
    try:
        header, (transfer_syntax_uid, calling) = read_header(data), _meta_of(data)
    except Exception as error:  # noqa: BLE001  whatever pydicom raises: it is no data set
        log.warning("%s cannot be read: %s", found.path, type(error).__name__)
        return Fate.NOT_WHOLE
    digest = hashlib.sha256(data).hexdigest()
    why = _why_left(found, header, digest)
    if why is not None or not transfer_syntax_uid:
        return why or Fate.NOT_WHOLE
    if gone_at is not None and written_at <= gone_at:
        return Fate.REMOVED
    return Received(
        sop_instance_uid=header["SOPInstanceUID"],
        sop_class_uid=header["SOPClassUID"],
        study_instance_uid=header["StudyInstanceUID"],
        series_instance_uid=header["SeriesInstanceUID"],
        transfer_syntax_uid=transfer_syntax_uid,
        patient_id=header["PatientID"],
        accession_number=header["AccessionNumber"],
        study_date=header["StudyDate"],
        modality=header["Modality"],
        calling_ae_title=calling,
        association_id=uuid.uuid4().hex,
        path=found.path,
        size=len(data),
        sha256=digest,
        received_at=min(written_at, desk.clock()),
    )


def _why_left(found: Found, header: Mapping[str, str], digest: str) -> Fate | None:
    """Say why a data set is left where it is; None when it is an image under its own name."""
    name = f"{header['SOPInstanceUID']}.{digest[:16]}.dcm"
    if found.path != f"{header['StudyInstanceUID']}/{name}":
        return Fate.NOT_WHOLE
    if is_ours(header):
        return Fate.OURS
    return None if header["SOPClassUID"] in STORAGE_SOP_CLASSES else Fate.NOT_WHOLE


def _meta_of(data: bytes) -> tuple[str, str]:
    """Give the transfer syntax of a file, and who sent it where its meta information says so."""
    from pydicom import dcmread

    meta = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=[]).file_meta
    source = str(meta.get("SourceApplicationEntityTitle", "") or "").strip()
    return str(meta.get("TransferSyntaxUID", "")), source


def _enter(desk: Desk, received: Sequence[Received], write_down: WriteDown) -> list[Fate]:
    """Enter instances of a study in one transaction, so that one report tells of all of them."""
    quiet, fates = timedelta(seconds=desk.settings.quiet_s), list[Fate]()
    is_there = look_within(desk.archive)
    try:
        with desk.sessions() as session, session.begin():
            for each in received:
                outcome = ledger.record(session, each, quiet=quiet, is_there=is_there)
                ledger.close_association(session, each.association_id)
                conflict = outcome is Outcome.CONFLICT
                fates.append(Fate.OTHER_BYTES if conflict else Fate.ADOPTED)
            study = ledger.locked_study(session, received[0].study_instance_uid)
            if study is not None and Fate.ADOPTED in fates:
                write_down(study)
    except ledger.FileVanished:  # removed just now; nothing of the study is entered
        return [Fate.REMOVED] * len(received)
    return [_seen(desk, each, fate) for each, fate in zip(received, fates, strict=True)]


def _seen(desk: Desk, received: Received, fate: Fate) -> Fate:
    """Look for a file after its row: nobody has its bytes who could store them once more."""
    try:
        if fate is not Fate.ADOPTED or desk.archive.stays(received.path):
            return fate
    except OSError as error:
        raise ArchiveAway.because(error) from error
    log.warning("%s was removed just as it was taken in", received.path)
    return Fate.REMOVED
