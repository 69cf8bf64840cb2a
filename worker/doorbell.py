"""Rings bells from threads that must not wait for a broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from worker.desk import Bell

log = logging.getLogger(__name__)


class Doorbell:
    """One thread that announces what other threads leave here.

    Bells that are the same and not yet rung ring once: a burst of instances needs one message, not
    a thousand. When the broker is away, nothing piles up.

    Parameters
    ----------
    announce
        Sends one message; may take its time. When it fails, the relay makes up for it.
    """

    def __init__(self, announce: Callable[[Bell, datetime | None], None]) -> None:
        self._announce = announce
        self._waiting: dict[tuple[Bell, datetime | None], None] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, bell: Bell, at: datetime | None = None) -> None:
        """Ring soon, or at a time. Never waits and never fails."""
        with self._changed:
            self._waiting[bell, at] = None
            self._changed.notify()

    def stop(self, timeout_s: float = 2) -> None:
        """Ring what is left and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return
                waiting, self._waiting = self._waiting, {}
            for bell, at in waiting:
                try:
                    self._announce(bell, at)
                except Exception as error:  # noqa: BLE001  the thread rings for everyone
                    log.warning("a bell failed (%s); the relay rings", type(error).__name__)
