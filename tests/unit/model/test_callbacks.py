"""What is drawn and told while a training runs."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

LABELS = ("normal", "bacterial", "viral")


@pytest.fixture
def validation():
    """What `Validation` leaves after an epoch."""
    generator = np.random.default_rng(0)
    classes = np.arange(90) % 3
    logits = generator.normal(size=(90, 3)) + 2 * np.eye(3)[classes]
    return SimpleNamespace(logits=logits, classes=classes, labels=LABELS)


def curves(tmp_path, validation):
    from model.callbacks import Curves

    return Curves(tmp_path, validation, [str(i // 2) for i in range(90)])


def drawn(folder) -> list[tuple[str, int]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted(folder.rglob("events*"))
    events = (event for path in files for event in EventFileLoader(str(path)).Load())
    return [(value.tag, event.step) for event in events for value in event.summary.value]


def test_curves_are_drawn_from_the_epochs_own_logits(tmp_path, validation):
    callback = curves(tmp_path, validation)
    callback.on_train_begin()
    callback.on_epoch_end(4)
    names = {"roc", "precision_recall", "reliability", "decision", "confusion"}
    assert set(drawn(tmp_path)) == {(f"curves/{name}", 4) for name in names}


def test_drawing_never_takes_a_noticeable_share_of_the_training(tmp_path, validation):
    callback = curves(tmp_path, validation)
    callback.on_train_begin()
    callback.spent = 1.0
    callback.on_epoch_end(0)
    assert drawn(tmp_path) == []
    callback.started -= 101
    callback.on_epoch_end(1)
    assert {step for _, step in drawn(tmp_path)} == {1}


@pytest.fixture
def progress(tmp_path, monkeypatch):
    """Return a function that makes the callback write to a string, terminal or not."""
    from model import callbacks

    def make(*, terminal: bool):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=60)
        monkeypatch.setattr(callbacks, "Console", lambda: console)
        return callbacks.Progress(tmp_path / "history.jsonl", "all", 3, 4), stream

    return make


def one_epoch(callback, clock: list[float], monkeypatch) -> None:
    from model import callbacks

    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock.pop(0))
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    for batch in range(4):
        callback.on_train_batch_end(batch)
    callback.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.25})
    callback.on_train_end()


def test_without_a_terminal_there_is_a_plain_line_a_minute_with_the_time_left(
    progress, monkeypatch
):
    callback, stream = progress(terminal=False)
    one_epoch(callback, [0.0, 50.0, 100.0, 150.0, 200.0, 200.0], monkeypatch)
    assert stream.getvalue().splitlines() == [
        "all 1/3: 2 of 4 batches, 8 min left",
        "all 1/3: 4 of 4 batches, 7 min left",
        "all 1/3: 200 s, 7 min left, loss 0.5, val_loss 0.25",
    ]


def test_on_a_terminal_there_is_a_bar(progress):
    callback, stream = progress(terminal=True)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0)
    callback.on_epoch_end(0, {"loss": 0.5})
    callback.on_train_end()
    assert "1/12" in stream.getvalue()
    assert "━" in stream.getvalue()


def test_the_history_keeps_each_epoch(progress, tmp_path, monkeypatch):
    callback, _ = progress(terminal=False)
    one_epoch(callback, [0.0] * 5 + [12.0], monkeypatch)
    assert json.loads((tmp_path / "history.jsonl").read_text()) == {
        "stage": "all",
        "epoch": 1,
        "seconds": 12.0,
        "loss": 0.5,
        "val_loss": 0.25,
    }
