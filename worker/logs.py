"""Logging of every role: one line an event, to standard error, never with patient data.

As text, or as JSON with what the event is about: the association, the study, the destination.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

from dicom_node.correlation import fields

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"


class _Formatter(logging.Formatter):
    """Formats an exception without its text, which may quote values of a data set or a row."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  the library's name
        """Give the frames and the exception's type."""
        kind, _, frames = ei
        lines = traceback.format_tb(frames) if frames else []
        return "".join(lines) + (kind.__name__ if kind else "")


class _JsonFormatter(_Formatter):
    """Formats a line as a JSON object, with what the thread that logs is about."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        line = {
            "time": f"{self.formatTime(record, TIME)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
            **fields(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: str, form: str = "text", role: str = "") -> None:
    """Send log lines of `level` and above to standard error, in UTC.

    Parameters
    ----------
    form
        ``text`` or ``json``.
    role
        Who logs; told by JSON lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter = _JsonFormatter(role) if form == "json" else _Formatter(FORMAT, TIME)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log values of data sets, signatures or whole URLs at low levels, or each message of ours
    # a second time.
    for name in (
        "pydicom",
        "highdicom",
        "alembic",
        "circus",
        "celery.app.trace",
        "celery.worker.strategy",
        "uvicorn",
        "httpx",
        "httpcore",
        "aiobotocore",
        "botocore",
        "s3fs",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=form == "json")  # else they are lines of their own
