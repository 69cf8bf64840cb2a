"""An image that is made strip by strip is the image."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread

from dicom_node.pixels import to_pixels
from dicom_node.strips import Shown, square, strips, whole
from tests.datasets import dx_image, image, part10
from tests.unit.dicom_node.test_contexts import INSTANCES


def pillows(pixels, side):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 700), columns=st.integers(1, 300), side=st.sampled_from([1, 7, 160, 224])
)
def test_a_square_is_what_pillows_bilinear_filter_makes(rows, columns, side):
    pixels = np.random.default_rng(rows * columns).random((rows, columns), np.float32)
    assert np.abs(square(pixels, side) - pillows(pixels, side)).max() < 1e-6


def test_a_full_size_radiograph_is_as_near():
    pixels = np.random.default_rng(1).random((3000, 2500), np.float32)
    assert np.abs(square(pixels, 224) - pillows(pixels, 224)).max() < 1e-6


def test_an_image_of_that_size_is_left_as_it_is():
    pixels = np.random.default_rng(1).random((224, 224), np.float32)
    assert square(pixels, 224) is pixels


def test_no_more_than_a_strip_is_made_at_once():
    seen = []

    def show(stored):
        seen.append(len(stored))
        return stored.astype(np.float32)

    shown = Shown(np.zeros((1000, 20), np.uint16), show)
    square(shown, 224)
    whole(shown)
    assert sum(seen) == 2000
    assert max(seen) < 20


@given(count=st.integers(0, 100), rows=st.integers(1, 20))
def test_every_row_is_in_one_strip(count, rows):
    numbers = range(count)
    assert [n for strip in strips(count, rows) for n in numbers[strip]] == list(numbers)


def noise(kind, **attributes):
    low, high = attributes.pop("low", 0), attributes.pop("high", 4095)
    stored = np.random.default_rng(2).integers(low, high, (300, 250), kind)
    return image(stored, **attributes)


NOISE = {
    "unsigned": lambda: noise(np.uint16),
    "signed": lambda: noise(np.int16, low=-2000, high=2000, WindowCenter=10, WindowWidth=900),
    "eight bits signed": lambda: noise(np.int8, low=-128, high=127),
    "wide": lambda: noise(np.uint32, low=1 << 30, high=1 << 31),
    "wide, of few values": lambda: noise(np.int32, low=-(1 << 30), high=-(1 << 30) + 500),
    "padded": lambda: noise(np.uint16, PixelPaddingValue=0, PixelPaddingRangeLimit=800),
    "for presentation": lambda: dx_image(np.arange(90_000, dtype=np.uint16).reshape(300, 300)),
    "colour": lambda: image(
        np.random.default_rng(3).integers(0, 255, (300, 250, 3), np.uint8),
        PhotometricInterpretation="RGB",
    ),
}


@pytest.mark.parametrize("make", [*NOISE.values(), *INSTANCES.values()], ids=[*NOISE, *INSTANCES])
def test_an_instance_is_reduced_to_the_same_square_at_once_and_when_it_is_whole(make):
    ds = dcmread(BytesIO(part10(make())))
    np.testing.assert_array_equal(to_pixels(ds, 224), square(to_pixels(ds), 224))
