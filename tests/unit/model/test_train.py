"""Training on generated images, stopped, resumed, fine-tuned, and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model import data, train
from model.predict import Classifier
from model.preprocess import Preprocessing
from tests.unit.model.tiny import TINY_OPTIONS, make_tiny

CHECKOUT = Path(__file__).parents[3]


def test_a_stopped_training_loses_no_finished_epoch(interrupted_run):
    out, codes = interrupted_run
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert codes == [130, 0]
    assert [row["epoch"] for row in rows if row["stage"] == "all"] == [1, 2]
    assert {"loss", "val_loss", "val_auc", "learning_rate"} <= set(rows[0])


def test_a_training_ends_as_an_artifact_that_answers(interrupted_run):
    out, _ = interrupted_run
    classifier = Classifier.load(out / "artifact")
    assert classifier.info.labels == ("normal", "bacterial", "viral")
    assert classifier.info.metrics["validation"]["patients"] > 2
    answers = classifier.predict(np.random.default_rng(0).random((3, 32, 32)), "ignore")
    assert len(answers) == 3


def written(folder: Path) -> list[str]:
    """Return the names of what TensorBoard would show of a folder, one for each time written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = [str(path) for path in folder.rglob("events*")]
    events = (event for path in files for event in EventFileLoader(path).Load())
    return [value.tag for event in events for value in event.summary.value]


def test_tensorboard_gets_the_pictures_and_the_scalars_of_every_epoch(interrupted_run):
    names = written(interrupted_run[0] / "tensorboard" / "all")
    assert "augmented" in {name.split("/")[0] for name in names}
    for scalar in ("epoch_loss", "epoch_auc", "epoch_learning_rate"):
        assert names.count(scalar) >= 2


def test_tensorboard_gets_the_curves_of_the_artifact_when_training_has_ended(interrupted_run):
    names = set(written(interrupted_run[0] / "tensorboard" / "validation"))
    assert {"validation/confusion", "validation/reliability", "validation/roc"} <= names


def test_the_worst_mistakes_go_to_tensorboard_with_their_saliency(
    interrupted_run, generated_set, tmp_path, monkeypatch
):
    from model.board import write_judgement
    from model.gate import PixelGate

    monkeypatch.setattr(PixelGate, "judge", lambda self, features: [None] * len(features))
    examples = data.find_examples(generated_set)[20:28]
    swapped = [replace(e, label="bacterial" if e.label == "normal" else "normal") for e in examples]
    images = data.load(swapped, Preprocessing(size=32))
    write_judgement(interrupted_run[0] / "artifact", images, tmp_path)
    assert "validation/mistakes" in written(tmp_path)


def test_a_second_training_into_the_same_folder_is_refused(interrupted_run, generated_set, capsys):
    out, _ = interrupted_run
    assert train.main(["--data", str(generated_set), "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_resuming_with_other_options_is_refused(interrupted_run, generated_set, capsys):
    out, _ = interrupted_run
    arguments = ["--data", str(generated_set), "--out", str(out), "--resume", "--seed", "9"]
    assert train.main(arguments) == 2
    assert "other options" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing", "empty", "no images"])
def test_a_data_folder_that_cannot_be_used_is_one_line(tmp_path, damage, capsys):
    folder = tmp_path / "data"
    if damage != "missing":
        folder.mkdir()
    if damage == "no images":
        (folder / "NORMAL").mkdir()
    assert train.main(["--data", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_of_another_kind_are_one_line(generated_set, tmp_path, monkeypatch, capsys):
    make_tiny(monkeypatch)
    (tmp_path / "w.weights.h5").write_bytes(b"not weights")
    arguments = ["--data", str(generated_set), "--out", str(tmp_path / "out"), *TINY_OPTIONS]
    assert train.main([*arguments, "--weights", str(tmp_path / "w.weights.h5")]) == 2
    assert "--weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--backbone", "alexnet"], ["--adults", "nowhere"], ["--other-adults", "nowhere"]]
)
def test_a_wrong_option_is_told_before_any_training(generated_set, tmp_path, capsys, option):
    arguments = ["--data", str(generated_set), "--out", str(tmp_path / "out"), *option]
    assert train.main(arguments) == 2
    told = capsys.readouterr().err
    assert option[0] in told or option[1] in told


@pytest.mark.parametrize(
    "option",
    [
        ["--epochs", "0"],
        ["--size", "0"],
        ["--batch", "0"],
        ["--validation", "1.5"],
        ["--learning-rate", "nan"],
        ["--loss", "hinge"],
        ["--weights", "nowhere.h5"],
        ["--weights", "nowhere"],
    ],
)
def test_an_option_that_cannot_be_is_one_line_that_names_it(tmp_path, capsys, option):
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), *option]
    assert train.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {option[0]} ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("program", ["train", "evaluate", "export"])
def test_the_programs_run_as_scripts(program):
    path = CHECKOUT / "model" / f"{program}.py"
    done = subprocess.run(
        [sys.executable, path, "--help"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert "usage" in done.stdout
