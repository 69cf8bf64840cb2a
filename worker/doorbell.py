"""Rings bells from threads that must not wait for a broker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.desk import Bell

log = logging.getLogger(__name__)

# So long after a bell the next one of its kind comes at the soonest. Who comes for the one finds
# what the other is for as well: a burst costs broker and workers a few messages, not a thousand.
APART: Final = timedelta(milliseconds=50)


class Doorbell:
    """One thread that announces what other threads leave here.

    The first bell of a kind rings at once; those that follow soon ring together. When the broker is
    away, nothing piles up.

    Parameters
    ----------
    announce
        Sends one message; may take its time. When it fails, the relay makes up for it.
    holds
        Whether bells for later are kept here until their time, and not by the broker.
    """

    def __init__(
        self, announce: Callable[[Bell, datetime | None], None], *, holds: bool = False
    ) -> None:
        self._announce = announce
        self._holds = holds
        # What is to ring -> before when it should not, by the clock of `time.monotonic`.
        self._waiting: dict[tuple[Bell, datetime | None], float] = {}
        self._rung_at: dict[Bell, float] = {}
        self._last_for: dict[Bell, datetime] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, bell: Bell, at: datetime | None = None) -> None:
        """Ring soon, or at a time or soon after it. Never waits and never fails."""
        now = datetime.now(UTC)
        with self._changed:
            soonest = 0.0
            if at is None or at <= now:
                at, soonest = None, self._rung_at.get(bell, 0.0) + APART.total_seconds()
            else:
                last = self._last_for.get(bell)
                if last is not None and at <= last <= at + APART:
                    return  # that one is still to come, and is for this as well
                if last is not None and last < at < last + APART:
                    at = last + APART
                self._last_for[bell] = at
                if self._holds:
                    soonest = time.monotonic() + (at - now).total_seconds()
            if (bell, at) not in self._waiting:
                self._waiting[bell, at] = soonest
                self._changed.notify()

    def stop(self, timeout_s: float = 2) -> None:
        """Ring what is left and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (due := self._due()) is not None:
            for bell, at in due:
                try:
                    self._ring(bell, at)
                except Exception as error:  # noqa: BLE001  the thread rings for everyone
                    log.warning("a bell failed (%s); the relay rings", type(error).__name__)

    def _due(self) -> list[tuple[Bell, datetime | None]] | None:
        """Wait for what is to ring now; None when it is time to end."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = [key for key, soonest in self._waiting.items() if soonest <= now]
                if self._stopped:
                    due = list(self._waiting)
                if due or self._stopped:
                    break
                self._changed.wait(min(self._waiting.values()) - now if self._waiting else None)
            for bell, at in due:
                del self._waiting[bell, at]
                if at is None:
                    self._rung_at[bell] = now
        return due or None

    def _ring(self, bell: Bell, at: datetime | None) -> None:
        is_held = self._holds and at is not None and at <= datetime.now(UTC)
        self._announce(bell, None if is_held else at)
