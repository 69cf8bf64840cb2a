"""TensorFlow greets on stderr before it has read any log level; keep the greeting from users."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_GREETING = re.compile(rb"WARNING: All log messages before absl|I\d{4} ")


@contextmanager
def without_greeting() -> Iterator[None]:
    """Hold back what is written to stderr meanwhile, and then pass on all but the greeting."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            held.seek(0)
            kept = [line for line in held if not _GREETING.match(line)]
            os.write(stderr, b"".join(kept))
            os.close(stderr)
