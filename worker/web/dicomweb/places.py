"""How many searches go on at once: each may read thousands of files, and holds a thread for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import HTTPException

# All pages together have 40 threads: most of them are never of searches, not even of those that
# wait. A viewer asks for the series of a few studies at once.
_WAITING: Final = threading.BoundedSemaphore(16)
_AT_ONCE: Final = threading.BoundedSemaphore(4)
_PATIENCE_S: Final = 10.0
_AGAIN_S: Final = 5


@contextmanager
def searching() -> Iterator[None]:
    """Hold one of the few places where is searched.

    Raises
    ------
    HTTPException
        503 when too many wait already, or none becomes free.
    """
    if not _WAITING.acquire(blocking=False):
        raise _busy()
    try:
        if not _AT_ONCE.acquire(timeout=_PATIENCE_S):
            raise _busy()
        try:
            yield
        finally:
            _AT_ONCE.release()
    finally:
        _WAITING.release()


def _busy() -> HTTPException:
    words = f"Too many searches go on; try again in {_AGAIN_S} seconds."
    return HTTPException(503, words, {"Retry-After": str(_AGAIN_S)})
