"""What takes its time to be looked at, for who must not wait: a database, a disk, a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class Looked(Generic[Seen]):
    """Looks at something, by one thread at a time and not more often than every few seconds.

    What hangs keeps that one thread, however often it is asked for.

    Parameters
    ----------
    look
        Looks; may hang, and may fail.
    good_for_s
        How long what was seen, or the failure, is given again.
    wait_s
        How long to wait for it.
    """

    def __init__(self, look: Callable[[], Seen], good_for_s: float, wait_s: float) -> None:
        self._look, self._good_for_s, self._wait_s = look, good_for_s, wait_s
        self._lock = threading.Lock()
        self._last: Future[Seen] | None = None
        self._ended_at = 0.0

    def __call__(self) -> Seen:
        """Give what was seen, or raise as looking did.

        Raises
        ------
        TimeoutError
            When it takes longer than there is time to wait.
        """
        with self._lock:
            last = self._last
            is_over = last is not None and last.done()
            if last is None or (is_over and time.monotonic() - self._ended_at > self._good_for_s):
                last = self._last = Future()
                threading.Thread(target=self._run, args=(last,), name="look", daemon=True).start()
        return last.result(self._wait_s)

    def _run(self, found: Future[Seen]) -> None:
        try:
            seen = self._look()
        except Exception as error:  # noqa: BLE001  it is raised where it was asked for
            self._ended_at = time.monotonic()
            found.set_exception(error)
        else:
            self._ended_at = time.monotonic()
            found.set_result(seen)
