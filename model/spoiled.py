"""Chest radiographs made unfit: turned, inverted, cut, covered, composed, degraded.

Each maker takes a random generator and a chest image (side, side) in [0, 1], and returns an image
of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.float32]
Maker = Callable[[np.random.Generator, Pixels], Pixels]


def _resized(pixels: NDArray[np.floating], rows: int, columns: int) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels, np.float32))
    resized = image.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32).clip(0, 1)


def _exposed(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Mirror or not, and change gamma, so that nobody learns the exposure of one hospital."""
    shown = chest[:, ::-1] if generator.random() < 0.5 else chest
    return np.asarray(shown.clip(0, 1) ** generator.uniform(0.65, 1.5), np.float32)


def _part(pixels: Pixels, rows: tuple[float, float], columns: tuple[float, float]) -> Pixels:
    """Stretch a part, given as shares of the sides, to the whole square."""
    side = pixels.shape[0]
    (top, bottom), (left, right) = (sorted(int(side * v) for v in ends) for ends in (rows, columns))
    return _resized(pixels[top : max(bottom, top + 4), left : max(right, left + 4)], side, side)


# --- turned ----------------------------------------------------------------------------------


def _turned(generator: np.random.Generator, chest: Pixels, degrees: float) -> Pixels:
    image = Image.fromarray(_exposed(generator, chest))
    turned = np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR), np.float32)
    if generator.random() < 0.4:
        rim = generator.uniform(0, 0.12, 4)
        turned = _part(turned, (rim[0], 1 - rim[1]), (rim[2], 1 - rim[3]))
    return turned.clip(0, 1)


