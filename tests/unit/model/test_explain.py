"""Heat maps that follow the weights and point at the evidence."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from model.calibration import ABSENT, PRESENT
from model.explain import Explainer, target_of
from model.predict import Classifier, Prediction
from tests.unit.model.tiny import chest_like, make_tiny

SIDE = 64


def patches(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise; every other image with a bright patch: images, class, where the patch is."""
    generator = np.random.default_rng(seed)
    images = 0.4 + 0.1 * generator.standard_normal((count, SIDE, SIDE))
    corners = generator.integers(4, SIDE - 20, (count, 2))
    for image, (y, x) in list(zip(images, corners, strict=True))[1::2]:
        image[y : y + 16, x : x + 16] += 0.5
    return images.clip(0, 1).astype(np.float32), np.arange(count) % 2, corners


@pytest.fixture(scope="module")
def patch_finder():
    import keras

    from model.network import build_network

    keras.utils.set_random_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        network = build_network("tiny", SIDE, 2)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # so short a training would not move the averages
    trained = keras.Model(network.inputs[0], network.outputs[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    images, classes, _ = patches(192, seed=2)
    trained.fit(images[..., None], classes, batch_size=16, epochs=4, verbose=0)
    assert trained.evaluate(images[..., None], classes, verbose=0)[1] > 0.95
    return Explainer(network, ("normal", "pneumonia"))


@pytest.fixture(scope="module")
def classifier(released) -> Classifier:
    return Classifier.load(released)


@pytest.fixture(scope="module")
def chests(classifier) -> np.ndarray:
    generator = np.random.default_rng(3)
    images = [chest_like(generator, ill=True, side=224) for _ in range(4)]
    return np.stack([classifier.prepare(np.asarray(image)) for image in images])


def test_the_map_points_at_the_patch_that_made_the_difference(patch_finder):
    images, classes, corners = patches(24, seed=4)
    hits = []
    for heat, (y, x) in zip(
        patch_finder.heatmaps(images[classes == 1]), corners[1::2], strict=True
    ):
        top, left = np.unravel_index(heat.argmax(), heat.shape)
        hits.append(abs(top - y - 8) <= 16 and abs(left - x - 8) <= 16)
    assert np.mean(hits) >= 0.9


def test_a_map_has_the_size_of_the_input_and_lies_between_zero_and_one(classifier, chests):
    heat = Explainer.of(classifier).heatmap(chests[0])
    assert heat.shape == chests[0].shape
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1)


def test_a_map_does_not_depend_on_its_batch(classifier, chests):
    explainer = Explainer.of(classifier)
    many = explainer.heatmaps(np.concatenate([chests] * 5))
    assert many.shape == (20, *chests.shape[1:])
    assert np.abs(many[-1] - explainer.heatmap(chests[-1])).max() < 1e-3


@pytest.fixture(scope="module")
def cascade(released, chests) -> dict[float, float]:
    """How alike the maps are to the trained network's, by the share of layers randomised.

    The sanity check of Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018: layers are
    randomised one after the other, from the answer down to the image.
    """
    classifier = Classifier.load(released)
    explainer = Explainer.of(classifier)
    trained = explainer.heatmaps(chests)
    generator = np.random.default_rng(5)
    layers = [layer for layer in classifier.network.layers if layer.get_weights()][::-1]
    alike, done = {0.0: _alike(trained, explainer.heatmaps(chests))}, 0
    for share in (1 / len(layers), 0.25, 0.5, 0.75, 1.0):
        count = round(share * len(layers))
        for layer in layers[done:count]:
            layer.set_weights([_shuffled(generator, w) for w in layer.get_weights()])
        done = count
        alike[share] = _alike(trained, explainer.heatmaps(chests))
    return alike


def test_the_map_changes_as_the_weights_are_randomised_layer_by_layer(cascade):
    print({round(share, 2): round(r, 2) for share, r in cascade.items()})
    unchanged, head, *deeper = cascade.values()
    assert unchanged > 0.99
    assert head < 0.6
    assert np.mean(deeper) < 0.4
    assert deeper[-1] < 0.3


def _alike(first: np.ndarray, second: np.ndarray) -> float:
    pairs = zip(first, second, strict=True)
    return float(np.mean([abs(rank_correlation(a, b)) for a, b in pairs]))


def _shuffled(generator: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    return generator.permutation(weights.ravel()).reshape(weights.shape)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [a.ravel().argsort().argsort() for a in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_what_speaks_for_one_answer_does_not_speak_for_its_opposite(classifier, chests):
    explainer = Explainer.of(classifier)
    for one, other in (("pneumonia", "normal"), ("bacterial", "viral")):
        first, second = explainer.heatmaps(chests, one), explainer.heatmaps(chests, other)
        assert np.abs(first - second).max(axis=(1, 2)).min() > 0.3


def test_a_target_that_the_network_does_not_tell_is_refused(patch_finder):
    with pytest.raises(ValueError, match="bacterial"):
        patch_finder.heatmap(np.zeros((SIDE, SIDE)), "bacterial")


def test_the_target_is_what_speaks_for_the_finding():
    assert target_of(Prediction(0.9, finding=PRESENT)) == "pneumonia"
    assert target_of(Prediction(0.1, finding=ABSENT)) == "normal"


def test_no_images_give_no_maps(patch_finder):
    assert patch_finder.heatmaps(np.zeros((0, SIDE, SIDE))).shape == (0, SIDE, SIDE)


def test_the_benchmark_tells_what_a_map_costs(released, capsys):
    script = Path(__file__).parents[3] / "benchmarks" / "explain.py"
    options = ["--model", str(released), "--batch", "2", "--rounds", "1"]
    assert runpy.run_path(str(script))["main"](options) == 0
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert header.split()[-1] == "ratio"
    count, answer, heat, ratio = map(float, row.split())
    assert count == 2
    assert ratio == pytest.approx(heat / answer, rel=0.2)
