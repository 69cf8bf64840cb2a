"""One function from pixels to network input, blind to how intensities were stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.preprocess import Preprocessing, prepare

SPEC = Preprocessing(size=64)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    generator = np.random.default_rng(3)
    coarse = generator.random((12, 9)).astype(np.float32)
    return np.kron(coarse, np.ones((40, 40), np.float32))


@settings(max_examples=40, deadline=None)
@given(
    factor=st.floats(1e-3, 1e5),
    shift=st.floats(-20, 20),
    rows=st.integers(2, 300),
    columns=st.integers(2, 300),
)
def test_any_increasing_affine_change_of_intensities_cancels(factor, shift, rows, columns):
    image = np.random.default_rng(rows * columns).random((rows, columns)).astype(np.float32)
    changed = ((image.astype(np.float64) + shift) * factor).astype(np.float32)
    assert np.abs(prepare(changed, SPEC) - prepare(image, SPEC)).max() < 1e-4


def test_the_result_is_a_square_in_the_unit_range(image):
    prepared = prepare(image, SPEC)
    assert prepared.shape == (64, 64)
    assert prepared.dtype == np.float32
    assert prepared.min() == 0
    assert prepared.max() == 1


def test_inverted_intensities_give_the_inverted_image(image):
    assert np.abs(prepare(1 - image, SPEC) - (1 - prepare(image, SPEC))).max() < 1e-4


def test_a_large_image_is_antialiased():
    checkers = (np.indices((1000, 1000)).sum(axis=0) % 2).astype(np.float32)
    checkers[:500] = 0
    assert np.abs(prepare(checkers, SPEC)[50:] - 1).max() < 0.2


def test_an_image_of_one_value_becomes_zeros():
    assert not prepare(np.full((30, 40), 0.3, np.float32), SPEC).any()


@pytest.mark.parametrize("bad", [np.zeros((0, 4)), np.zeros((3, 4, 3)), np.full((4, 4), np.nan)])
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(ValueError, match="image"):
        prepare(bad, SPEC)


def test_parameters_survive_the_artifact():
    assert Preprocessing.from_dict(SPEC.as_dict()) == SPEC
