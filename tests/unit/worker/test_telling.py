"""Processes that tell what they count, and the one that puts it together."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from worker import telling
from worker.telling import Teller, Told, families, gather


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="cxr-t-") as path:
        yield Path(path)


def counted(amount: int) -> str:
    disable_created_metrics()  # as every role does before it counts
    registry = CollectorRegistry()
    Counter("cxr_things_total", "Things.", ["kind"], registry=registry).labels("a").inc(amount)
    Histogram("cxr_time_seconds", "Time.", buckets=(1,), registry=registry).observe(amount)
    return generate_latest(registry).decode()


def test_all_that_tell_in_a_folder_are_asked(folder: Path) -> None:
    said = [Told("node", "", 0.5, {}, "a 1\n"), Told("worker-gpu", "0", None, {"model": "m"}, "")]
    tellers = [Teller(folder, f"{each.role}-{each.process}", lambda e=each: e) for each in said]
    assert gather(folder) == said
    for teller in tellers:
        teller.stop()
    assert gather(folder) == []
    assert list(folder.iterdir()) == []


def test_who_died_is_left_out_and_may_begin_again(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(folder / f"node{telling.SUFFIX}"))
        dead.listen()
    assert gather(folder) == []
    again = Teller(folder, "node", lambda: Told("node"))
    assert gather(folder) == [Told("node")]
    again.stop()


def test_who_hangs_is_left_out_and_holds_up_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "PATIENCE_S", 0.2)
    teller = Teller(folder, "relay", lambda: Told("relay"))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.fspath(folder / f"node{telling.SUFFIX}"))
        silent.listen()
        assert gather(folder) == [Told("relay")]
    teller.stop()


def test_who_cannot_tell_says_so_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Told:
        raise RuntimeError

    teller = Teller(folder, "node", fail)
    with caplog.at_level(logging.WARNING, "worker.telling"):
        assert gather(folder) == []
    teller.stop()
    assert "could not tell what it counts: RuntimeError" in caplog.text


def test_what_several_count_is_put_together_by_role_and_process() -> None:
    told = [
        Told("worker-gpu", "0", metrics=counted(1)),
        Told("worker-gpu", "1", metrics=counted(2)),
        Told("node", metrics=counted(4)),
    ]
    found = {family.name: family for family in families(told)}
    assert set(found) == {"cxr_things", "cxr_time_seconds"}
    values = {
        (s.labels["role"], s.labels.get("process")): s.value for s in found["cxr_things"].samples
    }
    assert values == {("worker-gpu", "0"): 1, ("worker-gpu", "1"): 2, ("node", None): 4}
    sums = [s.value for s in found["cxr_time_seconds"].samples if s.name.endswith("_sum")]
    assert sums == [1, 2, 4]
