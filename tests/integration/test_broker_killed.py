"""Workers outlive a broker that dies with messages of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.e2e.programs import START_S, run, wait_until
from tests.integration.house import CXR_WORKER, House, Redis

pytestmark = pytest.mark.timeout(600)

# A bell for in a while: the worker has it in hand until then.
RING_LATER = """
from datetime import UTC, datetime, timedelta
from worker.desk import Bell
from worker.states import JobKind
from worker.tasks import announce

announce(Bell(JobKind.REPORT), datetime.now(UTC) + timedelta(hours=1))
"""


@pytest.fixture
def broker() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.kill()


def test_a_worker_outlives_its_broker_while_a_bell_waits_for_its_time(
    broker: Redis, tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{broker.port}/0"
    with ExitStack() as stack:
        house = House(tmp_path / "home", tmp_path / "logs", CXR_BROKER_URL=url)
        stack.callback(house.kill_all)
        assert house.command("db", "upgrade").returncode == 0
        worker = house.start("worker", "--queues", "io")
        client = redis.Redis(port=broker.port)

        def takes_messages() -> bool:
            assert worker.poll() is None, house.text()[-2000:]
            try:
                return int(client.llen("io")) == 0
            except redis.ConnectionError:
                return False

        def ring() -> None:
            done = run([CXR_WORKER[0], "-c", RING_LATER], env=house.env)
            assert done.returncode == 0, done.stderr

        ring()
        wait_until(takes_messages, START_S, "the worker's taking of the bell")
        broker.kill()
        broker.start()
        wait_until(lambda: "Connected to redis" in house.text(), START_S, "a connection")
        for _ in range(3):
            ring()
            wait_until(takes_messages, START_S, "the worker's taking of the next bell")
        assert house.stop("worker") == 0
    for word in ("Unrecoverable", "EMERGENCY", "Restoring"):
        assert word not in house.text()
    assert house.left_over() == []
