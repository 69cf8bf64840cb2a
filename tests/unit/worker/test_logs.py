"""Log lines: one an event, in UTC, and no text of an exception, which may quote a patient."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from dicom_node.correlation import about
from worker import logs


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


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


# --- as JSON ---------------------------------------------------------------------------------


def test_a_json_line_is_an_object_with_what_the_thread_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "json", "node")
    with about(association_id="a", study_instance_uid="1.2"):
        logging.getLogger("worker.test").info("hello %s", 'you\n"there"')
    line = json.loads(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO", "role": "node", "logger": "worker.test", "message": 'hello you\n"there"',
        "association_id": "a", "study_instance_uid": "1.2",
    }  # fmt: skip


def test_an_exception_in_json_has_its_place_and_kind_but_not_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "json", "node")
    words = "PLANTED-" + "ID-4711"
    try:
        {}[words]
    except KeyError:
        logging.getLogger("worker.test").exception("it failed")
    (text,) = capsys.readouterr().err.splitlines()
    line = json.loads(text)
    assert line["message"] == "it failed"
    assert line["exception"].endswith("KeyError")
    assert "test_logs.py" in line["exception"]
    assert words not in text


def test_a_warning_of_a_library_is_a_line_of_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json", "node")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("is outdated", DeprecationWarning, stacklevel=1)
    assert "is outdated" in json.loads(capsys.readouterr().err)["message"]


def test_text_lines_are_as_they_were_whatever_the_thread_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "text", "node")
    with about(association_id="a"):
        logging.getLogger("worker.test").info("hello")
    assert capsys.readouterr().err.endswith("Z INFO    worker.test: hello\n")


def test_no_library_logs_where_something_is_posted(capsys: pytest.CaptureFixture[str]) -> None:
    """httpx logs whole URLs, and the path of a webhook may be a secret."""
    logs.configure("DEBUG")
    for name in ("httpx", "httpcore.http11", "httpcore.connection"):
        logging.getLogger(name).info("HTTP Request: POST https://h/s3cret-path")
    assert "s3cret-path" not in capsys.readouterr().err
