"""All who work on a database go by its time."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from tests.fakes import NOON, in_threads
from worker.clock import AGAIN_S, AGREE_S, DatabaseClock, clock_of


class Server:
    """A database's clock, and a steady one here; a database that is away tells nothing."""

    def __init__(self) -> None:
        self.told: datetime | None = NOON
        self.steady_s = 100.0
        self.asked = 0

    def ask(self) -> datetime:
        self.asked += 1
        if self.told is None:
            raise OperationalError("SELECT", {}, OSError())
        return self.told

    def clock(self) -> DatabaseClock:
        return DatabaseClock(self.ask, lambda: self.steady_s)


def test_time_is_the_databases_and_goes_on_without_asking_again() -> None:
    server = Server()
    clock = server.clock()
    assert clock() == NOON
    server.steady_s += 30
    assert clock() == NOON + timedelta(seconds=30)
    assert server.asked == 1


def test_now_and_then_the_database_is_asked_again() -> None:
    server = Server()
    clock = server.clock()
    clock()
    server.steady_s += AGREE_S
    server.told = NOON + timedelta(seconds=AGREE_S + 1)
    assert clock() == server.told


def test_while_the_database_is_away_time_goes_on() -> None:
    server = Server()
    clock = server.clock()
    clock()
    server.told = None
    server.steady_s += 10 * AGREE_S
    assert clock() == NOON + timedelta(seconds=10 * AGREE_S)


def test_before_the_database_has_answered_time_is_this_machines() -> None:
    server = Server()
    server.told = None
    before = datetime.now(UTC)
    assert before <= server.clock()() <= datetime.now(UTC)


def test_a_clock_that_is_off_is_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.told = datetime.now(UTC) + timedelta(seconds=90)
    with caplog.at_level(logging.WARNING):
        server.clock()()
    assert "-90 s off the database's" in caplog.text


def test_every_database_has_a_clock(engine: Engine) -> None:
    told = clock_of(engine)()
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=60)
    assert told.utcoffset() == timedelta(0)


def test_who_asks_first_waits_for_the_answer_and_nobody_goes_by_another_time() -> None:
    server = Server()
    answer = threading.Event()

    def ask() -> datetime:
        assert answer.wait(30)
        return server.ask()

    clock = DatabaseClock(ask, lambda: server.steady_s)

    def tell(number: int) -> datetime:
        if number == 3:
            answer.set()
        return clock()

    assert in_threads(4, tell) == [NOON] * 4
    assert server.asked == 1


def test_a_database_that_was_away_at_first_is_asked_again_soon() -> None:
    server = Server()
    server.told = None
    clock = server.clock()
    clock()
    server.told = NOON
    server.steady_s += AGAIN_S
    assert clock() == NOON
