"""A data set of generated images, and a tiny model trained on them once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.model.tiny import TINY_OPTIONS, make_tiny, write_set

CHECKOUT = Path(__file__).parents[3]
RELEASED = CHECKOUT / "model" / "released"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real radiographs, which are no part of the project."""
    folder = Path(os.environ.get("CXR_TEST_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "chest_xray_original").is_dir():
        pytest.skip("real radiographs are not here: set CXR_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def released() -> Path:
    if not (RELEASED / "current").is_file():
        pytest.skip("no model was released into model/released")
    return RELEASED


@pytest.fixture(scope="session")
def generated_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), 12)


@pytest.fixture(scope="session")
def interrupted_run(
    generated_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[int]]:
    """A training of two epochs, stopped after the first and resumed: its folder, its exit codes."""
    from model import callbacks, train

    out = tmp_path_factory.mktemp("run") / "out"
    arguments = ["--data", str(generated_set), "--out", str(out), "--epochs", "2", *TINY_OPTIONS]
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        with patch.context() as stopping:
            stopping.setattr(callbacks.Progress, "on_epoch_end", _stop_after_writing())
            first = train.main(arguments)
        return out, [first, train.main([*arguments, "--resume"])]


def _stop_after_writing():
    from model.callbacks import Progress

    write = Progress.on_epoch_end

    def stop(self, epoch, logs=None):
        write(self, epoch, logs)
        self.on_train_end()
        raise KeyboardInterrupt

    return stop
