"""Threads that ring must never wait, and a burst must not pile up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.fakes import NOON
from worker.desk import Bell
from worker.doorbell import Doorbell
from worker.states import JobKind

CLASSIFY = Bell(JobKind.CLASSIFY)
REPORT = Bell(JobKind.REPORT)


class SlowBroker:
    """Takes one message, and holds it until it is let go."""

    def __init__(self) -> None:
        self.taken: list[tuple[Bell, datetime | None]] = []
        self.holds = threading.Event()
        self.let_go = threading.Event()
        self.failures: list[Exception] = []

    def __call__(self, bell: Bell, at: datetime | None) -> None:
        self.taken.append((bell, at))
        self.holds.set()
        self.let_go.wait(30)
        if self.failures:
            raise self.failures.pop(0)


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
    for _ in range(1000):
        doorbell.ring(CLASSIFY)
        doorbell.ring(REPORT, NOON)
    broker.let_go.set()
    doorbell.stop(30)
    assert broker.taken == [(CLASSIFY, None), (CLASSIFY, None), (REPORT, NOON)]


def test_bells_for_different_times_all_ring(broker: SlowBroker) -> None:
    broker.let_go.set()
    doorbell = Doorbell(broker)
    times = [NOON.replace(second=second) for second in range(5)]
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
