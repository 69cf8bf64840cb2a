"""Which stored objects a path means, received or made, and what is said when there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final

from fastapi import HTTPException, Path, Request
from pydicom.dataset import Dataset

from dicom_node.query import Wanted
from worker import holdings, ledger
from worker.audit.messages import StudyOf
from worker.reading import ArchiveAway, FileGone, open_stored
from worker.web.api.asked import UID_PATTERN
from worker.web.services import Services

SeriesUid = Annotated[
    str, Path(pattern=UID_PATTERN, max_length=64, description="Series Instance UID")
]
SopUid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64, description="SOP Instance UID")]

_LEVELS: Final = ("studies", "series", "instances")
_KEYS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_AWAY: Final = "The archive cannot be read just now; try again soon."


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in the archive.

    Attributes
    ----------
    study
        Which it belongs to, for the audit trail.
    path
        In the archive.
    """

    study: StudyOf
    sop_class_uid: str
    sop_instance_uid: str
    path: str


def base_of(request: Request) -> str:
    """Give the URL that all paths are below, as the client came by."""
    return str(request.base_url.replace(path=request.scope["root_path"]))


def url_of(base: str, *uids: str) -> str:
    """Give the URL of a study, a series of it, or an instance of that."""
    return "/".join([base, *(f"{level}/{uid}" for level, uid in zip(_LEVELS, uids, strict=False))])


def find(services: Services, *uids: str) -> list[Stored]:
    """Give the objects of a study, of a series of it, or one of that series.

    Raises
    ------
    HTTPException
        404 when there are none, 410 when they were removed, 503 when the archive is away.
    """
    identifier = Dataset()
    for keyword, uid in zip(_KEYS, uids, strict=False):
        setattr(identifier, keyword, uid)
    wanted = Wanted(("STUDY", "SERIES", "IMAGE")[len(uids) - 1], identifier)
    archive = services.desk.archive
    found = [
        Stored(
            StudyOf(study.study_instance_uid, study.patient_id),
            held.sop_class_uid, held.sop_instance_uid, held.path,
        )
        for study, held in holdings.asked_for(services.reading, archive, wanted)
    ]  # fmt: skip
    if not archive.is_there():
        raise HTTPException(503, _AWAY)
    if not found:
        raise _none(services, *uids)
    return found


def find_one(services: Services, *uids: str) -> Stored:
    """Give an object; raises as `find` does."""
    return find(services, *uids)[0]


def _none(services: Services, study: str, series: str = "", instance: str = "") -> HTTPException:
    with services.reading() as session:
        held = not series or bool(instance)
        if held and ledger.was_removed(session, study, instance):
            return HTTPException(410, "It was here and was removed; the archive keeps it no more.")
    return HTTPException(404, "No such study, series or instance is here.")


def still_there(services: Services, found: Sequence[Stored]) -> list[Stored]:
    """Give those whose files are there.

    Raises
    ------
    HTTPException
        404 when there is none.
    """
    kept = [each for each in found if services.desk.archive.has(each.path)]
    if not kept:
        raise HTTPException(404, "What was stored is gone from the archive.")
    return kept


@contextmanager
def opened(services: Services, stored: Stored) -> Iterator[BinaryIO]:
    """Open a file.

    Raises
    ------
    HTTPException
        404 when it is gone, 503 when the archive is away.
    """
    try:
        file = open_stored(services.desk.archive, stored.path)
    except FileGone as error:
        raise HTTPException(404, "It is gone from the archive.") from error
    except ArchiveAway as error:
        raise HTTPException(503, _AWAY) from error
    with file:
        yield file
