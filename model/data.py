"""Finding, labelling, splitting and loading images; nothing in a data folder is dropped unsaid."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from model.images import files_below, is_image, is_junk, read_image
from model.patients import PNEUMONIA_NAME, tell_apart
from model.preprocess import Preprocessing, prepare

NORMAL, BACTERIAL, VIRAL, PNEUMONIA = "normal", "bacterial", "viral", "pneumonia"

# Folder names (lower case, with _ for what is no letter or digit) of known layouts -> label.
FOLDER_LABELS = {
    "normal": NORMAL,
    "no_finding": NORMAL,
    "no_findings": NORMAL,
    "healthy": NORMAL,
    "negative": NORMAL,
    "pneumonia": PNEUMONIA,
    "positive": PNEUMONIA,
    "bacterial": BACTERIAL,
    "bacteria": BACTERIAL,
    "bacterial_pneumonia": BACTERIAL,
    "viral": VIRAL,
    "virus": VIRAL,
    "viral_pneumonia": VIRAL,
    "covid": VIRAL,
    "covid_19": VIRAL,
}
PARTS = TRAIN, VALIDATION, TEST = "train", "val", "test"

# What to do with a folder whose name may mean anything.
_RENAME = "call it NORMAL, PNEUMONIA, BACTERIAL or VIRAL, or take it out"

Say = Callable[[str], object]  # takes one line for a person


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
    patient: str = field(repr=False)

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


def many(count: int, what: str) -> str:
    """Return a number of things in words, such as `1 image`."""
    return f"{count} {what}{'s' * (count != 1)}"


def known_label(name: str) -> str | None:
    """Return the label that a folder's name says, or None."""
    return FOLDER_LABELS.get(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))


def kind_of(path: Path, label: str) -> str:
    """Return the label of a file: from its name if that says the kind, else that of its folder."""
    named = PNEUMONIA_NAME.match(path.stem)
    if label == PNEUMONIA and named:
        return BACTERIAL if named["kind"] == "bacteria" else VIRAL
    return label


def find_examples(folder: Path, say: Say = print) -> list[Example]:
    """List the labelled images of `folder/<label>/`, sorted by path.

    Where one folder is known to hold the normals and none to hold pneumonias, the other folders
    must: they count as pneumonia of unstated kind, and it is said.

    Parameters
    ----------
    folder
        See above.
    say
        Is told, in lines, of whatever is left out or taken for something.

    Raises
    ------
    DataError
        If the folder is missing or not readable, has no label folders, a label folder has no image,
        or a folder's name does not say what its images show.
    """
    with refusing(folder):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder")
        files = {d: files_below(d) for d in _subfolders(folder)}
        loose = [p for p in folder.iterdir() if not is_junk(p) and p.is_file() and is_image(p)]
        images = {d: [p for p in paths if is_image(p)] for d, paths in files.items()}
        labels = _folder_labels(folder, images, say)
        patients = tell_apart({d: images[d] for d in labels}, say)
    examples = [
        Example(p, kind_of(p, label), patients[p]) for d, label in labels.items() for p in images[d]
    ]
    if loose:
        say(f"left out: {many(len(loose), 'image')} in {folder} itself, in no label folder")
    others = Counter(p.suffix for d in labels for p in sorted({*files[d]} - {*images[d]}))
    if others:
        told = ", ".join(
            f"{n} {suffix or 'without suffix'}" for suffix, n in sorted(others.items())
        )
        say(f"left out: {many(others.total(), 'file')}, no JPEG, PNG or DICOM ({told})")
    return examples


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Tell in one line of a folder that the system does not let us read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def part(folder: Path, name: str) -> Path | None:
    """Return the subfolder `train`, `val` or `test`, whatever its case, or None.

    Raises
    ------
    DataError
        If the folder cannot be read.
    """
    with refusing(folder):
        inside = _subfolders(folder) if folder.is_dir() else []
    return next((d for d in inside if d.name.lower() == name), None)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(d for d in folder.iterdir() if d.is_dir() and not is_junk(d))


def _folder_labels(
    folder: Path, images: Mapping[Path, Sequence[Path]], say: Say
) -> dict[Path, str]:
    """Return the label of each label folder, in order; refuse what may mean anything."""
    labels = {d: known_label(d.name) for d in images}
    for directory in (d for d, label in labels.items() if label and not images[d]):
        raise DataError(f"class {directory.name} is empty: no image in {directory}")
    beside = [d.name for d in images if d.name.lower() in PARTS]
    if beside:
        say(f"not read: {', '.join(beside)} in {folder}, beside its label folders")
    unknown = [d for d in images if not labels[d] and images[d] and d.name not in beside]
    known = {label for label in labels.values() if label}
    if unknown and known != {NORMAL}:
        raise DataError(f"{folder}: {_named(unknown)}: normal or pneumonia? {_RENAME}")
    if not known:
        raise DataError(f"{folder} has no label folders (such as NORMAL and PNEUMONIA)")
    if unknown:
        say(f"{folder}: {_named(unknown)}: counted as pneumonia, as NORMAL is known beside it")
    return {d: label or PNEUMONIA for d, label in labels.items() if label or d in unknown}


def _named(folders: Iterable[Path]) -> str:
    return "folder " + ", ".join(d.name for d in folders)


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
        told = "".join(f" ({path.name}: {why})" for path, why in unreadable[:1])
        raise DataError(f"none of {len(examples)} images could be read{told}")
    return Loaded(kept, np.stack(images), unreadable)


def _read_or_reason(
    example: Example, spec: Preprocessing, on_read: Callable[[], object]
) -> NDArray[np.float16] | str:
    """Return the prepared image, or why there is none: one bad file must not stop a training."""
    try:
        return prepare(read_image(example.path), spec).astype(np.float16)
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged files
        if isinstance(error, UnidentifiedImageError):
            return "no image"
        return (str(error) or type(error).__name__).splitlines()[0]
    finally:
        on_read()


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a digest of names, labels and sizes: which data a model was trained on."""
    lines = sorted(f"{e.path.name}\t{e.label}\t{e.path.stat().st_size}" for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def balance(examples: Iterable[Example]) -> str:
    """Describe how many images of each label there are, in one line."""
    counts = Counter(e.label for e in examples)
    return ", ".join(f"{label} {counts[label]}" for label in sorted(counts))
