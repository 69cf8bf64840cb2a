"""What goes with a report where a destination wants it: pictures, and a flag for positives.

A companion is named by what it shows, not by the report it goes with. So a later revision of the
report takes over what has not changed, and a PACS never holds two pictures of one answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node.errors import InstanceError
from dicom_node.store import Store
from worker.ledger import NewCompanion, Story
from worker.reading import ArchiveAway, open_stored, pixels_of, read_to_decode, still_there
from worker.states import CompanionKind, Finding
from worker.tables import FindingRow, Instance
from worker.writing import answer_of, device_of, headers_of, instance_finding, store

if TYPE_CHECKING:
    from dicom_node.decoder_child import Decoder

log = logging.getLogger(__name__)

# Part of every picture's UID: an answer that is drawn in another way is another object.
PICTURE_VERSION = "1"

Found = tuple[Instance, FindingRow]


class _Plan(NamedTuple):
    """A companion to be: `build` is called with its UID, if there is none of that name yet."""

    kind: CompanionKind
    sop_class_uid: str
    uid: str
    about: str  # the UID that a log line names
    build: Callable[[str], bytes]


def write_companions(
    archive: Store, decoder: Decoder, story: Story, kinds: Collection[CompanionKind]
) -> list[NewCompanion]:
    """Build what goes with the report of a study and write it to the archive.

    Everything in it follows from the ledger, so that a retry writes the same bytes. What is there
    from an earlier report stays as it is. One that cannot be made never fails the report.

    Parameters
    ----------
    kinds
        What destinations want: a picture of each image that was assessed, and a key object when
        pneumonia is present in any.

    Raises
    ------
    ArchiveAway
        When the archive cannot be read, or takes nothing now.
    """
    plans = [*_pictures(archive, decoder, story), *_key_objects(archive, story)]
    written = [_written(archive, story, plan) for plan in plans if plan.kind in kinds]
    return [companion for companion in written if companion is not None]


def _written(archive: Store, story: Story, plan: _Plan) -> NewCompanion | None:
    known = story.companions.get(plan.uid)
    if known is not None:
        return known
    try:
        data = plan.build(plan.uid)
    except ArchiveAway:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, the report goes without
        words = str(error) if isinstance(error, InstanceError) else type(error).__name__
        log.warning("%s goes without a %s: %s", plan.about, plan.kind, words)
        return None
    stored = store(archive, story.study.study_instance_uid, plan.uid, data)
    return NewCompanion(plan.kind, plan.sop_class_uid, plan.uid, stored.path, stored.sha256)


def _series_uid(story: Story, kind: CompanionKind) -> str:
    from dicom_node.uids import companion_series_uid

    return companion_series_uid(story.study.study_instance_uid, story.model.digest, kind)


# --- pictures --------------------------------------------------------------------------------


def _pictures(archive: Store, decoder: Decoder, story: Story) -> Iterator[_Plan]:
    """Plan a picture of each image that was assessed; the others are the report's concern.

    Of one that was removed there is the picture that was made, or none.
    """
    from dicom_node.uids import companion_uid

    series_uid = _series_uid(story, CompanionKind.PICTURE)
    for number, (instance, row) in enumerate(story.findings, 1):
        if row.assessed:
            heat = "without map" if row.heatmap is None else "with map"
            shown = (instance.sop_instance_uid, answer_of(row), heat, PICTURE_VERSION)
            uid = companion_uid(series_uid, *shown)
            if instance.removed_at is not None and uid not in story.companions:
                continue
            build = partial(_capture, archive, decoder, story, (instance, row), number)
            yield _Plan(
                CompanionKind.PICTURE, SecondaryCaptureImageStorage, uid,
                instance.sop_instance_uid, build,
            )  # fmt: skip


def _capture(
    archive: Store, decoder: Decoder, story: Story, found: Found, number: int, uid: str
) -> bytes:
    from dicom_node.capture import build_capture
    from worker.picture import decode_heat, draw

    instance, row = found
    with open_stored(archive, instance.path) as file, still_there():
        source = read_to_decode(file)
        pixels = pixels_of(decoder, source, file, instance.sop_instance_uid)
    device = device_of(story.model)
    picture = draw(
        pixels,
        instance_finding(instance, row),
        f"{device.name} {device.version}",
        calibrated=device.calibrated,
        heat=None if row.heatmap is None else decode_heat(row.heatmap),
    )
    return build_capture(
        source, picture, device,
        sop_instance_uid=uid,
        series_instance_uid=_series_uid(story, CompanionKind.PICTURE),
        instance_number=number,
        content_datetime=row.created_at.astimezone(),
    )  # fmt: skip


# --- key objects -----------------------------------------------------------------------------


def _key_objects(archive: Store, story: Story) -> Iterator[_Plan]:
    """Plan the one key object when there is something to flag."""
    from dicom_node.uids import companion_uid

    positive = [(i, row) for i, row in story.findings if row.finding == Finding.PRESENT]
    if positive:
        flagged = sorted(instance.sop_instance_uid for instance, _ in positive)
        uid = companion_uid(_series_uid(story, CompanionKind.KEY_OBJECT), *flagged)
        build = partial(_key_object, archive, story, positive)
        yield _Plan(
            CompanionKind.KEY_OBJECT, KeyObjectSelectionDocumentStorage, uid,
            story.study.study_instance_uid, build,
        )  # fmt: skip


def _key_object(archive: Store, story: Story, positive: list[Found], uid: str) -> bytes:
    from dicom_node.key_object import build_key_object

    headers = headers_of(archive, [instance for instance, _ in positive])
    return build_key_object(
        headers or headers_of(archive, [instance for instance, _ in story.findings]),
        [instance.sop_instance_uid for instance, _ in positive],
        device_of(story.model),
        sop_instance_uid=uid,
        series_instance_uid=_series_uid(story, CompanionKind.KEY_OBJECT),
        instance_number=len(positive),  # a later selection of the study has more
        content_datetime=max(row.created_at for _, row in positive).astimezone(),
    )
