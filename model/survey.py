"""What is wrong with a data set, said before training starts: few lines, each with its first names.

What would flatter validation is also left out of training: an image that is in both, byte for byte
or encoded again. Different radiographs, also of one child, differ by 0.03 and mostly by 0.1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from model.data import NORMAL, Example, Loaded, Say, balance, load, many
from model.images import is_dicom
from model.preprocess import Preprocessing

FEW = 50  # images of a class, under which figures about it mean little
NAMED = 3  # files shown of each kind of problem
THUMBNAIL = 32  # pixels
SAME = 0.015  # root mean square difference of thumbnails; JPEG of quality 40 makes 0.006
_ROWS = 2048  # compared at once


def describe(train: Sequence[Example], validation: Sequence[Example], say: Say = print) -> None:
    """Say what will be trained on: class balance, patients, small classes."""
    for name, part in (("training", train), ("validation", validation)):
        say(f"{name + ':':11} {many(len(part), 'image')} ({balance(part)}), {_patients(part)}")
    shared = {e.patient for e in train} & {e.patient for e in validation}
    if shared:
        both = _first(e.path for e in validation if e.patient in shared)
        say(f"{many(len(shared), 'patient')} in both training and validation ({both}): validation")
        say("  flatters; without val/ it would be split by patient")
    unnamed = [e.path for e in (*train, *validation) if e.patient == e.path.stem]
    if unnamed:
        say(f"{many(len(unnamed), 'image')} of no known patient ({_first(unnamed)}):")
        say("  each counts as a patient of its own")
    for label, count in sorted(Counter(e.label for e in train).items()):
        if count < FEW:
            say(f"only {many(count, 'image')} of class {label}: figures about it will mean little")


def load_parts(
    train: Sequence[Example],
    validation: Sequence[Example],
    spec: Preprocessing,
    test: Sequence[Path] = (),
    say: Say = print,
) -> tuple[Loaded, Loaded]:
    """Load both parts; leave out what cannot be read, and of training what is held out too.

    Parameters
    ----------
    train, validation
        What to load.
    spec
        How to prepare it.
    test
        Images that the model will be judged on; they are compared with, nothing else.
    say
        Is told, in lines.

    Raises
    ------
    DataError
        If nothing of a part could be read.
    """
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=len(train) + len(validation))
        first, held = (
            load(part, spec, on_read=lambda: bar.advance(task)) for part in (train, validation)
        )
    unreadable = first.unreadable + held.unreadable
    if unreadable:
        told = "; ".join(f"{path.name}: {why}" for path, why in unreadable[:NAMED])
        more = "; …" if len(unreadable) > NAMED else ""
        say(f"left out: {many(len(unreadable), 'file')} that cannot be read ({told}{more})")
    contradictions(first, say)
    first = without_duplicates(first, held, "validation", say)
    if test:
        judged = load([Example(path, NORMAL, "") for path in test], spec)
        first = without_duplicates(first, judged, "test", say)
    return first, held


def without_duplicates(train: Loaded, held: Loaded, part: str, say: Say = print) -> Loaded:
    """Return the training images that a held-out part does not hold too."""
    known = nearest(train.images, held.images)
    twins = np.flatnonzero(known >= 0)
    if not len(twins):
        return train
    pairs = [(train.examples[i].path, held.examples[known[i]].path) for i in twins]
    told = ", ".join(f"{one.name} = {other.name}" for one, other in pairs[:NAMED])
    more = ", …" if len(pairs) > NAMED else ""
    say(f"left out of training: {many(len(pairs), 'duplicate')} of {part} images ({told}{more})")
    kept = np.flatnonzero(known < 0)
    return Loaded([train.examples[i] for i in kept], train.images[kept], train.unreadable)


def contradictions(loaded: Loaded, say: Say = print) -> None:
    """Say which images are normal and pneumonia at once: one of the labels is wrong."""
    ill = np.array([e.pneumonia for e in loaded.examples], bool)
    known = nearest(loaded.images[~ill], loaded.images[ill])
    normals = [loaded.examples[i].path for i in np.flatnonzero(~ill)]
    twice = [path for path, place in zip(normals, known, strict=True) if place >= 0]
    if twice:
        say(f"{many(len(twice), 'image')} in both classes ({_first(twice)}): check the labels")


def nearest(images: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return for each image the place of the same image among the others, -1 where there is none.

    Parameters
    ----------
    images, others
        Shape (N, size, size) and (M, size, size), prepared: in [0, 1].
    """
    ours, theirs = _thumbnails(images), _thumbnails(others)
    places = np.full(len(ours), -1, np.int64)
    if not len(theirs):
        return places
    lengths = (theirs**2).mean(axis=1)
    for start in range(0, len(ours), _ROWS):
        part = ours[start : start + _ROWS]
        products = part @ theirs.T / np.float32(THUMBNAIL**2)
        squares = (part**2).mean(axis=1)[:, None] + lengths - 2 * products
        place = squares.argmin(axis=1)
        same = ((part - theirs[place]) ** 2).mean(axis=1) <= SAME**2  # without cancellation
        places[start : start + _ROWS] = np.where(same, place, -1)
    return places


def _thumbnails(images: NDArray[np.floating]) -> NDArray[np.float32]:
    side = (THUMBNAIL, THUMBNAIL)
    small = [
        np.asarray(
            Image.fromarray(np.asarray(image, np.float32)).resize(side, Image.Resampling.BOX)
        )
        for image in images
    ]
    return np.stack(small).reshape(len(small), -1) if small else np.zeros((0, 1), np.float32)


def _patients(examples: Sequence[Example]) -> str:
    headers = sum(is_dicom(e.path) for e in examples)
    source = {0: "name", len(examples): "header"}.get(headers, "header or name")
    return f"{len({e.patient for e in examples})} patients by {source}"


def _first(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
