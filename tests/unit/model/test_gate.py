"""The pixel gate, in a feature space made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model import negatives
from model.gate import Misfits, PixelGate, fit_gate, is_blank


def cloud(middle: float, seed: int, count: int = 400) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, 12)) + middle * np.eye(12)[0]


@pytest.fixture(scope="module")
def gate() -> PixelGate:
    misfits = [
        Misfits("OUTSIDE_POPULATION", cloud(8, 2), cloud(8, 3)),
        Misfits("ROTATED", cloud(-8, 4), cloud(-8, 5)),
    ]
    return fit_gate(cloud(0, 0), cloud(0, 1), misfits, axes=6)


def test_most_children_pass(gate):
    assert np.mean([r is None for r in gate.judge(cloud(0, 9))]) > 0.98


def test_known_misfits_are_named(gate):
    for middle, reason in ((8, "OUTSIDE_POPULATION"), (-8, "ROTATED")):
        assert np.mean([r == reason for r in gate.judge(cloud(middle, 6))]) > 0.97


def test_what_is_far_from_everything_is_no_chest(gate):
    far = cloud(0, 7) + 30 * np.eye(12)[5]
    assert set(gate.judge(far)) == {"NOT_CHEST"}


def test_what_is_far_from_every_chest_is_no_chest_even_if_it_resembles_adults(gate):
    far = cloud(8, 7) + 30 * np.eye(12)[5]
    assert set(gate.judge(far)) == {"NOT_CHEST"}


def test_the_mean_squared_distance_of_children_is_about_one(gate):
    assert (gate.distance(cloud(0, 0)) ** 2).mean() == pytest.approx(1, abs=0.05)


def test_a_gate_survives_the_artifact(gate):
    again = PixelGate.from_artifact(gate.description(), gate.arrays())
    assert again.judge(cloud(0, 8)) == gate.judge(cloud(0, 8))


def test_an_image_of_one_value_is_blank():
    assert is_blank(np.zeros((8, 8), np.float32))
    assert not is_blank(np.random.default_rng(0).random((8, 8)))


@pytest.mark.parametrize(
    "maker",
    [m for makers in negatives.MAKERS.values() for m in makers.values()]
    + list(negatives.HELD_OUT.values()),
    ids=lambda m: m.__name__,
)
def test_made_up_misfits_are_images(maker):
    chests = np.random.default_rng(0).random((3, 40, 40)).astype(np.float16)
    made = negatives.make(maker, chests, 4, seed=1)
    assert made.shape == (4, 40, 40)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6
