"""The model is exchanged between two batches with its explainer; a damaged one never takes over."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from model import artifact
from model.predict import load_info
from tests.fakes import FakeClassifier
from tests.unit.model.artifacts import write_plain
from worker.answering import Answering


class Loader:
    """Loads what an artifact says; the network itself is a fake."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.failure: Exception | None = None

    def __call__(self, path: Path) -> FakeClassifier:
        if self.failure is not None:
            raise self.failure
        found = FakeClassifier(info=load_info(path))
        self.loaded.append(found.info.version)
        return found


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in ("1.0.0", "1.1.0"):
        write_plain(tmp_path / f"m-{version}", version)
    choose(tmp_path, "1.0.0")
    return tmp_path


def choose(models: Path, version: str) -> None:
    (models / artifact.CURRENT).write_text(f"m-{version}\n")


@pytest.fixture
def load() -> Loader:
    return Loader()


class Explaining:
    """Builds explainers whose maps hold the number of explainers built so far."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.failure: Exception | None = None

    def __call__(self, classifier: FakeClassifier) -> Explaining:
        self.built.append(classifier.info.version)
        return self

    def heatmaps(self, images: np.ndarray) -> np.ndarray:
        if self.failure is not None:
            raise self.failure
        return np.full(images.shape, len(self.built), np.float32)


@pytest.fixture
def explaining() -> Explaining:
    return Explaining()


@pytest.fixture
def answering(models: Path, load: Loader, explaining: Explaining) -> Answering:
    return answering_from(models, load, explaining)


def answering_from(path: Path, load: Loader, explaining: Explaining | None = None) -> Answering:
    return Answering(path, load, explaining or Explaining())  # type: ignore[arg-type]


IMAGES = np.zeros((2, 8, 8), np.float32)


def version(answering: Answering) -> str:
    return answering.classifier().info.version


def test_the_model_is_loaded_once_while_nothing_changes(answering: Answering, load: Loader) -> None:
    assert [version(answering) for _ in range(3)] == ["1.0.0"] * 3
    assert load.loaded == ["1.0.0"]


def test_another_choice_takes_over_at_the_next_batch(
    models: Path, answering: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    assert version(answering) == "1.0.0"
    choose(models, "1.1.0")
    with caplog.at_level(logging.INFO, logger="worker.answering"):
        assert version(answering) == "1.1.0"
    assert "takes over from cxr-tiny 1.0.0" in caplog.text


def test_a_model_that_is_trained_again_in_its_place_takes_over(models: Path, load: Loader) -> None:
    answering = answering_from(models / "m-1.0.0", load)
    before = answering.classifier().info.digest
    write_plain(models / "m-1.0.0", "1.0.0", temperature=1.5)
    assert answering.classifier().info.digest != before


@pytest.mark.parametrize("damage", ["weights", "description", "gone", "choice"])
def test_a_damaged_model_is_told_once_and_the_old_one_goes_on(
    models: Path, answering: Answering, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    assert version(answering) == "1.0.0"
    new = models / "m-1.1.0"
    if damage == "weights":
        (new / artifact.WEIGHTS).write_bytes(b"short")
    elif damage == "description":
        (new / artifact.DESCRIPTION).write_text("{")
    elif damage == "gone":
        (new / artifact.WEIGHTS).unlink()
    choose(models, "9.9.9" if damage == "choice" else "1.1.0")
    assert [version(answering) for _ in range(4)] == ["1.0.0"] * 4
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert told.startswith("the new model is not used, cxr-tiny 1.0.0 goes on answering: CXR_MODEL")
    assert "\n" not in told


def test_a_model_that_was_mended_takes_over(models: Path, answering: Answering) -> None:
    assert version(answering) == "1.0.0"
    whole = (models / "m-1.1.0" / artifact.WEIGHTS).read_bytes()
    (models / "m-1.1.0" / artifact.WEIGHTS).write_bytes(b"short")
    choose(models, "1.1.0")
    assert version(answering) == "1.0.0"
    (models / "m-1.1.0" / artifact.WEIGHTS).write_bytes(whole)
    assert version(answering) == "1.1.0"


def test_whatever_a_new_model_raises_the_old_one_goes_on(
    models: Path, answering: Answering, load: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    assert version(answering) == "1.0.0"
    load.failure = MemoryError("2 GB\nwanted")
    choose(models, "1.1.0")
    assert version(answering) == "1.0.0"
    assert "goes on answering: MemoryError" in caplog.text


def test_without_a_first_model_there_is_an_error(models: Path, load: Loader) -> None:
    choose(models, "9.9.9")
    with pytest.raises(ConfigurationError, match="CXR_MODEL"):
        answering_from(models, load).classifier()


def test_the_explainer_is_built_when_it_is_first_wanted_and_kept(
    answering: Answering, explaining: Explaining
) -> None:
    answering.classifier()
    assert explaining.built == []
    assert answering.heatmaps(IMAGES).shape == IMAGES.shape
    answering.classifier()
    answering.heatmaps(IMAGES)
    assert explaining.built == ["1.0.0"]


def test_another_model_is_explained_by_an_explainer_of_its_own(
    models: Path, answering: Answering, explaining: Explaining
) -> None:
    answering.classifier()
    answering.heatmaps(IMAGES)
    choose(models, "1.1.0")
    answering.classifier()
    answering.heatmaps(IMAGES)
    assert explaining.built == ["1.0.0", "1.1.0"]


def test_an_explainer_is_warm_before_the_first_patient(
    answering: Answering, explaining: Explaining
) -> None:
    answering.warm_up_explainer()
    assert explaining.built == ["1.0.0"]


def test_without_an_explainer_the_worker_starts_all_the_same(
    answering: Answering, explaining: Explaining, caplog: pytest.LogCaptureFixture
) -> None:
    explaining.failure = RuntimeError("several\nlines")
    answering.warm_up_explainer()
    assert caplog.messages == ["there will be no heat maps: RuntimeError"]
    assert version(answering) == "1.0.0"
