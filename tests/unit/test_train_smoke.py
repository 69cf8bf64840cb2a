"""What `make train-smoke` calls a failure; the training itself runs in CI."""

from __future__ import annotations

import pytest

from tests import train_smoke
from tests.train_smoke import Failed


def test_a_loss_that_falls_is_told_with_both_ends() -> None:
    rows = [{"loss": 1.1}, {"loss": 0.9}, {"loss": 0.5}, {"val_auc": 1.0}]
    assert train_smoke.loss_falls(rows) == "loss 1.100 -> 0.500 in 3 epochs"


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 0.9], [1.0, 1.2], [1.0, float("nan")]])
def test_a_loss_that_does_not_fall_is_a_failure(losses: list[float]) -> None:
    with pytest.raises(Failed):
        train_smoke.loss_falls([{"loss": loss} for loss in losses])


@pytest.mark.parametrize(
    ("normal", "ill", "told"),
    [
        ([0.5] * 8, [0.6] * 8, "not told apart"),
        ([0.9] * 8, [0.1] * 8, "not told apart"),
        ([0.1] * 3, [0.9] * 8, "only 3, 8 assessed"),
    ],
)
def test_an_artifact_that_cannot_tell_or_does_not_answer_is_a_failure(normal, ill, told) -> None:
    with pytest.raises(Failed, match=told):
        train_smoke.told_apart(normal, ill)


def test_a_folder_without_a_model_is_a_failure_of_one_line(tmp_path, monkeypatch) -> None:
    for key in ("CXR_MODEL", "CXR_HOME"):
        monkeypatch.setenv(key, "set by the check, and taken back by this")
    with pytest.raises(Failed, match="no model") as raised:
        train_smoke.serves(tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_failure_is_one_line_and_an_exit_code(monkeypatch, capsys) -> None:
    def failing(home: object) -> str:
        raise Failed("the loss did not fall")

    monkeypatch.setattr(train_smoke, "check", failing)
    assert train_smoke.main() == 1
    assert capsys.readouterr().err == "train-smoke: failed: the loss did not fall\n"
