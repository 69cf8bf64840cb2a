"""The time that leases and due work go by: the database's, as machines disagree.

A worker whose clock is behind would otherwise lose its leases while it works, and one that is ahead
would take over what others have in hand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

# How often the database is asked, and from which difference on a person is told.
AGREE_S = 60.0
AGAIN_S = 1.0
MUCH = timedelta(seconds=5)


def local_time() -> datetime:
    """Give the time of this machine, in UTC."""
    return datetime.now(UTC)


class DatabaseClock:
    """Tells the time of a database server, by the steady clock of this machine in between.

    Parameters
    ----------
    ask
        Gives the database's time, or raises SQLAlchemyError while it is away.
    steady
        Seconds that only ever grow, such as `time.monotonic`.
    """

    def __init__(
        self, ask: Callable[[], datetime], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._steady = ask, steady
        self._lock = threading.Lock()
        self._agreed: tuple[float, datetime] | None = None
        self._ask_at = -1.0

    def __call__(self) -> datetime:
        """Give the time, in UTC; this machine's as long as the database has never answered."""
        # Who has a time already does not wait for who asks.
        if self._steady() >= self._ask_at and self._lock.acquire(blocking=self._agreed is None):
            try:
                if self._steady() >= self._ask_at:
                    self._agree()
            finally:
                self._lock.release()
        if self._agreed is None:
            return local_time()
        then, told = self._agreed
        return told + timedelta(seconds=self._steady() - then)

    def _agree(self) -> None:
        before = self._steady()
        try:
            told = self._ask()
        except SQLAlchemyError:
            # Whoever asks for the time will find out by what they do next.
            self._ask_at = self._steady() + AGAIN_S
            return
        self._ask_at = before + AGREE_S
        self._agreed = ((before + self._steady()) / 2, told)
        off = local_time() - told
        if abs(off) > MUCH:
            log.warning(
                "the clock of this machine is %.0f s off the database's, which counts; "
                "times in reports are this machine's: set it right",
                off.total_seconds(),
            )


def clock_of(engine: Engine) -> Callable[[], datetime]:
    """Give the clock that all who work on a database share; SQLite is on this machine."""
    if engine.dialect.name == "sqlite":
        return local_time

    def ask() -> datetime:
        with engine.connect() as connection:
            told: datetime = connection.scalar(select(func.clock_timestamp())).astimezone(UTC)  # type: ignore[union-attr]
            return told

    return DatabaseClock(ask)
