"""Logging of every role: one line an event, to standard error, never with patient data."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Formats an exception without its text, which may quote values of a data set or a row."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  the library's name
        """Give the frames and the exception's type."""
        kind, _, frames = ei
        lines = traceback.format_tb(frames) if frames else []
        return "".join(lines) + (kind.__name__ if kind else "")


def configure(level: str) -> None:
    """Send log lines of `level` and above to standard error, in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Formatter(FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log values of data sets at low levels, or each message of ours a second time.
    for name in (
        "pydicom",
        "highdicom",
        "alembic",
        "circus",
        "celery.app.trace",
        "celery.worker.strategy",
        "uvicorn",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=False)
