"""What every step of a worker works with: the desk, the lease it holds, the bells it rings."""

from __future__ import annotations

import logging
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.decoder_child import Decoder
from dicom_node.store import Store
from worker import ledger
from worker.clock import local_time
from worker.database import DATABASE_AWAY, SessionFactory
from worker.ledger import Claim
from worker.settings import Settings
from worker.states import JobKind

log = logging.getLogger(__name__)

AWAY_S = 5
# For so long a worker goes from batch to batch before it looks which model is chosen, and before
# one that is to end does.
GO_ON_S = 5.0
# A candidate that takes longer for what it has in hand, its loading included, ends its process.
SHADOW_LIMIT_S = 120.0


def end_this_process() -> None:
    """End at once, as a crash would: whatever is in hand is taken over by others."""
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Desk:
    """What every step works with.

    `preparing` is how many instances are prepared for the network at once. `end_process` is called
    when a step has gone beyond its time limit: a thread cannot be stopped from outside.
    """

    sessions: SessionFactory
    archive: Store
    settings: Settings
    clock: Callable[[], datetime] = local_time
    decoder: Decoder = field(default_factory=Decoder)
    preparing: int = 1
    end_process: Callable[[], None] = end_this_process

    @property
    def lease(self) -> timedelta:
        """How long claimed work is hidden from other workers."""
        return timedelta(seconds=self.settings.lease_s)

    @property
    def silence(self) -> timedelta:
        """How long an open association may be silent before it counts as gone."""
        return timedelta(seconds=self.settings.network_timeout_s)

    def shortly(self) -> datetime:
        """Give the time of the next try where the archive is away, or memory is lacking."""
        return self.back_off(1, AWAY_S, AWAY_S)

    def back_off(self, attempts: int, first_s: float, most_s: float) -> datetime:
        """Give the time of the next try: doubling, capped, with jitter of up to a quarter."""
        wait = min(most_s, first_s * 2 ** min(attempts - 1, 30))
        return self.clock() + timedelta(seconds=wait * random.uniform(0.75, 1))  # noqa: S311


@contextmanager
def held(desk: Desk, claims: Sequence[Claim], limit_s: float = math.inf) -> Iterator[None]:
    """Keep claimed work claimed while it is worked on: the lease ends soon after the process does.

    A step that takes longer than `limit_s` ends its process, and its lease with it.
    """
    done = threading.Event()
    deadline = time.monotonic() + limit_s

    def beat() -> None:
        while not done.wait(min(desk.settings.lease_s / 4, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                log.critical(
                    "%s took longer than CXR_STEP_LIMIT_S; this process ends", claims[0].kind
                )
                return desk.end_process()
            try:
                for claim in claims:  # each by itself: who locks several does it in another order
                    with desk.sessions() as session, session.begin():
                        ledger.extend(session, claim, desk.clock() + desk.lease)
            except SQLAlchemyError as error:
                log.warning("a lease was not extended: %s", type(error).__name__)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if not _handed_back(desk, claims, error):
            hand_back = partial(_hand_back_later, desk, claims, error)
            threading.Thread(target=hand_back, name="hand back", daemon=True).start()
        raise
    finally:
        done.set()
        thread.join()


def release(desk: Desk, claims: Sequence[Claim]) -> None:
    """Give up claims on what was not begun, as there was no time: that says nothing of it."""
    for claim in claims:
        with desk.sessions() as session, session.begin():
            ledger.put_back(session, claim, desk.clock(), "there was no time for it", counts=False)


def _handed_back(desk: Desk, claims: Sequence[Claim], error: Exception) -> bool:
    """Release what a step left claimed as it failed; False while the database is away.

    Its worker is alive: that the lease ran out meanwhile is nobody's death. What the step has done,
    or lost for another reason, is not touched.
    """
    away = isinstance(error, DATABASE_AWAY)
    try:
        for claim in claims:
            due_at = desk.back_off(1 if away else claim.tries, 1, 60)
            with desk.sessions() as session, session.begin():
                ledger.hand_back(session, claim, due_at, type(error).__name__, counts=not away)
    except SQLAlchemyError:
        return False
    return True


def _hand_back_later(desk: Desk, claims: Sequence[Claim], error: Exception) -> None:
    while not _handed_back(desk, claims, error):
        time.sleep(min(1.0, desk.settings.lease_s / 4))


@dataclass(frozen=True, slots=True)
class Bell:
    """A message that work may be due; the ledger knows what work."""

    kind: JobKind
    destination: str = ""
