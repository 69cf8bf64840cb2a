"""Images that are made strip by strip, whole or reduced to a square.

A strip stays in the processor's cache on its way from stored values to what is displayed, and on
to fewer rows. A radiograph that is whole as floats, and once more as indices, does not: most of the
time would go into memory that is read and written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

# Rows of a strip. With more, OpenBLAS would wake its threads for the product of a strip, and they
# take longer to wait for each other than the product takes.
_ROWS = 16


class Rows(Protocol):
    """An image (rows, columns) whose rows can be had: an array, or one that is yet to be made."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of which each strip is made when it is asked for.

    Parameters
    ----------
    stored : numpy.ndarray
        Stored values, (rows, columns) or (rows, columns, samples).
    show : callable
        Maps some rows of these to what they are displayed as, (rows, columns).
    """

    stored: npt.NDArray[Any]
    show: Callable[[npt.NDArray[Any]], Floats]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.stored.shape[:2]

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows as they are displayed."""
        return self.show(self.stored[rows])


def strips(count: int, rows: int = _ROWS) -> Iterator[slice]:
    """Divide so many rows into strips."""
    return (slice(first, min(first + rows, count)) for first in range(0, count, rows))


def whole(image: Rows) -> Floats:
    """Make all of an image."""
    if isinstance(image, np.ndarray):
        return image
    pixels = np.empty(image.shape, np.float32)
    for strip in strips(len(pixels)):
        pixels[strip] = image[strip]
    return pixels


def square(image: Rows, side: int) -> Floats:
    """Stretch an image to a square, as Pillow's bilinear filter does.

    The filter is a triangle that widens with the reduction, so it antialiases. It is separable:
    rows are combined first, strip by strip, and Pillow combines the columns of what is left.

    Parameters
    ----------
    image : Rows
        Of any size.
    side : int
        Rows and columns of the result.

    Returns
    -------
    numpy.ndarray
        float32, (side, side); the image itself where it is as large.
    """
    fewer = _with_rows(image, side) if image.shape[0] != side else whole(image)
    if fewer.shape[1] == side:
        return fewer
    stretched = Image.fromarray(fewer).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(stretched, np.float32)


def _with_rows(image: Rows, side: int) -> Floats:
    """Combine the rows of an image to so many."""
    rows, columns = image.shape
    weights = _weights(rows, side)
    combined = np.zeros((side, columns), np.float32)
    for strip in strips(rows):
        reached = np.flatnonzero(weights[:, strip].any(axis=1))
        part = slice(reached[0], reached[-1] + 1)
        combined[part] += weights[part, strip] @ image[strip]
    return combined


def _weights(rows: int, side: int) -> Floats:
    """Return what each row (columns of the matrix) counts for each row of the result."""
    scale = rows / side
    support = max(scale, 1.0)
    centers = (np.arange(side) + 0.5) * scale
    first = np.maximum(centers - support + 0.5, 0).astype(np.intp)
    taps = first[:, None] + np.arange(int(2 * support) + 2)
    triangle = np.maximum(0, 1 - np.abs(taps + 0.5 - centers[:, None]) / support)
    triangle[taps >= rows] = 0
    triangle /= triangle.sum(axis=1, keepdims=True)
    weights = np.zeros((side, rows + taps.shape[1]), np.float32)
    np.put_along_axis(weights, taps, triangle.astype(np.float32), axis=1)
    return weights[:, :rows]
