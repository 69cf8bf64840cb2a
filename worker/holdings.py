"""What stands behind queries, retrievals and requests for commitment: ledger and archive."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.inflating import read_before_pixels
from dicom_node.query import UNIQUE_KEYS, Wanted, attributes_of
from dicom_node.query_scp import SEARCH_LIMIT, too_many
from dicom_node.records import Reference
from dicom_node.status import Status
from dicom_node.store import Source, Store
from worker import ledger
from worker.database import SessionFactory
from worker.ledger import Holding, Narrowing
from worker.tables import Study

log = logging.getLogger(__name__)

_PAGE = 100
_MODALITIES = {
    **dict.fromkeys(REPORT_SOP_CLASSES, "SR"),
    str(KeyObjectSelectionDocumentStorage): "KO",
    str(SecondaryCaptureImageStorage): "OT",
}


def committer(sessions: SessionFactory, archive: Store) -> Callable[[Reference], int | None]:
    """Make the callback that tells whether an instance is durably stored here.

    It is when its row is committed, and its file is there with all its bytes (PS3.4 J.3.3).
    """

    def failure_of(reference: Reference) -> int | None:
        with sessions() as session:
            held = ledger.holding(session, reference.sop_instance_uid)
        if held is None:
            return Status.NO_SUCH_INSTANCE
        if held.sop_class_uid != reference.sop_class_uid:
            return Status.CLASS_INSTANCE_CONFLICT
        return None if _is_whole(held, archive) else Status.PROCESSING_FAILURE

    return failure_of


def _is_whole(held: Holding, archive: Store) -> bool:
    try:
        if held.size_bytes is not None:
            return archive.size(held.path) == held.size_bytes
        return hashlib.sha256(archive.read(held.path)).hexdigest() == held.sha256
    except OSError as error:
        log.error(  # noqa: TRY400
            "%s is not in the archive: %s", held.sop_instance_uid, error.strerror
        )
        return False


def retriever(sessions: SessionFactory, archive: Store) -> Callable[[Wanted], Sequence[Source]]:
    """Make the callback that finds the files of ours that a retrieval asks for."""

    def retrieve(wanted: Wanted) -> Sequence[Source]:
        return [
            archive.source(held.path)
            for _, held in asked_for(sessions, archive, wanted)
            if held.is_ours
        ]

    return retrieve


def asked_for(
    sessions: SessionFactory, archive: Store, wanted: Wanted
) -> Iterator[tuple[Study, Holding]]:
    """Give what a retrieval asks for, received or made, each with its study."""
    for study, holdings in _pages(sessions, wanted):
        for held in holdings:
            if _is_asked_for(held, wanted, archive):
                yield study, held


def _is_asked_for(held: Holding, wanted: Wanted, archive: Store) -> bool:
    """Compare the unique keys of series and instance, as far as they are given."""
    instances = wanted.values(UNIQUE_KEYS["IMAGE"])
    if instances and held.sop_instance_uid not in instances:
        return False
    series = wanted.values(UNIQUE_KEYS["SERIES"])
    return not series or _series_of(held, archive) in series


def finder(
    sessions: SessionFactory, archive: Store, most: int = SEARCH_LIMIT
) -> Callable[[Wanted], Iterable[Dataset]]:
    """Make the callback that gives the entities that may match a query, the newest first.

    Names are not in the database: all that the files say is read from them, as it is asked for.
    That raises `QueryFailure` when, of studies that are not named, too much would be looked at.

    Parameters
    ----------
    sessions, archive
        Where it looks.
    most : int
        How much is looked at: studies, or instances where those or their series are sought.
    """

    def find(wanted: Wanted) -> Iterator[Dataset]:
        pages = _within(most, _pages(sessions, wanted), wanted)
        return chain.from_iterable(_made(study, held, wanted, archive) for study, held in pages)

    def find_patients(wanted: Wanted) -> Iterator[Dataset]:
        seen: set[str] = set()
        for entity in find(wanted):
            patient_id = str(entity.get("PatientID") or "")
            if patient_id and patient_id not in seen:
                seen.add(patient_id)
                yield entity

    return lambda wanted: (find_patients if wanted.level == "PATIENT" else find)(wanted)


def _within(
    most: int, pages: Iterable[tuple[Study, list[Holding]]], wanted: Wanted
) -> Iterator[tuple[Study, list[Holding]]]:
    """End a search that looks at too much, whether or not it finds anything.

    Studies that are named, or whose instances are, are few enough.
    """
    is_named = wanted.values(UNIQUE_KEYS["STUDY"]) or wanted.values(UNIQUE_KEYS["IMAGE"])
    looked_at = 0
    for study, held in pages:
        if looked_at >= most and not is_named:
            raise too_many()
        looked_at += len(held) if wanted.level in ("SERIES", "IMAGE") else 1
        yield study, held


def _pages(sessions: SessionFactory, wanted: Wanted) -> Iterator[tuple[Study, list[Holding]]]:
    """Give studies that may match, each with what is held of it; no transaction stays open."""
    narrowing, after = _narrowed(sessions, wanted), None
    while narrowing is not None:
        with sessions() as session:
            page = ledger.studies_by(session, narrowing, after=after, limit=_PAGE)
            held = ledger.holdings_of(session, [study.id for study in page])
        yield from ((study, held[study.id]) for study in page if held[study.id])
        if len(page) < _PAGE:
            return
        after = page[-1]


def _narrowed(sessions: SessionFactory, wanted: Wanted) -> Narrowing | None:
    """Take from a query what the database can tell; None when nothing can match."""
    narrowing, uids = narrow(wanted), wanted.values(UNIQUE_KEYS["IMAGE"])
    if narrowing.study_instance_uids or not uids:
        return narrowing
    with sessions() as session:
        studies = ledger.studies_with(session, uids)
    return replace(narrowing, study_instance_uids=studies) if studies else None


def narrow(wanted: Wanted) -> Narrowing:
    """Take from a query what the database can tell; it may let through too much, never too little.

    Parameters
    ----------
    wanted : Wanted
        The query.
    """

    def single(keyword: str) -> str:
        values = wanted.values(keyword)
        return values[0] if len(values) == 1 and not set("*?") & set(values[0]) else ""

    low, dash, high = single("StudyDate").replace(".", "").partition("-")
    return Narrowing(
        study_instance_uids=wanted.values(UNIQUE_KEYS["STUDY"]),
        patient_id=single("PatientID"),
        accession_number=single("AccessionNumber"),
        study_date_from=low,
        study_date_to=high if dash else low,
    )


def _studies(
    study: Study, held: list[Holding], wanted: Wanted, archive: Store
) -> Iterator[Dataset]:
    entity = _entity(held[0], study, wanted, archive)
    _say(
        entity,
        ModalitiesInStudy=sorted({_modality(each) for each in held} - {""}),
        SOPClassesInStudy=sorted({each.sop_class_uid for each in held}),
        NumberOfStudyRelatedInstances=len(held),
    )
    if "NumberOfStudyRelatedSeries" in wanted.identifier:
        series = {_series_of(each, archive) for each in held}
        _say(entity, NumberOfStudyRelatedSeries=len(series))
    _mark(entity, any(each.is_ours for each in held))
    yield entity


def _series(study: Study, held: list[Holding], wanted: Wanted, archive: Store) -> Iterator[Dataset]:
    by_series: dict[str, list[Holding]] = {}
    for each in held:
        by_series.setdefault(_series_of(each, archive), []).append(each)
    for uid, members in by_series.items():
        entity = _entity(members[0], study, wanted, archive)
        _say(
            entity,
            SeriesInstanceUID=uid,
            Modality=_modality(members[0]),
            NumberOfSeriesRelatedInstances=len(members),
        )
        _mark(entity, members[0].is_ours)
        yield entity


def _images(study: Study, held: list[Holding], wanted: Wanted, archive: Store) -> Iterator[Dataset]:
    # One by C-FIND; over the web there may be several, or none, which seeks in all of them.
    seeks = wanted.values(UNIQUE_KEYS["SERIES"])
    for each in held:
        series = _series_of(each, archive)
        if seeks and series not in seeks:
            continue
        entity = _entity(each, study, wanted, archive)
        _say(
            entity,
            SOPClassUID=each.sop_class_uid,
            SOPInstanceUID=each.sop_instance_uid,
            SeriesInstanceUID=series,
        )
        _mark(entity, each.is_ours)
        yield entity


def _made(study: Study, held: list[Holding], wanted: Wanted, archive: Store) -> list[Dataset]:
    """Make the entities of a study; one that cannot be made must not end the query."""
    try:
        return list(_LEVELS[wanted.level](study, held, wanted, archive))
    except Exception as error:  # noqa: BLE001 - what pydicom raises is not documented
        why = type(error).__name__
        log.warning("a query leaves out study %s: %s", study.study_instance_uid, why)
        return []


_LEVELS = {"PATIENT": _studies, "STUDY": _studies, "SERIES": _series, "IMAGE": _images}


def _entity(held: Holding, study: Study, wanted: Wanted, archive: Store) -> Dataset:
    """Return what a file says, and what the database says where there is no file."""
    keywords = {*attributes_of(wanted.level), "StudyInstanceUID"}
    entity = _header(held, keywords, archive)
    if "StudyInstanceUID" not in entity:
        entity.PatientID = study.patient_id
        entity.AccessionNumber = study.accession_number
        entity.StudyDate = study.study_date
    _say(entity, StudyInstanceUID=study.study_instance_uid, InstanceAvailability="ONLINE")
    return entity


def _say(entity: Dataset, **values: object) -> None:
    """Set attributes, whatever the file has in their place."""
    for keyword, value in values.items():
        entity.pop(keyword, None)
        setattr(entity, keyword, value)


def _mark(entity: Dataset, is_retrievable: bool) -> None:
    """Say whether it, or part of it, can be had from here: only what we made."""
    entity.pop("RetrieveAETitle", None)
    if is_retrievable:
        entity.RetrieveAETitle = ""


def _header(held: Holding, keywords: Iterable[str], archive: Store) -> Dataset:
    try:
        with archive.open(held.path) as file:
            return read_before_pixels(file, list(keywords))[0]
    except Exception as error:  # noqa: BLE001 - what pydicom raises is not documented
        log.warning("a query cannot read %s: %s", held.sop_instance_uid, type(error).__name__)
        return Dataset()


def _series_of(held: Holding, archive: Store) -> str:
    if held.series_instance_uid is not None:
        return held.series_instance_uid
    return str(_header(held, ["SeriesInstanceUID"], archive).get("SeriesInstanceUID", ""))


def _modality(held: Holding) -> str:
    return held.modality or _MODALITIES.get(held.sop_class_uid, "")
