"""Answers of a model, the tiny one and the released one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from model.calibration import softmax
from model.data import read_image
from model.metrics import auc
from model.predict import Classifier, load_info


@pytest.fixture(scope="module")
def classifier(interrupted_run) -> Classifier:
    return Classifier.load(interrupted_run[0] / "artifact")


@pytest.fixture(scope="module")
def shipped(released) -> Classifier:
    return Classifier.load(released)


def batch(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, size, size)).astype(np.float32)


def test_an_answer_does_not_depend_on_its_batch(classifier):
    images = batch(21, 32)
    together, _ = classifier.forward(images)
    alone = np.concatenate([classifier.forward(images[i : i + 1])[0] for i in range(3)])
    assert len(together) == 21
    assert np.abs(together[:3] - alone).max() < 1e-4


def test_kinds_are_conditional_and_as_sure_as_their_own_temperature_says(classifier, monkeypatch):
    logits = np.array([[0.0, 2.0, -2.0], [9.0, 2.0, -2.0], [0.0, -1.0, 1.0]])
    for temperature in (1.0, 4.0):
        info = replace(classifier.info, kind_temperature=temperature)
        monkeypatch.setattr(classifier, "info", info)
        bacterial = classifier._bacterial(logits)
        assert bacterial[0] == bacterial[1] == pytest.approx(1 / (1 + np.exp(-4 / temperature)))
        assert bacterial[2] == pytest.approx(1 / (1 + np.exp(2 / temperature)))
    answer = classifier._answer(None, 0.9, bacterial[0], "withhold")
    assert answer.bacterial + answer.viral == pytest.approx(1)


def test_an_image_that_may_not_be_judged_has_no_probability(classifier):
    answer = classifier.predict(np.zeros((1, 32, 32), np.float32))[0]
    assert answer.reason == "BLANK"
    assert (answer.pneumonia, answer.bacterial, answer.viral, answer.finding) == (None,) * 4


@pytest.mark.parametrize(
    ("population", "reason", "flags"),
    [
        ("withhold", "OUTSIDE_POPULATION", ()),
        ("flag", None, ("OUTSIDE_POPULATION",)),
        ("ignore", None, ()),
    ],
)
def test_an_image_outside_the_population_is_treated_as_asked(classifier, population, reason, flags):
    answer = classifier._answer("OUTSIDE_POPULATION", 0.8, 0.6, population)
    assert (answer.reason, answer.flags) == (reason, flags)
    assert (answer.pneumonia is None) == (reason is not None)


def test_no_images_give_no_answers(classifier):
    assert classifier.predict(np.zeros((0, 32, 32), np.float32)) == []


def test_a_device_that_is_not_there_is_refused(interrupted_run):
    with pytest.raises(ConfigurationError, match="CXR_DEVICE"):
        Classifier.load(interrupted_run[0] / "artifact", device="abacus")


def test_reading_what_a_model_says_loads_no_tensorflow(interrupted_run):
    import subprocess

    code = (
        "import sys; from model.predict import load_info; import model.fitness;"
        f"load_info({str(interrupted_run[0] / 'artifact')!r});"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    checkout = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout, check=False).returncode == 0


def test_the_released_model_answers_and_says_what_it_is(shipped):
    info = shipped.info
    assert info == load_info(Path(__file__).parents[3] / "model" / "released")
    assert info.undetermined[0] < info.threshold < info.undetermined[1]
    assert "Kermany" in info.attribution
    answers = shipped.predict(batch(3, info.input_size))
    assert {a.reason for a in answers} <= {"NOT_CHEST", "INVERTED", "ROTATED"}


def test_the_released_weights_are_compact(released):
    assert sum(f.stat().st_size for f in released.rglob("*") if f.is_file()) < 50_000_000


def test_the_model_card_is_that_of_the_released_model(shipped):
    card = Path(__file__).parents[3] / "docs" / "model-card.md"
    assert card.read_text(encoding="utf-8") == shipped.info.card


@pytest.fixture(scope="module")
def originals(real_data) -> list[Path]:
    return sorted((real_data / "chest_xray_original").glob("*/*.jpeg"))


def pneumonia(classifier: Classifier, paths: list[Path]) -> np.ndarray:
    images = np.stack([classifier.prepare(read_image(path)) for path in paths])
    logits, _ = classifier.forward(images)
    return 1 - softmax(logits, classifier.info.temperature)[:, 0]


def test_the_released_model_tells_real_pneumonias_from_normals(shipped, originals):
    truth = np.array([path.parent.name == "PNEUMONIA" for path in originals])
    assert auc(truth, pneumonia(shipped, originals)) > 0.95
