"""Logging of every role: one line an event, to standard error, never with patient data."""

from __future__ import annotations

import logging
import sys
import time

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def configure(level: str) -> None:
    """Send log lines of `level` and above to standard error, in UTC."""
    formatter = logging.Formatter(FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log values of data sets at low levels, or each message of ours a second time.
    for name in (
        "pydicom",
        "pynetdicom",
        "highdicom",
        "alembic",
        "circus",
        "celery.app.trace",
        "celery.worker.strategy",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=False)
