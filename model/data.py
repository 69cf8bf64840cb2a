"""Finding, reading and splitting training images; what is wrong with a data set is said first."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import FloatImage, Preprocessing, prepare

NORMAL, BACTERIAL, VIRAL, PNEUMONIA = "normal", "bacterial", "viral", "pneumonia"

# Folder names (lower case) of known layouts -> label.
FOLDER_LABELS = {
    "normal": NORMAL,
    "no_findings": NORMAL,
    "pneumonia": PNEUMONIA,
    "bacterial": BACTERIAL,
    "bacteria": BACTERIAL,
    "viral": VIRAL,
    "virus": VIRAL,
}
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
SUFFIXES = frozenset({".jpeg", ".jpg", ".png"}) | DICOM_SUFFIXES
MINIMUM_VALIDATION = 50  # images; the public set's val/ has 16, which measures nothing

# The public paediatric set says patient and kind in the file name.
_PNEUMONIA_NAME = re.compile(r"person(?P<id>\d+)_(?P<kind>bacteria|virus)_")
_NORMAL_NAME = re.compile(r"(?:NORMAL2-)?IM-(?P<id>\d+)-")
_NIH_NAME = re.compile(r"(?P<id>\d{8})_\d{3}$")


class DataError(Exception):
    """The data folder cannot be trained on or evaluated; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image file.

    Parameters
    ----------
    path
        The file.
    label
        One of `NORMAL`, `BACTERIAL`, `VIRAL`, `PNEUMONIA` (a pneumonia of unstated kind).
    patient
        Images with the same value are of one patient and are never split apart.
    """

    path: Path
    label: str
    patient: str

    @property
    def pneumonia(self) -> bool:
        """Whether the image shows a pneumonia of any kind."""
        return self.label != NORMAL


@dataclass(frozen=True, slots=True)
class Loaded:
    """Images in memory, ready for the network.

    Parameters
    ----------
    examples
        The images that could be read.
    images
        Shape (N, size, size), float16, in [0, 1], in the order of `examples`.
    unreadable
        Path and reason of each file that could not be read.
    """

    examples: list[Example]
    images: NDArray[np.float16]
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def patient_of(path: Path) -> str:
    """Return what identifies the patient in a file name; the whole stem when nothing does.

    Normals `IM-7-…` and `NORMAL2-IM-7-…` are counted as one patient: they may be two, but a
    patient on both sides of a split would flatter the result.
    """
    stem = path.stem
    for prefix, pattern in (("person", _PNEUMONIA_NAME), ("IM", _NORMAL_NAME), ("nih", _NIH_NAME)):
        found = pattern.match(stem)
        if found:
            return f"{prefix}{int(found['id'])}"
    return stem


def label_of(path: Path, folder: str) -> str:
    """Return the label of a file: from its name if that says the kind, else from its folder."""
    label = FOLDER_LABELS[folder.lower()]
    named = _PNEUMONIA_NAME.match(path.stem)
    if label == PNEUMONIA and named:
        return BACTERIAL if named["kind"] == "bacteria" else VIRAL
    return label


def find_examples(folder: Path) -> list[Example]:
    """List the labelled images of `folder/<label>/`, sorted by path.

    Raises
    ------
    DataError
        If the folder is missing, has no label folders, or a label folder has no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    labelled = sorted(d for d in folder.iterdir() if d.name.lower() in FOLDER_LABELS)
    if not labelled:
        raise DataError(f"{folder} has no label folders (such as NORMAL and PNEUMONIA)")
    examples: list[Example] = []
    for directory in labelled:
        paths = image_files(directory)
        if not paths:
            raise DataError(f"class {directory.name} is empty: no image in {directory}")
        examples += [Example(p, label_of(p, directory.name), patient_of(p)) for p in paths]
    return examples


