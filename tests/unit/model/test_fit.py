"""Stages, members and the end of a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model import artifact, data, splits
from model.early_stop import Best
from model.options import Training
from model.preprocess import Preprocessing
from tests.unit.model.tiny import make_tiny

TINY = Training(
    "tiny", size=32, epochs=1, head_epochs=0, top_epochs=0, batch=16, precision="float32"
)


@pytest.fixture
def fitting(interrupted_run, generated_set, tmp_path, monkeypatch):
    """Return a function from options to a fitting that starts from a released artifact.

    With `misleading`, validation holds the images of training under other labels, so that it gets
    worse with all that is learned.
    """
    from model.fit import Fitting

    make_tiny(monkeypatch)
    start = str(interrupted_run[0] / "artifact")
    train, validation = splits.find_splits(generated_set, 0.3, seed=1)
    images = [data.load(part, Preprocessing(size=32)) for part in (train, validation)]

    others = {"normal": "viral", "bacterial": "normal", "viral": "normal"}
    misled = [replace(e, label=others[e.label]) for e in images[0].examples]
    misleading_images = [images[0], replace(images[0], examples=misled)]

    def build(out: str = "out", *, misleading: bool = False, **options) -> Fitting:
        training = replace(TINY, **{"weights": start, **options})
        (tmp_path / out).mkdir(exist_ok=True)
        chosen = misleading_images if misleading else images
        return Fitting(training, tmp_path / out, *chosen, data.class_labels(train))

    return build


def stages(folder: Path) -> list[str]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["stage"] for line in lines]


def kernels(network) -> dict[str, np.ndarray]:
    return {w.path: w.numpy() for la in network.layers for w in la.trainable_variables}


def test_a_released_artifact_is_fine_tuned_head_first_then_from_the_top(fitting):
    work = fitting(head_epochs=1, top_epochs=1)
    tuned = work.run().get_weights()
    assert stages(work.out) == ["head", "top", "all", "average of 1"]
    before = artifact.read(Path(work.training.weights)).network_weights()
    assert 0 < np.abs(tuned[0] - before[0]).max() < 0.05


@pytest.mark.parametrize(
    ("stage", "learning"),
    [("head", {"logits"}), ("top", {"stack2", "stack3", "logits"}), ("all-2", None)],
)
def test_a_stage_trains_its_layers_and_leaves_the_statistics_of_the_others(
    fitting, stage, learning
):
    import keras

    from model.fit import unfreeze

    network = fitting()._network()
    unfreeze(network, stage)
    prefixes = {v.path.split("_")[0].split("/")[0] for v in network.trainable_variables}
    assert prefixes == (learning or {"conv1", "stack0", "stack1", "stack2", "stack3", "logits"})
    image = np.ones((2, 32, 32, 1), np.float32)
    norm = next(la for la in network.layers if isinstance(la, keras.layers.BatchNormalization))
    before = norm.moving_mean.numpy()
    network(image, training=True)
    assert np.array_equal(before, norm.moving_mean.numpy()) == (stage != "all-2")


def test_members_start_alike_differ_and_are_averaged_into_one_network(fitting, monkeypatch):
    from model import fit

    monkeypatch.setattr(fit, "refresh_normalisation", lambda *_: None)
    both = fitting("both", members=2, average=0.0)
    averaged = kernels(both.run())
    first = kernels(fitting("first", average=0.0).run())
    assert stages(both.out) == ["all", "all-2", "average of 2"]
    path = next(p for p in averaged if p.endswith("kernel"))
    second = 2 * averaged[path] - first[path]
    assert 1e-5 < np.abs(second - first[path]).max() < 0.1


def test_training_ends_when_patience_is_over_with_the_best_weights(fitting, capsys):
    work = fitting(misleading=True, epochs=20, patience=1, learning_rate=0.01)
    work.run()
    losses = list(Best(work.history, "all", work.out).losses().values())
    assert len(losses) < 20
    assert losses[-1] >= min(losses[:-1])
    assert (work.out / "checkpoint" / "all-best" / "best.weights.h5").exists()
    work.run()  # resumed: it is over already
    assert stages(work.out).count("all") == len(losses)


def test_the_same_seed_trains_the_same_network(fitting):
    first, second = (fitting(out).run().get_weights() for out in ("first", "second"))
    assert all(map(np.array_equal, first, second))


def test_an_epoch_trained_again_counts_as_its_last_time(tmp_path):
    rows = [("all", 1, 0.5), ("all", 2, 0.3), ("head", 3, 0.1), ("all", 2, 0.6)]
    text = "\n".join(json.dumps({"stage": s, "epoch": e, "val_loss": v}) for s, e, v in rows)
    (tmp_path / "history.jsonl").write_text(text + "\n")
    best = Best(tmp_path / "history.jsonl", "all", tmp_path)
    assert best.losses() == {1: 0.5, 2: 0.6}
    assert best.is_over(1)
    assert not best.is_over(2)
    assert not Best(tmp_path / "none", "all", tmp_path).is_over(1)


def test_the_focal_loss_weighs_what_is_certain_less():
    from model.fit import LOSSES

    truth = np.array([[1.0, 0.0]], np.float32)
    logits = np.array([[3.0, -3.0]], np.float32)
    losses = {name: float(kind(from_logits=True)(truth, logits)) for name, kind in LOSSES.items()}
    assert losses["focal"] < 0.01 * losses["crossentropy"]


def test_classes_count_alike_unless_told_otherwise(fitting):
    weights = fitting()._class_weights()
    counts = np.bincount(fitting().classes)
    assert np.allclose([weights[i] * n for i, n in enumerate(counts)], counts.sum() / len(counts))
    assert fitting(class_weights="none")._class_weights() is None
