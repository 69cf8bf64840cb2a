"""A node that is stopped and started again while modalities send on and on: nothing is lost."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from tests.e2e.programs import START_S, wait_until
from tests.hostile import fresh
from tests.integration.house import WORKED_S, House
from tests.wire import AC, Wire, wired
from worker import database
from worker.tables import Instance

pytestmark = pytest.mark.timeout(900)

SENDERS = 6
RESTARTS = 3


class Sender(threading.Thread):
    """Sends one instance after the other, on associations of many, as long as it is wanted."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.port, self.chance = port, Random(number)
        self.wanted = True
        self.acknowledged: list[str] = []
        self.unanswered: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        while self.wanted:
            try:
                with wired(self.port) as wire:
                    if wire.associate() == AC:
                        self._send_on(wire)
            except OSError:
                time.sleep(0.05)  # nobody listens; try again

    def _send_on(self, wire: Wire) -> None:
        for _ in range(200):
            if not self.wanted:
                break
            ds = fresh(self.chance)
            uid = str(ds.SOPInstanceUID)
            self.unanswered.append(uid)
            status = wire.store(ds)
            if status is None:
                return
            self.unanswered.remove(uid)
            (self.acknowledged if status == 0 else self.refused).append(uid)
        wire.release()


@contextmanager
def sending(port: int) -> Iterator[list[Sender]]:
    senders = [Sender(port, number) for number in range(SENDERS)]
    for each in senders:
        each.start()
    try:
        yield senders
    finally:
        for each in senders:
            each.wanted = False
        for each in senders:
            each.join(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_that_is_restarted_under_load_loses_nothing(tmp_path: Path, number: int) -> None:
    house = House(tmp_path / "home", tmp_path / "logs")
    database.upgrade(house.sqlite_url)

    def acknowledged(senders: list[Sender]) -> int:
        return sum(len(each.acknowledged) for each in senders)

    try:
        with sending(house.port) as senders:
            for _ in range(RESTARTS):
                before = acknowledged(senders)
                house.start("node")
                wait_until(house.is_receiving, START_S, "the node's start")
                wait_until(
                    lambda before=before: acknowledged(senders) > before + 30, WORKED_S, "some work"
                )
                status = house.stop("node", number=number)
                assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    finally:
        house.kill_all()
    recorded = rows(house)
    for each in senders:
        assert each.refused == []
        for uid in each.acknowledged:
            kept = (house.home / "archive" / recorded[uid].path).read_bytes()
            assert hashlib.sha256(kept).hexdigest() == recorded[uid].sha256
        if number == signal.SIGTERM:
            assert not set(each.unanswered) & set(recorded), "committed, and its sender not told"


def rows(house: House) -> dict[str, Instance]:
    engine = database.build_engine(house.sqlite_url)
    try:
        with database.build_reading_sessions(engine)() as session:
            return {row.sop_instance_uid: row for row in session.scalars(select(Instance))}
    finally:
        engine.dispose()
