"""Brokers that move or come back: the sentinels' Redis, and RabbitMQ."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers import MASTER, RabbitMq, Sentinels, forwarding
from tests.certificates import Authority
from tests.e2e.programs import START_S, clean_environment, run, wait_until
from tests.integration.house import CXR_WORKER, House, Pacs
from worker.checks import check_broker
from worker.settings import Settings

pytestmark = pytest.mark.timeout(900)

PASSWORD = "sentinels-only"
RING = """
from worker.desk import Bell
from worker.states import JobKind
from worker.tasks import announce, waiting

announce(Bell(JobKind.CLASSIFY))
announce(Bell(JobKind.REPORT))
print(waiting(JobKind.CLASSIFY), waiting(JobKind.REPORT))
"""


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    servers = Sentinels(tmp_path, PASSWORD)
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.fixture
def rabbitmq() -> Iterator[RabbitMq]:
    server = RabbitMq()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_a_worker_goes_along_when_the_sentinels_choose_another_master(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        house = House(
            tmp_path / "home", tmp_path / "logs", CXR_BROKER_URL=sentinels.url,
            CXR_BROKER_MASTER=MASTER, CXR_BROKER_SENTINEL_PASSWORD=PASSWORD,
        )  # fmt: skip
        stack.callback(house.kill_all)
        assert house.command("db", "upgrade").returncode == 0
        worker = house.start("worker", "--queues", "io")

        def ring() -> list[int]:
            done = run([CXR_WORKER[0], "-c", RING], env=house.env)
            assert done.returncode == 0, done.stderr
            return [int(word) for word in done.stdout.split()]

        def takes_messages() -> bool:
            assert worker.poll() is None, house.text()[-2000:]
            return int(sentinels.replica.client.llen("io")) == 0

        # Nobody serves the queue gpu: what is rung there stays, and is there to be counted.
        assert ring()[0] == 1
        wait_until(lambda: sentinels.replica.client.llen("gpu") == 1, START_S, "the copying")
        wait_until(takes_messages, START_S, "the worker's taking of the bell")
        sentinels.master.kill()
        wait_until(sentinels.have_moved, START_S, "the choice of another master")
        wait_until(lambda: "Connected to sentinel" in house.text(), START_S, "a connection")
        assert ring()[0] == 2
        wait_until(takes_messages, START_S, "the worker's taking of the next bell")
        assert "broker" not in [line.split()[1] for line in sick(house)]
        assert house.stop("worker") == 0
    assert PASSWORD not in house.text()


def sick(house: House) -> list[str]:
    """Give the lines of the doctor about what is not well."""
    lines = house.command("doctor").stdout.splitlines()
    return [line for line in lines if line.startswith("look")]


def test_rabbitmq_is_rung_over_tls_and_known_by_its_certificate(
    rabbitmq: RabbitMq, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    files = ours.issue("broker", hosts="IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with forwarding(lambda: rabbitmq.port, context) as port:
        given = {
            "CXR_HOME": str(tmp_path / "home"),
            "CXR_BROKER_URL": f"amqps://guest:guest@127.0.0.1:{port}//",
        }
        trusted = given | {"CXR_BROKER_AUTHORITY": str(ours.certificate)}
        mistrusted = given | {"CXR_BROKER_AUTHORITY": str(others.certificate)}
        assert check_broker(Settings.from_env(trusted)).healthy
        assert not check_broker(Settings.from_env(mistrusted)).healthy
        done = run([CXR_WORKER[0], "-c", RING], env=clean_environment(**trusted))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]


def test_studies_go_through_rabbitmq_which_is_killed_in_between(
    rabbitmq: RabbitMq, tmp_path: Path
) -> None:
    pacs = Pacs()
    with pacs.listening() as peer, ExitStack() as stack:
        house = House(
            tmp_path / "home", tmp_path / "logs", CXR_BROKER_URL=rabbitmq.url,
            CXR_DESTINATIONS=str(peer),
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        first = house.send_study()
        pacs.wait_for(first)
        rabbitmq.kill()
        second = house.send_study()
        rabbitmq.start()
        third = house.send_study()
        pacs.wait_for(second, third)
        assert [len(pacs.reports(study)) for study in (first, second, third)] == [1, 1, 1]
        house.wait_for_state("DELIVERED", first, second, third)
        assert "PRECONDITION" not in house.text()
        assert not any("broker" in line for line in sick(house))
        assert house.stop("up") == 0
    assert house.left_over() == []
