"""Whose an image is: images of one patient are never split apart, and count as one.

Of identifiers from a header only digests are kept, in memory; none is shown or written anywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from model.images import is_dicom, read_header

# The public paediatric set says patient and kind in the file name.
PNEUMONIA_NAME = re.compile(r"person(?P<id>\d+)_(?P<kind>bacteria|virus)_")
_NORMAL_NAME = re.compile(r"(?:NORMAL2-)?IM-(?P<id>\d+)-")
_NIH_NAME = re.compile(r"(?P<id>\d{8})_\d{3}$")


def tell_apart(
    found: Mapping[Path, Sequence[Path]], say: Callable[[str], object]
) -> dict[Path, str]:
    """Return the patient of each image: the header's, else by the name of file or folder.

    Parameters
    ----------
    found
        Label folder -> its images.
    say
        Is told, in lines, of identifiers that identify nobody.
    """
    headers = {p: _owners(p) for paths in found.values() for p in paths if is_dicom(p)}
    stated = {patient for patient, _ in headers.values()}
    if len(headers) > 1 and len(stated) == 1:
        say(f"Patient ID is the same in all {len(headers)} DICOM images: studies count as patients")
        headers = {p: (study, study) for p, (_, study) in headers.items()}
    named: dict[Path, str] = {}
    for folder, paths in found.items():
        named |= {p: patient_of(p) for p in paths} | _subfolders(folder, paths)
    return named | {p: patient for p, (patient, _) in headers.items() if patient}


def patient_of(path: Path) -> str:
    """Return what identifies the patient in a file name; the whole stem when nothing does.

    Normals `IM-7-…` and `NORMAL2-IM-7-…` are counted as one patient: they may be two, but a
    patient on both sides of a split would flatter the result.
    """
    stem = path.stem
    for prefix, pattern in (("person", PNEUMONIA_NAME), ("IM", _NORMAL_NAME), ("nih", _NIH_NAME)):
        found = pattern.match(stem)
        if found:
            return f"{prefix}{int(found['id'])}"
    return stem


def _subfolders(folder: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Return the subfolder of each image whose name says no patient, where there are several."""
    inside = {p: p.relative_to(folder).parts[0] for p in paths if p.parent != folder}
    if len(set(inside.values())) < 2:
        return {}
    return {p: name for p, name in inside.items() if patient_of(p) == p.stem}


def _owners(path: Path) -> tuple[str, str]:
    """Return digests of the patient's and the study's identifiers, empty where not stated."""
    try:
        ds = read_header(path)
        said = [str(ds.get(name, "") or "").strip() for name in ("PatientID", "StudyInstanceUID")]
    except Exception:  # noqa: BLE001 - an unreadable file is told when its pixels are read
        return "", ""
    patient, study = (hashlib.sha256(v.encode()).hexdigest()[:16] if v else "" for v in said)
    return patient, study
