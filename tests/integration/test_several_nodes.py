"""Two nodes and two relays over one archive and one PostgreSQL, behind a balancer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.peer import Peer
from dicom_node.storage_scu import send
from tests.brokers import forwarding
from tests.e2e.programs import START_S, free_port, listens, wait_until
from tests.integration.house import House, Pacs, Redis, study_of

pytestmark = pytest.mark.timeout(900)


@dataclass
class Nodes:
    """Which nodes a balancer leads to, in turns."""

    ports: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    def next(self) -> int:
        port = self.ports[len(self.given) % len(self.ports)]
        self.given.append(port)
        return port


@pytest.fixture
def broker() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.kill()


def start_node(house: House, name: str) -> int:
    port = free_port()
    house.env["CXR_PORT"] = str(port)
    house.start("node", name=name)
    wait_until(lambda: listens(port), START_S, f"the start of {name}")
    return port


def store(images: list[Dataset], to: int) -> list[int]:
    """Send images, each by an association of its own."""
    peer = Peer("CXRWORKER", "127.0.0.1", to)
    return [answer.status for each in images for answer in send([each], peer, "MODALITY")]


def test_a_study_that_comes_through_two_nodes_is_one_report(
    tmp_path: Path, empty_postgres_url: str, broker: Redis, model_setting: dict[str, str]
) -> None:
    pacs, nodes = Pacs(), Nodes()
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        house = House(
            tmp_path / "home", tmp_path / "logs", CXR_DESTINATIONS=str(peer),
            CXR_DATABASE_URL=empty_postgres_url,
            CXR_BROKER_URL=f"redis://127.0.0.1:{broker.port}/0", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        assert house.command("db", "upgrade").returncode == 0
        nodes.ports = [start_node(house, "node-a"), start_node(house, "node-b")]
        for name in ("relay-a", "relay-b"):
            house.start("relay", name=name)
        house.start("worker", "--queues", "gpu", name="worker-gpu")
        house.start("worker", "--queues", "io", name="worker-io")
        balancer = stack.enter_context(forwarding(nodes.next))

        studies = [study_of(2) for _ in range(4)]
        for images in studies:
            assert store(images, balancer) == [0, 0]
        uids = [str(images[0].StudyInstanceUID) for images in studies]
        pacs.wait_for(*uids)
        house.wait_for_state("DELIVERED", *uids)
        assert {nodes.given.count(port) for port in nodes.ports} == {4}
        # The same again by the other node: known there too, and nothing is told anew.
        nodes.given.append(0)
        assert store(studies[0], balancer) == [0, 0]

        # One node is killed; the other goes on, and knows what the first has taken.
        victim = house.processes.pop("node-a")
        victim.kill()
        victim.wait()
        nodes.ports = nodes.ports[1:]
        late = study_of(2)
        assert store([*studies[1], *late], balancer) == [0, 0, 0, 0]
        uids.append(str(late[0].StudyInstanceUID))
        pacs.wait_for(*uids)
        records = house.wait_for_state("DELIVERED", *uids)
        assert {uid: len(records[uid]["instances"]) for uid in uids} == dict.fromkeys(uids, 2)
        assert [len(pacs.reports(uid)) for uid in uids] == [1] * len(uids)
        for name in ("node-b", "relay-a", "relay-b", "worker-io", "worker-gpu"):
            assert house.stop(name) == 0
