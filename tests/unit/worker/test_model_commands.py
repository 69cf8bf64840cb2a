"""`cxr-worker model shadow`, `promote`, `rollback`: each step is recorded before it is taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from sqlalchemy import select
from typer.testing import CliRunner

from dicom_node.errors import ConfigurationError, PacsWorkerError
from model import artifact
from tests.unit.model.artifacts import write_plain
from worker import composition, database, given_up, model_life
from worker.__main__ import app
from worker.audit.trail import NotRecorded
from worker.model_commands import windows
from worker.model_life import StepRefused
from worker.tables import Candidate, ModelEvent

BUILT = (composition.settings, composition.engine)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Three versions, the first of them in use, beside a database."""
    folder = tmp_path / "models"
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        write_plain(folder / f"m-{version}", version)
    (folder / artifact.CURRENT).write_text("m-1.0.0\n")
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_MODEL", str(folder))
    monkeypatch.setattr(composition, "load_classifier", lambda _: None)
    monkeypatch.chdir(tmp_path)
    for each in BUILT:
        each.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    database.upgrade(composition.settings().database_url)
    yield folder
    root.handlers[:], root.level = handlers, level
    composition.engine().dispose()
    for each in BUILT:
        each.cache_clear()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def mistake(*words: str) -> PacsWorkerError:
    result = run(*words)
    assert isinstance(result.exception, PacsWorkerError), result.output
    return result.exception


def current(models: Path) -> str:
    return (models / artifact.CURRENT).read_text().strip()


def all_of(table: type[Any]) -> list[Any]:
    with database.build_sessions(composition.engine())() as session:
        return list(session.scalars(select(table).order_by(table.id)))


def steps() -> list[tuple[str, str, str, str]]:
    return [(row.action, row.folder, row.former, row.reason) for row in all_of(ModelEvent)]


def audited() -> str:
    path = composition.settings().audit_path
    return path.read_text() if path.exists() else ""


def test_a_candidate_is_tried_promoted_and_rolled_back(models: Path) -> None:
    assert "is tried from now on" in done("model", "shadow", "1.1.0", "--reason", "retrained")
    assert current(models) == "m-1.0.0"
    assert "answers from now on" in done("model", "promote", "--reason", "it is better")
    assert current(models) == "m-1.1.0"
    assert "answers again" in done("model", "rollback", "--reason", "it is not")
    assert current(models) == "m-1.0.0"
    assert steps() == [
        ("SHADOWED", "m-1.1.0", "", "retrained"),
        ("PROMOTED", "m-1.1.0", "m-1.0.0", "it is better"),
        ("ROLLED_BACK", "m-1.0.0", "m-1.1.0", "it is not"),
    ]
    assert {row.person for row in all_of(ModelEvent)} == {given_up.who()}
    assert [row.until is None for row in all_of(Candidate)] == [False]
    lines = done("model", "history").splitlines()
    assert [line.split()[2] for line in lines] == ["ROLLED_BACK", "PROMOTED", "SHADOWED"]
    assert lines[1].endswith(f"by {given_up.who()}: it is better")
    assert audited().count("110131") == 3


def test_a_candidate_is_withdrawn(models: Path) -> None:
    done("model", "shadow", "m-1.1.0")
    assert "is tried no more" in done("model", "shadow", "--off", "--reason", "too slow")
    assert current(models) == "m-1.0.0"
    assert steps()[-1] == ("WITHDRAWN", "m-1.1.0", "", "too slow")
    assert isinstance(mistake("model", "shadow", "--off"), StepRefused)


def test_there_is_nothing_to_promote_without_a_candidate(models: Path) -> None:
    error = mistake("model", "promote", "--reason", "why")
    assert "there is no candidate" in str(error)
    assert (current(models), steps(), audited()) == ("m-1.0.0", [], "")


@pytest.mark.parametrize("before", [[], ["use"], ["promote", "rollback"], ["promote", "use"]])
def test_there_is_nothing_to_return_to_unless_the_last_change_was_a_promotion(
    models: Path, before: list[str]
) -> None:
    done("model", "shadow", "1.1.0")
    for word in before:
        done("model", word, *(["1.2.0"] if word == "use" else ["--reason", "why"]))
    now, known = current(models), steps()
    assert "nothing to return to" in str(mistake("model", "rollback", "--reason", "why"))
    assert (current(models), steps()) == (now, known)


def test_a_choice_by_hand_after_a_promotion_is_not_undone(models: Path) -> None:
    done("model", "shadow", "1.1.0")
    done("model", "promote", "--reason", "why")
    (models / artifact.CURRENT).write_text("m-1.2.0\n")
    assert isinstance(mistake("model", "rollback", "--reason", "why"), StepRefused)
    assert current(models) == "m-1.2.0"


