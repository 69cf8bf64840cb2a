"""A network handed to others answers as ours does, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model import export, openvino_engine
from model.calibration import softmax
from model.openvino_engine import generated_chests
from model.predict import Classifier
from tests.unit.model.artifacts import SIDE, need_openvino, write_small

AGREEMENT = 0.005


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_small(folder)
    return folder


@pytest.fixture(scope="module")
def expected(small) -> tuple[np.ndarray, np.ndarray]:
    classifier = Classifier.load(small)
    logits, features = classifier.forward(generated_chests(SIDE, 3)[..., 0])
    return softmax(logits, classifier.info.temperature), features


def assert_facts(path: Path, small: Path) -> None:
    facts = json.loads(path.read_text())
    assert facts["digest"] == Classifier.load(small).info.digest
    assert facts["labels"] == ["normal", "bacterial", "viral"]
    assert facts["preprocessing"]["size"] == SIDE


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_saved_model_answers_with_probabilities_and_features(
    small, expected, tmp_path, precision
):
    import tensorflow as tf

    target = tmp_path / "served" / "1"
    arguments = ["savedmodel", str(small), "--to", str(target), "--precision", precision]
    assert export.main(arguments) == 0
    served = tf.saved_model.load(str(target)).signatures["serving_default"]
    answer = served(images=tf.constant(generated_chests(SIDE, 3)))
    assert np.abs(answer["probabilities"].numpy() - expected[0]).max() < AGREEMENT
    assert answer["features"].shape == expected[1].shape
    assert {each.dtype for each in answer.values()} == {tf.float32}
    assert_facts(target / "assets.extra" / "facts.json", small)


def test_openvinos_form_answers_with_probabilities_and_features(small, expected, tmp_path):
    need_openvino()
    assert export.main(["openvino", str(small), "--to", str(tmp_path / "ir")]) == 0
    core = openvino_engine.runtime().Core()
    served = core.compile_model(
        tmp_path / "ir" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    answer = served({"images": generated_chests(SIDE, 3)})
    assert np.abs(answer["probabilities"] - expected[0]).max() < AGREEMENT
    assert np.abs(answer["features"] - expected[1]).max() < 1e-3
    assert_facts(tmp_path / "ir" / "facts.json", small)


@pytest.mark.parametrize("form", ["savedmodel", "openvino"])
def test_what_is_no_model_is_one_line(tmp_path, capsys, form):
    assert export.main([form, str(tmp_path), "--to", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: CXR_MODEL: ")
    assert not (tmp_path / "out").exists()
