"""Images that are no upright chest radiograph, made up to fit and to test the pixel gate.

Each maker takes a random generator and a chest image (side, side) in [0, 1], and returns an image
of the same shape. Those here draw something else; those of `model.spoiled` spoil the chest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from model import spoiled
from model.fitness import NOT_CHEST
from model.preprocess import Preprocessing, stretch
from model.spoiled import Maker, Pixels

ROTATED, INVERTED = "ROTATED", "INVERTED"


def noise(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw noise whose spectrum falls with a random power: from white noise to clouds."""
    side = chest.shape[0]
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    radius[0, 0] = 1
    spectrum = np.fft.fft2(generator.standard_normal((side, side)))
    spectrum = spectrum / radius ** generator.uniform(0, 2.5)
    return _unit(np.real(np.fft.ifft2(spectrum)))


def gradient(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw a ramp or a spot with a little noise."""
    side = chest.shape[0]
    y, x = np.mgrid[0:side, 0:side] / side
    angle, power = generator.uniform(0, 2 * np.pi), generator.uniform(0.5, 3)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    spot = np.hypot(x - generator.uniform(0, 1), y - generator.uniform(0, 1))
    grain = generator.standard_normal((side, side)) * generator.uniform(0, 0.05)
    return _unit(_unit(ramp if generator.random() < 0.5 else spot) ** power + grain)


def text_page(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw lines of letters, dark on light or light on dark."""
    side = chest.shape[0]
    page = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(page)
    size = int(generator.integers(7, 22))
    for top in range(int(generator.integers(0, 20)), side, size + int(generator.integers(1, 6))):
        letters = generator.integers(33, 123, int(generator.integers(4, 60)))
        line = "".join(chr(c) if c % 6 else " " for c in letters)
        draw.text((int(generator.integers(0, 20)), top), line, fill=0, font_size=size)
    pixels: Pixels = np.asarray(page, np.float32) / np.float32(255)
    return pixels if generator.random() < 0.6 else 1 - pixels


def shapes(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw overlapping boxes and ellipses of random grey, as in drawings and photographs."""
    side = chest.shape[0]
    sheet = Image.new("L", (side, side), int(generator.integers(0, 256)))
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(generator.integers(2, 25))):
        x, y = generator.integers(-side // 4, side, 2)
        w, h = generator.integers(4, side // 2, 2)
        box = (int(x), int(y), int(x + w), int(y + h))
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape(box, fill=int(generator.integers(0, 256)))
    return _soften(generator, sheet)


def limb(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw one to five long bones in soft tissue on black, as in an extremity."""
    side = chest.shape[0]
    sheet = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(sheet)
    across = generator.random() < 0.3
    count = int(generator.integers(1, 6))
    tissue, bone = int(generator.integers(60, 130)), int(generator.integers(150, 256))
    for number in range(count):
        middle = side * (number + 0.5 + generator.uniform(-0.2, 0.2)) / count
        width = side / count * generator.uniform(0.25, 0.48)
        lean = generator.uniform(-0.15, 0.15) * side
        ends = [(middle, -10.0), (middle + lean, side * generator.uniform(0.6, 1.1))]
        draw.line(ends, fill=tissue, width=int(2 * width), joint="curve")
        draw.line(ends, fill=bone, width=max(2, int(width * generator.uniform(0.5, 1.0))))
        draw.line(ends, fill=(bone + tissue) // 2, width=max(1, int(width * 0.4)))
        joint = ends[0][0] + lean * generator.uniform(0.3, 0.7), side * generator.uniform(0.3, 0.7)
        r = width * generator.uniform(0.4, 0.8)
        draw.ellipse((joint[0] - r, joint[1] - r, joint[0] + r, joint[1] + r), fill=bone)
    pixels = _soften(generator, sheet)
    return np.ascontiguousarray(pixels.T) if across else pixels


def _ellipses(side: int) -> tuple[Image.Image, Callable[[float, float, float, float, float], None]]:
    """Return a black sheet and what draws on it: middle x, y and half axes w, h, in sides; grey."""
    sheet = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(sheet)

    def ellipse(x: float, y: float, w: float, h: float, grey: float) -> None:
        box = tuple(side * v for v in (x - w, y - h, x + w, y + h))
        draw.ellipse(box, fill=int(grey))

    return sheet, ellipse


def slice_of_body(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw an axial slice: a bright ring round grey tissue, dark lungs, a spine."""
    sheet, ellipse = _ellipses(chest.shape[0])

    wide, high = generator.uniform(0.33, 0.48), generator.uniform(0.22, 0.4)
    ellipse(0.5, 0.5, wide, high, generator.uniform(90, 140))
    ellipse(0.5, 0.5, wide * 0.92, high * 0.9, generator.uniform(120, 170))
    for sign in (-1, 1):
        width = wide * generator.uniform(0.25, 0.38)
        ellipse(0.5 + sign * wide * 0.48, 0.48, width, high * 0.6, generator.uniform(5, 40))
    ellipse(0.5, 0.5 + high * 0.62, wide * 0.14, high * 0.16, 250)
    return _soften(generator, sheet)


def fan(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw speckle in a sector on black, as in an ultrasound image."""
    side = chest.shape[0]
    y, x = np.mgrid[0:side, 0:side] / side
    depth, angle = np.hypot(x - 0.5, y), np.arctan2(x - 0.5, y + 1e-6)
    inside = (np.abs(angle) < generator.uniform(0.4, 0.9)) & (depth < 0.95) & (depth > 0.08)
    speckle = noise(generator, chest) * generator.uniform(0.3, 1, chest.shape)
    return np.asarray(np.where(inside, speckle * (1.2 - depth), 0).clip(0, 1), np.float32)


def phantom(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw a disc that holds smaller discs, as a test object does."""
    side = chest.shape[0]
    sheet = Image.new("L", (side, side), int(generator.integers(0, 60)))
    draw = ImageDraw.Draw(sheet)

    def disc(x: float, y: float, radius: float, grey: int) -> None:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=grey)

    whole = side * generator.uniform(0.25, 0.47)
    disc(side / 2, side / 2, whole, int(generator.integers(110, 210)))
    for _ in range(int(generator.integers(2, 20))):
        part = side * generator.uniform(0.01, 0.09)
        angle, away = generator.uniform(0, 2 * np.pi), generator.uniform(0, whole - part)
        middle = side / 2 + away * np.cos(angle), side / 2 + away * np.sin(angle)
        disc(*middle, part, int(generator.integers(0, 256)))
    return _soften(generator, sheet)


def skull(generator: np.random.Generator, chest: Pixels) -> Pixels:
    """Draw a bright oval rim round grey, with two dark orbits and a jaw."""
    sheet, ellipse = _ellipses(chest.shape[0])

    wide, high = generator.uniform(0.28, 0.4), generator.uniform(0.36, 0.46)
    ellipse(0.5, 0.48, wide, high, generator.uniform(200, 255))
    ellipse(0.5, 0.47, wide * 0.9, high * 0.92, generator.uniform(90, 150))
    for sign in (-1, 1):
        ellipse(0.5 + sign * wide * 0.42, 0.56, wide * 0.24, high * 0.15, generator.uniform(30, 80))
    ellipse(0.5, 0.5 + high * 0.75, wide * 0.45, high * 0.2, generator.uniform(170, 230))
    return _soften(generator, sheet)


# Reason -> kinds of images that are not assessed for it. Each kind gets a head of its own in the
# gate: what lies between two kinds would pass a head common to both.
MAKERS: Mapping[str, Mapping[str, Maker]] = {
    ROTATED: spoiled.TURNED,
    INVERTED: spoiled.INVERTED,
    NOT_CHEST: {
        "noise": noise,
        "gradient": gradient,
        "text_page": text_page,
        "shapes": shapes,
        "limb": limb,
        "phantom": phantom,
        **spoiled.SPOILED,
    },
}
# To measure with only: what the gate was never fitted to.
HELD_OUT: Mapping[str, Maker] = {
    "slice_of_body": slice_of_body,
    "fan": fan,
    "skull": skull,
    **spoiled.HELD_OUT,
}


def make(maker: Maker, chests: NDArray[np.floating], count: int, seed: int) -> Pixels:
    """Make `count` images, each from one of the chests (N, size, size) drawn at random.

    They are stretched as `model.preprocess.prepare` would: fitted and measured is what is served.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, len(chests), count)
    made = [maker(generator, chests[i].astype(np.float32)) for i in chosen]
    spec = Preprocessing()
    return np.stack([stretch(image, spec.low, spec.high) for image in made])


def _unit(pixels: NDArray[np.floating]) -> Pixels:
    low, high = float(pixels.min()), float(pixels.max())
    return np.asarray((pixels - low) / max(high - low, 1e-6), np.float32)


def _soften(generator: np.random.Generator, sheet: Image.Image) -> Pixels:
    blurred = sheet.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, 2.5))))
    pixels = np.asarray(blurred, np.float32) / 255
    grain = generator.standard_normal(pixels.shape) * generator.uniform(0, 0.06)
    return _unit(pixels + grain.astype(np.float32))