def image_files(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def find_splits(folder: Path, fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Return training and validation examples.

    Reads `folder/train` and `folder/val` where they exist, else `folder` itself; a missing or
    too small `val/` is replaced by a split of the training images by patient. `test/` is
    never read.

    Raises
    ------
    DataError
        If there is nothing to train on, or one class only.
    """
    nested = (folder / "train").is_dir()
    train = find_examples(folder / "train" if nested else folder)
    if len({e.pneumonia for e in train}) < 2:
        raise DataError(f"{folder} has one class only: both normal and pneumonia are needed")
    if nested and (folder / "val").is_dir():
        validation = find_examples(folder / "val")
        if len(validation) >= MINIMUM_VALIDATION:
            return train, validation
    return split_by_patient(train, fraction, seed)


def split_by_patient(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split so that no patient is on both sides, stratified by the label of the patient's images.

    Parameters
    ----------
    examples
        What to split.
    fraction
        Share of the patients of each stratum that goes to the second part, in (0, 1).
    seed
        Same seed, same split.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        labels[example.patient].add(example.label)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient in sorted(labels):
        strata[tuple(sorted(labels[patient]))].append(patient)
    generator = np.random.default_rng(seed)
    held: set[str] = set()
    for stratum in sorted(strata):
        patients = strata[stratum]
        count = max(1, round(fraction * len(patients))) if len(patients) > 1 else 0
        held.update(generator.permutation(np.array(patients))[:count].tolist())
    first = [e for e in examples if e.patient not in held]
    return first, [e for e in examples if e.patient in held]


def class_labels(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return the classes to train: three where every pneumonia states its kind, else two."""
    found = {e.label for e in examples}
    if {BACTERIAL, VIRAL} <= found and PNEUMONIA not in found:
        return (NORMAL, BACTERIAL, VIRAL)
    return (NORMAL, PNEUMONIA)


def class_index(examples: Sequence[Example], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the class of each example as its index in `labels`, shape (N,)."""
    return np.array(
        [labels.index(e.label) if e.label in labels else labels.index(PNEUMONIA) for e in examples],
        dtype=np.int64,
    )


def read_image(path: Path) -> FloatImage:
    """Read a JPEG, PNG or DICOM file as (rows, columns) float32 in [0, 1], air dark.

    Raises
    ------
    OSError, ValueError, dicom_node.errors.InstanceError
        If the file cannot be read as an image.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return _read_dicom(path)
    with Image.open(path) as opened:
        deep = opened.mode.startswith("I")
        grey = opened if deep or opened.mode == "F" else opened.convert("L")
        pixels = np.asarray(grey, dtype=np.float32)
    return pixels / (65535.0 if deep else 255.0)


def _read_dicom(path: Path) -> FloatImage:
    import pydicom

    from dicom_node.pixels import to_pixels

    return np.asarray(to_pixels(pydicom.dcmread(path)), dtype=np.float32)


def load(
    examples: Sequence[Example],
    spec: Preprocessing,
    *,
    workers: int = 4,
    on_read: Callable[[], object] = lambda: None,
) -> Loaded:
    """Read and prepare images; unreadable files are left out and named.

    Raises
    ------
    DataError
        If no file could be read.
    """
    with ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(lambda e: _read_or_reason(e, spec, on_read), examples))
    kept: list[Example] = []
    images: list[NDArray[np.float16]] = []
    unreadable: list[tuple[Path, str]] = []
    for example, outcome in zip(examples, outcomes, strict=True):
        if isinstance(outcome, str):
            unreadable.append((example.path, outcome))
        else:
            kept.append(example)
            images.append(outcome)
    if not images:
        raise DataError(f"none of {len(examples)} images could be read")
    return Loaded(kept, np.stack(images), unreadable)


def _read_or_reason(
    example: Example, spec: Preprocessing, on_read: Callable[[], object]
) -> NDArray[np.float16] | str:
    """Return the prepared image, or why there is none: one bad file must not stop a training."""
    try:
        return prepare(read_image(example.path), spec).astype(np.float16)
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged files
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        on_read()


def duplicates(first: Sequence[Example], second: Sequence[Example]) -> list[tuple[Path, Path]]:
    """Return pairs of byte-identical files on the two sides of a split."""
    known = {_digest(e.path): e.path for e in first}
    return [(known[d], e.path) for e in second if (d := _digest(e.path)) in known]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a digest of names, labels and sizes: which data a model was trained on."""
    lines = sorted(f"{e.path.name}\t{e.label}\t{e.path.stat().st_size}" for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def balance(examples: Iterable[Example]) -> str:
    """Describe how many images of each label there are, in one line."""
    counts = Counter(e.label for e in examples)
    return ", ".join(f"{label} {counts[label]}" for label in sorted(counts))