@pytest.mark.parametrize("words", [["promote"], ["rollback"], ["promote", "--reason", " "]])
def test_nothing_changes_without_a_reason(models: Path, words: list[str]) -> None:
    done("model", "shadow", "1.1.0")
    result = run("model", *words)
    assert result.exit_code == 2
    assert "--reason" in result.output
    assert current(models) == "m-1.0.0"


@pytest.mark.parametrize("words", [[], ["1.1.0", "--off"]])
def test_a_trial_wants_to_be_told_what(models: Path, words: list[str]) -> None:
    assert run("model", "shadow", *words).exit_code == 2
    assert all_of(Candidate) == []


def test_the_model_in_use_is_no_candidate(models: Path) -> None:
    assert "nothing to compare" in str(mistake("model", "shadow", "1.0.0"))
    assert all_of(Candidate) == []


def test_a_damaged_version_is_neither_tried_nor_promoted(models: Path) -> None:
    weights = models / "m-1.1.0" / artifact.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(b"damaged")
    assert isinstance(mistake("model", "shadow", "m-1.1.0"), ConfigurationError)
    weights.write_bytes(whole)
    done("model", "shadow", "m-1.1.0")
    weights.write_bytes(b"damaged")
    assert isinstance(mistake("model", "promote", "--reason", "why"), ConfigurationError)
    assert current(models) == "m-1.0.0"


def test_a_version_that_is_not_what_was_tried_is_not_promoted(models: Path) -> None:
    done("model", "shadow", "m-1.1.0")
    for file in (models / "m-1.2.0").iterdir():
        (models / "m-1.1.0" / file.name).write_bytes(file.read_bytes())
    assert "is not what was tried" in str(mistake("model", "promote", "--reason", "why"))
    assert current(models) == "m-1.0.0"


def test_a_candidate_that_is_chosen_otherwise_is_tried_no_more(models: Path) -> None:
    done("model", "shadow", "1.1.0")
    done("model", "use", "1.1.0")
    assert [row.until is None for row in all_of(Candidate)] == [False]
    assert steps()[-1] == ("USED", "m-1.1.0", "m-1.0.0", "")


def test_a_step_that_cannot_be_written_down_is_not_taken(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("model", "shadow", "1.1.0")
    monkeypatch.setenv("CXR_AUDIT_FILE", "/dev/null/audit.log")
    composition.settings.cache_clear()
    assert isinstance(mistake("model", "promote", "--reason", "why"), NotRecorded)
    assert current(models) == "m-1.0.0"
    assert [action for action, *_ in steps()] == ["SHADOWED"]
    assert [row.until is None for row in all_of(Candidate)] == [True]


def test_a_choice_that_cannot_be_written_is_not_in_the_history(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ConfigurationError("CXR_MODEL", "cannot be written")

    done("model", "shadow", "1.1.0")
    monkeypatch.setattr(model_life.registry, "choose", refuse)
    assert isinstance(mistake("model", "promote", "--reason", "why"), ConfigurationError)
    assert [action for action, *_ in steps()] == ["SHADOWED"]
    assert [row.until is None for row in all_of(Candidate)] == [True]


def test_a_model_can_be_chosen_while_nothing_can_be_recorded(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the way back to a model that works."""
    database.downgrade(composition.settings().database_url, "0009")
    done("model", "use", "1.1.0")
    assert current(models) == "m-1.1.0"


def test_what_there_is_to_compare_is_told(models: Path) -> None:
    assert "There was no candidate yet" in done("model", "compare")
    done("model", "shadow", "1.1.0")
    assert "It has seen no image yet." in done("model", "compare")
    assert "No step" not in done("model", "history")


# --- drift -----------------------------------------------------------------------------------


def test_drift_says_so_when_there_is_nothing_to_compare(models: Path) -> None:
    assert "has not answered yet" in done("drift")
    assert "has not answered yet" in done("drift", "--against-training")


def test_by_default_two_weeks_are_compared_with_the_eight_before() -> None:
    now = datetime(2026, 11, 23, 12).astimezone()
    window, baseline = windows(now)
    assert (window.until, baseline.until) == (now, window.since)
    assert window.until - window.since == timedelta(days=14)
    assert baseline.until - baseline.since == timedelta(days=56)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (("2026-11-20", "2026-11-19", None, None), "--until"),
        ((None, None, "2026-11-02", "2026-11-01"), "--baseline-until"),
        (("2026-11-10", "2026-11-20", "2026-11-01", "2026-11-11"), "overlaps"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(
    times: tuple[str | None, ...], told: str
) -> None:
    given = [None if each is None else datetime.fromisoformat(each) for each in times]
    with pytest.raises(typer.BadParameter, match=told):
        windows(datetime(2026, 11, 23, 12).astimezone(), *given)


def test_a_baseline_in_time_and_the_training_exclude_each_other(models: Path) -> None:
    assert run("drift", "--against-training", "--baseline-since", "2026-01-01").exit_code == 2
