"""Writes what readers say as a folder that `model/train.py` reads."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom_node.errors import InstanceError, PacsWorkerError
from worker import consensus, ledger
from worker.audit.messages import StudyOf
from worker.consensus import Labelled
from worker.desk import Desk
from worker.pseudonyms import key_of, numbered, part_of
from worker.reading import FileGone, open_stored, pixels_of, read_to_decode, still_there

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REMOVED: Final = "the image is not kept any more"
UNREADABLE: Final = "the image cannot be decoded"
TOO_MANY: Final = "beyond 999 images of a patient"
# As many as the file names can number.
_MOST_OF_PATIENT: Final = 999
_QUALITY: Final = 95

README: Final = """\
Images of this installation, labelled by its readers: train, val and test, each with a folder for
each label. PNEUMONIA is of unstated kind.

8-bit grey JPEGs in full size, their grey values as the model is served them. A file is named by the
number of a patient and of an image; the numbers are of this export alone and are kept nowhere. The
image itself may still tell whose it is: by burned-in text, or to whoever has the original. Treat
this folder as patient data.

    python model/train.py --data {folder} --out runs/mine
"""


class FolderRefused(PacsWorkerError):
    """An export goes into an empty folder."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written: images with labels, and how many are left out, for which reason."""

    images: Sequence[Labelled]
    left_out: Counter[str]

    def studies(self) -> list[StudyOf]:
        """Name the studies that something leaves of."""
        found = {
            each.image.study_instance_uid: StudyOf(
                each.image.study_instance_uid, each.image.patient_id
            )
            for each in self.images
        }
        return list(found.values())


@dataclass(slots=True)
class Export:
    """What was written, by part and label, and what was left out."""

    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def plan(desk: Desk, since: datetime, readers: int) -> Plan:
    """Choose the images that got a verdict since a time and that so many readers agree about."""
    with desk.sessions() as session:
        rows = ledger.judged_since(session, since)
    found, why = consensus.agreed(rows, readers)
    kept = [each for each in found if each.image.path and each.image.removed_at is None]
    left_out = Counter(why)
    left_out[REMOVED] = len(found) - len(kept)
    return Plan(kept, left_out)


def require_empty(folder: Path) -> None:
    """Make a folder, or take one that is empty.

    Raises
    ------
    FolderRefused
        When it holds something, or is none.
    """
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FolderRefused(f"{folder} is not empty: name a new folder")
    except OSError as error:
        raise FolderRefused(f"{folder} cannot be used: {error.strerror}") from error


def write(desk: Desk, planned: Plan, folder: Path, *, with_uids: bool = False) -> Export:
    """Write images into an empty folder; `manifest.csv` comes last, and says that it is whole.

    Raises
    ------
    ArchiveAway
        When the archive cannot be read now.
    OSError
        When something cannot be written.
    """
    export = Export(left_out=Counter(planned.left_out))
    rows = list(_written(desk, planned.images, folder, export))
    (folder / "README").write_text(README.format(folder=folder.name))
    with (folder / "manifest.csv").open("w", newline="") as file:
        names = ["file", "label", *(["sop_instance_uid"] if with_uids else [])]
        manifest = csv.DictWriter(file, names, extrasaction="ignore")
        manifest.writeheader()
        manifest.writerows(sorted(rows, key=lambda row: str(row["file"])))
    return export


def _written(
    desk: Desk, images: Sequence[Labelled], folder: Path, export: Export
) -> Iterator[dict[str, str]]:
    key = key_of(desk.settings.home)
    numbers = numbered(_patient(each.image) for each in images)
    counts: Counter[str] = Counter()
    for each in images:
        patient = _patient(each.image)
        counts[patient] += 1
        if counts[patient] > _MOST_OF_PATIENT:
            export.left_out[TOO_MANY] += 1
            continue
        part = part_of(key, patient)
        name = f"{part}/{each.label}/{numbers[patient]:08d}_{counts[patient]:03d}.jpeg"
        why = _write_image(desk, each.image, folder / name)
        if why:
            export.left_out[why] += 1
            continue
        export.written[part, each.label] += 1
        yield {"file": name, "label": each.label, "sop_instance_uid": each.image.sop_instance_uid}


def _patient(image: Any) -> str:
    """Name whose an image is; without a Patient ID, each study is somebody's."""
    patient = str(image.patient_id).strip()
    return f"patient {patient}" if patient else f"study {image.study_instance_uid}"


def _write_image(desk: Desk, image: Any, path: Path) -> str:
    """Write an image; give the reason why there is none, or ""."""
    try:
        grey = _grey(desk, image)
    except FileGone:
        return REMOVED
    except InstanceError:
        return UNREADABLE
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path, format="JPEG", quality=_QUALITY)
    return ""


def _grey(desk: Desk, image: Any) -> NDArray[np.uint8]:
    with open_stored(desk.archive, image.path) as file, still_there():
        ds = read_to_decode(file)
        pixels = pixels_of(desk.decoder, ds, file, image.sop_instance_uid)
    return (pixels.clip(0, 1) * 255).round().astype("uint8")
