"""Images through a network: as many at once as pay, and as memory suffices for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.engines import Forward

log = logging.getLogger(__name__)

# A GPU chooses its kernels anew for each size of a batch, so it sees no other sizes than these.
SIZES = (1, 4, 16, 64, 256)
# A CPU takes any size, and gains nothing by more at once; what is padded costs it as any image.
MOST_ON_CPU = 16


def forward_all(
    forward: Forward, images: NDArray[np.float32], *, pads: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits (N, C) and features (N, F) of images (N, size, size, 1).

    Parameters
    ----------
    forward
        The network.
    pads
        Whether batches are padded to a few sizes, for a GPU.

    Raises
    ------
    MemoryError
        When memory, of the machine or of its GPU, does not suffice for a single image.
    """
    done, found = 0, []
    for count, size in parts(len(images)) if pads else _on_cpu(len(images)):
        found.append(_fitting(forward, images[done : done + count], size, pads=pads))
        done += count
    logits, features = zip(*found, strict=True)
    return np.concatenate(logits), np.concatenate(features)


def parts(count: int) -> Iterator[tuple[int, int]]:
    """Divide a number of images into batches of `SIZES`; less than half of each is padding.

    Yields
    ------
    tuple
        How many images, and the size of their batch.
    """
    while count:
        size = next((each for each in SIZES if each >= count), SIZES[-1])
        if count < size / 2:
            size = max(each for each in SIZES if each <= count)
        yield min(count, size), size
        count -= min(count, size)


def _on_cpu(count: int) -> Iterator[tuple[int, int]]:
    for done in range(0, count, MOST_ON_CPU):
        size = min(MOST_ON_CPU, count - done)
        yield size, size


def _fitting(
    forward: Forward, images: NDArray[np.float32], size: int, *, pads: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Run a batch of a size through the network; in smaller ones where memory does not suffice."""
    count = len(images)
    try:
        logits, features = forward(np.pad(images, [(0, size - count), (0, 0), (0, 0), (0, 0)]))
        return logits[:count], features[:count]
    except MemoryError:
        smaller = max((each for each in SIZES if each < size), default=0)
        if not smaller:
            raise
        log.warning("no memory for a batch of %d; going on with %d at once", size, smaller)
    found = [
        _fitting(forward, part, smaller if pads else len(part), pads=pads)
        for part in (images[i : i + smaller] for i in range(0, count, smaller))
    ]
    logits, features = zip(*found, strict=True)
    return np.concatenate(logits), np.concatenate(features)
