"""The same image as a file and as DICOM objects of many kinds is the same network input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_node.pixels import to_pixels
from model.data import read_image
from model.preprocess import Preprocessing, prepare
from tests import datasets

SPEC = Preprocessing(size=64)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """8-bit values of a smooth image that uses the whole range."""
    coarse = Image.fromarray(np.random.default_rng(5).random((9, 11)).astype(np.float32))
    smooth = np.asarray(coarse.resize((250, 300), Image.Resampling.BICUBIC))
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).round().astype(np.uint8)


def stored(grey: np.ndarray, bits: int) -> np.ndarray:
    return (grey.astype(np.float64) * ((1 << bits) - 1) / 255).round().astype(np.uint16)


WAYS: dict[str, Any] = {
    "8 bits": lambda g: datasets.image(g),
    "MONOCHROME1": lambda g: datasets.image(255 - g, PhotometricInterpretation="MONOCHROME1"),
    "10 bits": lambda g: datasets.image(stored(g, 10), BitsStored=10, HighBit=9),
    "12 bits": lambda g: datasets.image(stored(g, 12), BitsStored=12, HighBit=11),
    "16 bits": lambda g: datasets.image(stored(g, 16)),
    "signed": lambda g: datasets.image((g.astype(np.int16) - 128) * 16),
    "rescaled": lambda g: datasets.image(
        stored(g, 12), BitsStored=12, HighBit=11, RescaleSlope="0.5", RescaleIntercept="-1024"
    ),
    "window": lambda g: datasets.image(
        stored(g, 12), BitsStored=12, HighBit=11, WindowCenter="2048", WindowWidth="4096"
    ),
    "RGB": lambda g: datasets.image(np.stack([g] * 3, -1), PhotometricInterpretation="RGB"),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_stored_an_image_is_the_same_network_input(way, grey, tmp_path):
    Image.fromarray(grey).save(tmp_path / "image.png")
    expected = prepare(read_image(tmp_path / "image.png"), SPEC)
    served = prepare(to_pixels(WAYS[way](grey)), SPEC)
    assert np.abs(served - expected).max() < 0.005


def test_a_dicom_file_is_trained_on_as_it_is_served(grey, tmp_path):
    ds = WAYS["MONOCHROME1"](grey)
    path = tmp_path / "image.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert np.array_equal(prepare(read_image(path), SPEC), prepare(to_pixels(ds), SPEC))