def on_its_side(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Turn a chest by 90 or 270 degrees, about."""
    return _turned(generator, chest, generator.choice([90, 270]) + generator.uniform(-15, 15))


def on_its_head(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Turn a chest by 180 degrees, about; mirrored, that is flipped upside down."""
    return _turned(generator, chest, 180 + generator.uniform(-15, 15))


def aslant(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Turn a chest by 45 to 315 degrees."""
    return _turned(generator, chest, generator.uniform(45, 315))


# --- inverted --------------------------------------------------------------------------------


def inverted(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Show a chest with air white."""
    return np.asarray(1 - _exposed(generator, chest), np.float32)


def inverted_framed(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Show a chest with air white in a black or white frame."""
    side = chest.shape[0]
    framed = inverted(generator, chest)
    width = int(side * generator.uniform(0.03, 0.14))
    inside = framed[width : side - width, width : side - width].copy()
    framed[:] = generator.choice([0, 1])
    framed[width : side - width, width : side - width] = inside
    return framed


# --- cut -------------------------------------------------------------------------------------


def detail(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Enlarge a part of a chest: up to four tenths of either side."""
    share = generator.uniform(0.08, 0.4, 2)
    start = generator.uniform(0, 1 - share)
    shown = _exposed(generator, chest)
    return _part(shown, (start[0], start[0] + share[0]), (start[1], start[1] + share[1]))


def strip(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Stretch a strip across the chest, up to a third of it, to a square."""
    share = generator.uniform(0.08, 0.34)
    start = generator.uniform(0, 1 - share)
    shown = _exposed(generator, chest)
    strip_, whole = (start, start + share), (0.0, 1.0)
    return _part(shown, *((strip_, whole) if generator.random() < 0.5 else (whole, strip_)))


def half(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Stretch the left, right, upper or lower half of a chest, about, to a square."""
    share = generator.uniform(0.4, 0.52)
    kept = (0.0, share) if generator.random() < 0.5 else (1 - share, 1.0)
    shown = _exposed(generator, chest)
    return _part(shown, *((kept, (0.0, 1.0)) if generator.random() < 0.5 else ((0.0, 1.0), kept)))


# --- covered ---------------------------------------------------------------------------------


def half_blank(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Blank four to eight tenths of a chest from one edge with one grey."""
    covered = _exposed(generator, chest).copy()
    turns = int(generator.integers(0, 4))
    view = np.rot90(covered, turns)
    view[: int(len(covered) * generator.uniform(0.42, 0.8))] = generator.random()
    return np.ascontiguousarray(covered)


def boxed_over(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Cover most of a chest with a box of one grey."""
    side = chest.shape[0]
    covered = _exposed(generator, chest).copy()
    height, width = (side * generator.uniform(0.65, 0.9, 2)).astype(int)
    top, left = int(generator.integers(0, side - height)), int(generator.integers(0, side - width))
    covered[top : top + height, left : left + width] = generator.random()
    return covered


def barred(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Lay bars of random grey over a chest."""
    side = chest.shape[0]
    covered = _exposed(generator, chest).copy()
    view = covered.T if generator.random() < 0.5 else covered
    for _ in range(int(generator.integers(6, 13))):
        start, width = int(generator.integers(0, side)), int(side * generator.uniform(0.025, 0.09))
        view[start : start + width] = generator.random()
    return covered


def written_over(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Write lines of letters over a chest."""
    side = chest.shape[0]
    sheet = Image.fromarray((_exposed(generator, chest) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    size, grey = max(6, int(side * generator.uniform(0.04, 0.09))), int(generator.choice([0, 255]))
    for top in range(0, side, size + 2):
        line = "".join(chr(c) if c % 5 else " " for c in generator.integers(65, 123, 60))
        draw.text((2, top), line, fill=grey, font_size=size)
    return np.asarray(sheet, np.float32) / np.float32(255)


# --- composed --------------------------------------------------------------------------------


def shuffled(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Cut a chest into squares and lay them in another order: the texture without the anatomy."""
    parts = int(generator.choice([2, 4, 5, 8]))
    step = chest.shape[0] // parts
    tiles = [
        chest[r * step : (r + 1) * step, c * step : (c + 1) * step]
        for r in range(parts)
        for c in range(parts)
    ]
    order = generator.permutation(len(tiles))
    rows = [np.hstack([tiles[i] for i in row]) for row in order.reshape(parts, parts)]
    return _resized(np.vstack(rows), *chest.shape)


def collage(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Put several small chests on one sheet, as on a printed film or a screenshot."""
    side = chest.shape[0]
    parts = int(generator.integers(2, 5))
    small = _resized(chest, side // parts, side // parts)
    sheet = np.full_like(chest, generator.choice([0, generator.random()]))
    for r in range(parts):
        for c in range(parts):
            if generator.random() < 0.85:
                s = side // parts
                sheet[r * s : (r + 1) * s, c * s : (c + 1) * s] = small
    return sheet


def several(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Put two or three differently exposed chests side by side or one above the other."""
    count = int(generator.integers(2, 4))
    row = np.hstack([_exposed(generator, chest) for _ in range(count)])
    sheet = _resized(row if generator.random() < 0.5 else row.T, *chest.shape)
    if generator.random() < 0.5:  # upright, one above the other
        sheet = _resized(
            np.vstack([_exposed(generator, chest) for _ in range(count)]), *chest.shape
        )
    return sheet


def blended(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Expose one image twice: two chests shifted or turned against each other."""
    other = _exposed(generator, chest)
    shift = int(chest.shape[0] * generator.uniform(0.18, 0.5))
    turned = np.rot90(other, int(generator.integers(1, 4)))
    second = (
        np.roll(other, shift, int(generator.integers(0, 2))) if generator.random() < 0.5 else turned
    )
    return np.asarray((chest + second) / 2, np.float32)


# --- degraded --------------------------------------------------------------------------------


def pixelated(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Show a chest as five to ten blocks a side."""
    side, blocks = chest.shape[0], int(generator.integers(5, 11))
    image = Image.fromarray(_exposed(generator, chest))
    small = image.resize((blocks, blocks), Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST), np.float32)


def blurred(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Blur a chest until no rib is left."""
    image = Image.fromarray((_exposed(generator, chest) * 255).astype(np.uint8))
    radius = chest.shape[0] * generator.uniform(0.05, 0.14)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)


def few_greys(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Show a chest in two or three greys."""
    if generator.random() < 0.5:
        return np.asarray(chest > np.quantile(chest, generator.uniform(0.2, 0.8)), np.float32)
    return np.asarray(np.round(_exposed(generator, chest) * 2) / 2, np.float32)


def noisy(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Drown a chest in noise."""
    grain = generator.standard_normal(chest.shape) * generator.uniform(0.5, 1.5)
    return np.asarray((chest + grain).clip(0, 1), np.float32)


# --- never fitted ----------------------------------------------------------------------------


def half_decoded(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Break off a chest at a row, as a truncated file does."""
    broken = chest.copy()
    broken[int(len(chest) * generator.uniform(0.25, 0.5)) :] = generator.choice([0, 0.5, 1])
    return broken


def solarised(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Fold the grey scale in the middle."""
    folded = np.abs(2 * chest - 1)
    return np.asarray(folded if generator.random() < 0.5 else 1 - folded, np.float32)


def interlaced(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Shift every other row: a ghost image."""
    shift = int(chest.shape[0] * generator.uniform(0.12, 0.3))
    odd = np.arange(len(chest))[:, None] % 2 == 1
    return np.where(odd, chest, np.roll(chest, shift, 1)).astype(np.float32)


TURNED: Mapping[str, Maker] = {
    "on_its_side": on_its_side,
    "on_its_head": on_its_head,
    "aslant": aslant,
}
INVERTED: Mapping[str, Maker] = {"inverted": inverted, "inverted_framed": inverted_framed}
SPOILED: Mapping[str, Maker] = {
    "detail": detail,
    "strip": strip,
    "half": half,
    "half_blank": half_blank,
    "boxed_over": boxed_over,
    "barred": barred,
    "written_over": written_over,
    "shuffled": shuffled,
    "collage": collage,
    "several": several,
    "blended": blended,
    "pixelated": pixelated,
    "blurred": blurred,
    "few_greys": few_greys,
    "noisy": noisy,
}
HELD_OUT: Mapping[str, Maker] = {
    "half_decoded": half_decoded,
    "solarised": solarised,
    "interlaced": interlaced,
}
