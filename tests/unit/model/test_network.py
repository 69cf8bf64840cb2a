"""Networks, and weights that come from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from model import network
from model.options import CHOICES


def test_every_backbone_that_can_be_asked_for_can_be_built():
    assert set(network.BACKBONES) == set(CHOICES["backbone"])


@pytest.fixture
def _tiny(monkeypatch):
    monkeypatch.setitem(network.BACKBONES, "tiny", ([1, 1, 1, 1], "basic_block"))


@pytest.mark.usefixtures("_tiny")
def test_colour_weights_answer_for_grey_images_as_they_would_for_colour():
    import keras

    colour = network._backbone("tiny", 64, channels=3)
    grey = network.build_network("tiny", 64, 2)
    network.load_colour_weights(grey, colour)
    image = np.random.default_rng(0).random((1, 64, 64, 1)).astype(np.float32)
    shown = (np.repeat(image, 3, -1) - network._MEAN) / network._DEVIATION
    norm = next(la for la in colour.layers if isinstance(la, keras.layers.BatchNormalization))
    theirs = keras.Model(colour.inputs, norm.output)(shown).numpy()
    ours = keras.Model(grey.inputs, grey.get_layer(norm.name).output)(image).numpy()
    inner = np.s_[:, 4:-4, 4:-4]  # the padded rim differs
    assert np.abs(theirs[inner] - ours[inner]).max() < 1e-3


@pytest.mark.usefixtures("_tiny")
def test_a_saved_file_of_weights_is_a_start(tmp_path):
    colour = network._backbone("tiny", 224, channels=3)
    colour.save_weights(tmp_path / "w.weights.h5")
    grey = network.build_network("tiny", 32, 3)
    network.load_weights_file(grey, "tiny", tmp_path / "w.weights.h5")
    assert np.array_equal(
        grey.layers[-5].get_weights() or [], colour.layers[-1].get_weights() or []
    )


@pytest.mark.usefixtures("_tiny")
def test_an_artifact_of_other_classes_lends_all_but_the_head():
    three, two = (network.build_network("tiny", 32, n) for n in (3, 2))
    assert not network.transfer(two, three.get_weights())
    assert np.array_equal(two.get_weights()[0], three.get_weights()[0])
    with pytest.raises(ValueError, match="not a tiny"):
        network.transfer(two, three.get_weights()[2:])


@pytest.mark.usefixtures("_tiny")
def test_a_network_is_made_of_plain_keras_layers():
    built = network.build_network("tiny", 32, 3)
    assert {type(layer).__module__.split(".")[0] for layer in built.layers} == {"keras"}
    assert "keras_hub" not in built.to_json()
