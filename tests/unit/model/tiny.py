"""Generated images in the public set's layout, and a training that takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# fmt: off
TINY_OPTIONS = [
    "--backbone", "tiny", "--size", "32", "--batch", "16", "--precision", "float32",
    "--validation", "0.3", "--average", "0.5",
]
# fmt: on


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    """Offer the backbone `tiny`, and cut the parts of a release down alike."""
    from model import gate_fitting, network, options

    patch.setitem(network.BACKBONES, "tiny", ([1, 1, 1, 1], "basic_block"))
    patch.setitem(options.CHOICES, "backbone", ("tiny",))
    patch.setattr(gate_fitting, "EACH_KIND", 6)
    patch.setattr(gate_fitting, "MEASURED", 6)


def chest_like(generator: np.random.Generator, *, ill: bool, side: int = 48) -> Image.Image:
    """Two dark lungs; when ill, one holds a bright patch."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = 0.7 + 0.05 * generator.standard_normal((side, side))
    for middle in (0.3, 0.7):
        image[np.hypot((x - middle) / 0.15, (y - 0.5) / 0.35) < 1] -= 0.5
    if ill:
        middle = float(generator.choice([0.3, 0.7]))
        image[np.hypot(x - middle, y - generator.uniform(0.35, 0.65)) < 0.13] += 0.45
    return Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8))


def write_set(folder: Path, patients: int) -> Path:
    """Write two images a patient, named as the public set names them."""
    generator = np.random.default_rng(0)
    for name in ("NORMAL", "PNEUMONIA"):
        (folder / name).mkdir(parents=True)
    for patient in range(patients):
        for number in range(2):
            kind = "bacteria" if patient % 2 else "virus"
            normal = folder / "NORMAL" / f"IM-{patient:04d}-{number:04d}.jpeg"
            chest_like(generator, ill=False).save(normal)
            ill = folder / "PNEUMONIA" / f"person{patient}_{kind}_{number}.jpeg"
            chest_like(generator, ill=True).save(ill)
    return folder
