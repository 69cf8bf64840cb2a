"""Log lines: one an event, in UTC, and no text of an exception, which may quote a patient."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from worker import logs


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_line_has_time_level_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logging.getLogger("worker.test").info("hello")
    line = capsys.readouterr().err
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO +worker\.test: hello\n", line)


def test_lesser_levels_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    logging.getLogger("worker.test").info("hello")
    assert capsys.readouterr().err == ""


def test_an_exception_is_logged_with_its_place_and_kind_but_not_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        try:
            {}["Plantedname^Child"]
        except KeyError as error:
            raise ValueError("PLANTED-ID-4711") from error

    logs.configure("INFO")
    try:
        fail()
    except ValueError:
        logging.getLogger("worker.test").exception("it failed")
    err = capsys.readouterr().err
    assert "it failed" in err
    assert "ValueError" in err
    assert "test_logs.py" in err
    # The source line is shown, what the exception says is not.
    assert err.count("PLANTED-ID-4711") == err.count('raise ValueError("PLANTED-ID-4711")')
    assert "Plantedname" not in err


def test_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logs.configure("INFO")
    logging.getLogger("worker.test").info("hello")
    assert capsys.readouterr().err.count("hello") == 1
