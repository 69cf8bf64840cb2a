"""Tries at signing in are counted: guessing is slow, and nobody is kept out for long."""

from __future__ import annotations

import time

import pytest
from limits import RateLimitItemPerSecond
from limits.storage import memory

from worker.access.attempts import Attempts

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Time:
    """The time that the counts go by."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(memory, "time", clock)
    return clock


def tries(attempts: Attempts, name: str, address: str, count: int) -> int:
    """Try so often; give how often it was allowed."""
    return sum(attempts.may_try(name, address) for _ in range(count))


def test_a_name_may_be_tried_five_times_a_minute_from_an_address(clock: Time) -> None:
    attempts = Attempts()
    assert tries(attempts, "anna", HERE, 9) == 5
    assert tries(attempts, " ANNA", HERE, 3) == 0, "another spelling is no other name"
    assert attempts.may_try("berta", HERE)
    assert attempts.may_try("anna", THERE)
    clock.now += 61
    assert attempts.may_try("anna", HERE)


def test_an_address_may_try_twenty_names_a_minute(clock: Time) -> None:
    attempts = Attempts()
    assert sum(tries(attempts, f"user{n}", HERE, 1) for n in range(30)) == 20
    assert attempts.may_try("user0", THERE)


def test_an_ipv6_subscriber_is_one_address_however_many_they_have(clock: Time) -> None:
    attempts = Attempts()
    assert sum(tries(attempts, "anna", f"2001:db8:0:7::{n:x}", 1) for n in range(30)) == 5
    assert attempts.may_try("anna", "2001:db8:0:8::1")
    assert tries(attempts, "berta", "::ffff:192.0.2.9", 5) == 5
    assert not attempts.may_try("berta", "192.0.2.9"), "the same address, written differently"


def test_a_name_may_be_tried_a_hundred_times_a_minute_by_all_together(clock: Time) -> None:
    attempts = Attempts()
    assert sum(tries(attempts, "anna", f"198.51.100.{n}", 5) for n in range(30)) == 100
    assert not attempts.may_try("anna", HERE)
    clock.now += 61
    assert attempts.may_try("anna", HERE)


def test_what_was_refused_does_not_count(clock: Time) -> None:
    attempts = Attempts()
    assert tries(attempts, "anna", HERE, 1000) == 5
    assert attempts.may_try("anna", THERE), "a stranger's refused tries keep nobody out"
    assert sum(tries(attempts, f"user{n}", HERE, 1) for n in range(30)) == 15


def test_who_signed_in_from_an_address_is_not_kept_out_by_strangers_elsewhere(
    clock: Time,
) -> None:
    attempts = Attempts()
    attempts.may_try("anna", HERE)
    attempts.succeeded("anna", HERE)
    for n in range(30):
        tries(attempts, "anna", f"198.51.100.{n}", 5)
    assert not attempts.may_try("anna", THERE)
    assert tries(attempts, "anna", HERE, 9) == 5, "guessing from there stays slow"


def test_a_sign_in_that_succeeded_does_not_count(clock: Time) -> None:
    attempts = Attempts()
    for n in range(100):  # a shift begins behind one address
        assert attempts.may_try(f"user{n}", HERE)
        attempts.succeeded(f"user{n}", HERE)


def test_counts_are_forgotten_when_they_are_over(clock: Time) -> None:
    attempts = Attempts()
    for n in range(500):
        attempts.may_try(f"user{n}" * 50, f"198.51.{n % 250}.{n // 250}")
    clock.now += 61
    until = time.monotonic() + 5
    while len(attempts._storage.storage) > 10 and time.monotonic() < until:
        attempts.may_try("anna", HERE)
        clock.now += 61
        time.sleep(0.05)
    assert len(attempts._storage.storage) <= 10
    assert len(attempts._storage.expirations) <= 10


def test_an_address_may_be_anything_that_a_proxy_says() -> None:
    attempts = Attempts(RateLimitItemPerSecond(5, 3600))
    assert tries(attempts, "anna", "unknown", 9) == 5
