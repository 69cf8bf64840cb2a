"""What is picked from the logs of a chaos run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import NoReturn

from tests.chaos.logs import tracebacks
from worker import logs


def test_a_traceback_in_our_own_format_is_found(tmp_path: Path) -> None:
    formatter = logs._Formatter(logs.FORMAT, "%Y-%m-%dT%H:%M:%S")
    (tmp_path / "io-1.001.log").write_text(f"{formatter.format(_failure())}\n")
    assert list(tracebacks(tmp_path)) == [
        "1 x io-1: worker.reporting: KeyError in chaos/test_logs.py _fail"
    ]


def _failure() -> logging.LogRecord:
    try:
        _fail()
    except KeyError:
        words, caught = "a study could not be reported", sys.exc_info()
        return logging.LogRecord("worker.reporting", logging.ERROR, "", 1, words, None, caught)


def _fail() -> NoReturn:
    raise KeyError("x")


def test_what_nobody_caught_is_found_but_not_that_of_a_server(tmp_path: Path) -> None:
    frame = '  File "/a/b/c.py", line 1, in run\n    x\n'
    text = f"Traceback (most recent call last):\n{frame}OSError: y\n"
    for name in ("relay.001.log", "redis.001.log"):
        (tmp_path / name).write_text(text)
    assert list(tracebacks(tmp_path)) == ["1 x relay: Traceback: OSError in b/c.py run"]
