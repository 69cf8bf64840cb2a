"""Threads that ring must never wait, and a burst must not pile up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.nodes import wait_until
from worker.desk import Bell
from worker.doorbell import APART, Doorbell
from worker.states import JobKind

CLASSIFY = Bell(JobKind.CLASSIFY)
REPORT = Bell(JobKind.REPORT)
MOMENT = timedelta(milliseconds=1)


class SlowBroker:
    """Takes one message, and holds it until it is let go."""

    def __init__(self) -> None:
        self.taken: list[tuple[Bell, datetime | None]] = []
        self.holds = threading.Event()
        self.let_go = threading.Event()
        self.failures: list[Exception] = []
        self.tell: Callable[[], None] = lambda: None

    def __call__(self, bell: Bell, at: datetime | None) -> None:
        self.tell()
        self.taken.append((bell, at))
        self.holds.set()
        self.let_go.wait(30)
        if self.failures:
            raise self.failures.pop(0)


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def broker() -> Iterator[SlowBroker]:
    broker = SlowBroker()
    yield broker
    broker.let_go.set()


def test_ringing_does_not_wait_for_a_broker_that_hangs(broker: SlowBroker) -> None:
    doorbell = Doorbell(broker)
    started = time.monotonic()
    for _ in range(10_000):
        doorbell.ring(CLASSIFY)
    assert time.monotonic() - started < 5
    assert len(broker.taken) <= 1


def test_bells_that_are_the_same_ring_once_while_they_wait(broker: SlowBroker) -> None:
    doorbell = Doorbell(broker)
    doorbell.ring(CLASSIFY)
    assert broker.holds.wait(30)
    at = later(60)
    for _ in range(1000):
        doorbell.ring(CLASSIFY)
        doorbell.ring(REPORT, at)
    broker.let_go.set()
    doorbell.stop(30)
    assert broker.taken == [(CLASSIFY, None), (CLASSIFY, None), (REPORT, at)]


def test_a_burst_rings_at_once_and_once_more_a_moment_later(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    rung: list[float] = []
    broker.tell = lambda: rung.append(time.monotonic())
    began = time.monotonic()
    while time.monotonic() - began < 0.01:
        doorbell.ring(CLASSIFY)
    ended = time.monotonic()
    wait_until(lambda: bool(rung) and rung[-1] > ended)
    doorbell.stop(30)
    gaps = [after - before for before, after in pairwise(rung)]
    assert all(gap >= APART.total_seconds() - 0.005 for gap in gaps)
    assert len(rung) <= 2 + (ended - began) / APART.total_seconds()


def test_one_kind_does_not_wait_for_another(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    doorbell.ring(CLASSIFY)
    doorbell.ring(REPORT)
    doorbell.stop(30)
    assert broker.taken == [(CLASSIFY, None), (REPORT, None)]


def test_bells_for_times_that_are_close_ring_together_and_never_too_early(
    broker: SlowBroker,
) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    begin = later(60)
    for number in range(100):
        doorbell.ring(REPORT, begin + number * MOMENT)
    for number in range(100):
        doorbell.ring(REPORT, begin + number * MOMENT)
    doorbell.stop(30)
    times = [at for _, at in broker.taken if at]
    assert times == [begin, begin + APART, begin + 2 * APART]


def test_one_that_is_for_long_before_the_last_rings_at_its_time(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    late, early = later(120), later(60)
    doorbell.ring(REPORT, late)
    doorbell.ring(REPORT, early)
    doorbell.stop(30)
    assert broker.taken == [(REPORT, late), (REPORT, early)]


def test_what_is_due_already_rings_at_once_though_the_last_one_is_past(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    past = later(-1)
    doorbell.ring(REPORT, past)
    assert broker.holds.wait(30)
    doorbell.ring(REPORT, past - MOMENT)
    doorbell.stop(30)
    assert broker.taken == [(REPORT, None), (REPORT, None)]


def test_bells_for_different_times_all_ring(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    times = [later(second) for second in range(60, 65)]
    for at in times:
        doorbell.ring(REPORT, at)
    doorbell.stop(30)
    assert broker.taken == [(REPORT, at) for at in times]


def test_stopping_rings_what_is_left(broker: SlowBroker) -> None:
    doorbell = Doorbell(broker)
    doorbell.ring(CLASSIFY)
    assert broker.holds.wait(30)
    doorbell.ring(REPORT)
    broker.let_go.set()
    doorbell.stop(30)
    assert broker.taken[-1] == (REPORT, None)


def test_stopping_does_not_wait_for_ever(broker: SlowBroker) -> None:
    doorbell = Doorbell(broker)
    doorbell.ring(CLASSIFY)
    assert broker.holds.wait(30)
    started = time.monotonic()
    doorbell.stop(0.05)
    assert time.monotonic() - started < 5


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bell_that_fails_does_not_silence_those_after_it(broker: SlowBroker) -> None:
    broker.failures = [RuntimeError("not what a broker should raise")]
    broker.let_go.set()
    doorbell = Doorbell(broker)
    doorbell.ring(CLASSIFY)
    assert broker.holds.wait(30)
    doorbell.ring(REPORT)
    doorbell.stop(30)
    assert broker.taken == [(CLASSIFY, None), (REPORT, None)]


def test_a_bell_that_is_held_is_rung_at_its_time_without_one(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker, holds=True)
    at = later(0.3)
    doorbell.ring(REPORT, at)
    doorbell.ring(CLASSIFY)
    wait_until(lambda: len(broker.taken) == 2)
    assert datetime.now(UTC) >= at
    assert broker.taken == [(CLASSIFY, None), (REPORT, None)]
    doorbell.stop()


def test_a_bell_that_is_held_goes_to_the_broker_when_nobody_is_left_to_hold_it(
    broker: SlowBroker,
) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker, holds=True)
    at = later(3600)
    doorbell.ring(REPORT, at)
    doorbell.stop()
    assert broker.taken == [(REPORT, at)]
