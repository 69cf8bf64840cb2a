"""The relay finds due work that no message announced, and announces it.

It makes up for every lost message: a broker that was away, emptied or restored, a worker that died
with one in its hands. It also wakes what becomes due by the clock: a back-off that ends, a lease
that expires, a study that fell quiet without its association being closed.

As it looks at the database all the time, it keeps SQLite's log short as well.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Engine

from worker import ledger
from worker.database import READS_ONLY, shorten_log
from worker.desk import Bell, Desk
from worker.ledger import candidates, set_back
from worker.ledger.candidates import SETTLED
from worker.states import JobKind

log = logging.getLogger(__name__)

# Work this young is being announced by whoever made it due.
GRACE = timedelta(milliseconds=200)
# Bells beyond this wait in a queue already; more would only pile up while no worker runs.
ENOUGH = 32
# At every so manieth look at the database, also at its log, and at what is due too late.
LOG_TURNS = 20
# How much later than any work is due it may seem to be, while clocks are set by small steps.
_MUCH = timedelta(minutes=10)
# The longest wait before work is tried again of which no setting says anything.
_AGAIN = timedelta(seconds=60)


def announce_due(
    desk: Desk, announce: Callable[[Bell], None], waiting: Callable[[JobKind], int]
) -> list[Bell]:
    """Ring once for each kind of due work.

    Parameters
    ----------
    announce
        Sends one message.
    waiting
        Tells how many messages wait in the queue of a kind of work.
    """
    with desk.sessions() as session:
        session.connection(execution_options=READS_ONLY)
        due = ledger.due_bells(session, desk.clock() - GRACE, desk.silence)
    free = {kind for kind in {kind for kind, _ in due} if waiting(kind) < ENOUGH}
    rung = [Bell(kind, destination) for kind, destination in due if kind in free]
    for bell in rung:
        announce(bell)
    return rung


def announce_shadow(
    desk: Desk, ring: Callable[[], None], waiting: Callable[[JobKind], int]
) -> None:
    """Ring for the candidate, if there is one with something to look at and nothing goes before it.

    Parameters
    ----------
    ring
        Sends the message.
    waiting
        Tells how many messages wait in the queue of a kind of work.
    """
    with desk.sessions() as session:
        session.connection(execution_options=READS_ONLY)
        due = candidates.is_trial_due(session, desk.clock(), SETTLED)
    if due and not waiting(JobKind.CLASSIFY):
        ring()


def bring_forward(desk: Desk) -> int:
    """Let work be due that a clock has left due too late, as it was set back; tell how much."""
    settings = desk.settings
    waits = (settings.quiet_s, settings.lease_s, settings.delivery_retry_max_s)
    longest = max(_AGAIN, *(timedelta(seconds=each) for each in waits)) + _MUCH
    there = [str(each.peer) for each in settings.destinations]
    with desk.sessions() as session, session.begin():
        count = set_back.bring_forward(session, there, desk.clock(), longest, desk.lease)
    if count:
        log.warning("the clock was set back: what was due much later is due now, %d jobs", count)
    return count


def _shorten_log(desk: Desk) -> None:
    with desk.sessions() as session:
        engine = session.get_bind()
    assert isinstance(engine, Engine)  # no session of ours is bound to a connection
    shorten_log(engine)


def run(
    desk: Desk,
    announce: Callable[[Bell], None],
    waiting: Callable[[JobKind], int],
    stopped: threading.Event,
    turned: Callable[[], None] = lambda: None,
    shadow: Callable[[], None] = lambda: None,
) -> None:
    """Announce due work until `stopped`; a database or broker that is away is tried again.

    Parameters
    ----------
    turned
        Called after each look, whatever came of it.
    shadow
        Called once what is owed was announced: what may be due besides.
    """
    away, turns = False, itertools.count(1)
    while not stopped.wait(desk.settings.relay_interval_s):
        try:
            announce_due(desk, announce, waiting)
            shadow()
            if next(turns) % LOG_TURNS == 0:
                _shorten_log(desk)
                bring_forward(desk)
        except Exception as error:  # noqa: BLE001  the relay outlives whatever is away
            if not away:
                log.warning("database or broker is away: %s", type(error).__name__)
            away = True
        else:
            if away:
                log.info("database and broker are back")
            away = False
        turned()
