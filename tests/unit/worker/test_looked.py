"""A look that hangs keeps one thread and nobody who asks."""

from __future__ import annotations

import threading
import time

import pytest

from tests.e2e.programs import wait_until
from worker.looked import Looked


def test_what_was_seen_is_given_again_for_a_while() -> None:
    seen: list[int] = []

    def look() -> int:
        seen.append(1)
        return len(seen)

    looked = Looked(look, good_for_s=60, wait_s=10)
    assert [looked() for _ in range(3)] == [1, 1, 1]
    hasty = Looked(look, good_for_s=-1, wait_s=10)
    assert [hasty() for _ in range(2)] == [2, 3]


def test_a_failure_is_raised_where_it_is_asked_for_and_for_a_while() -> None:
    tries: list[int] = []

    def look() -> None:
        tries.append(1)
        raise OSError("no route")

    looked = Looked(look, good_for_s=60, wait_s=10)
    for _ in range(2):
        with pytest.raises(OSError, match="no route"):
            looked()
    assert len(tries) == 1


def test_what_hangs_keeps_one_thread_however_often_it_is_asked_for() -> None:
    go_on, begun = threading.Event(), list[int]()

    def look() -> str:
        begun.append(1)
        go_on.wait(30)
        return "seen"

    looked = Looked(look, good_for_s=60, wait_s=0.05)
    began_at = time.monotonic()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            looked()
    assert time.monotonic() - began_at < 5
    assert len(begun) == 1
    go_on.set()
    wait_until(lambda: _is_there(looked), 10, "the answer")


def _is_there(looked: Looked[str]) -> bool:
    try:
        return looked() == "seen"
    except TimeoutError:
        return False
