"""Mutated bytes sent to a node, and to what reads a data set: each is answered or hung up on."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.archive import Archive
from dicom_node.reception import Outcome, Reply, handle_store
from tests.datasets import image, part10
from tests.nodes import Node, wait_until
from tests.wire import AC, RELEASE_RQ, pdu, request, store, wired

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CORPUS = Path(__file__).with_name("corpus.txt")
STEADY = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
REQUEST, STORE, RELEASE = request(), store(image()), pdu(RELEASE_RQ)


def corpus() -> list[tuple[str, bytes]]:
    """Read what is sent again in each run: a name, and the bytes in hexadecimal."""
    lines = CORPUS.read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    return [(name, bytes.fromhex(data)) for name, data in words]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("fuzz"), network_timeout_s=1.0)
    yield node
    node.running.shutdown(0)


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that ended by an exception."""
    died: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(repr(args.exc_value)))
    return died


mutations = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "drop", "double", "insert", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


def mutated(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, value in changes:
        at = int(where * len(data))
        data = {
            "set": data[:at] + value + data[at + len(value) :],
            "drop": data[:at] + data[at + len(value) :],
            "double": data[:at] + data[at : at + 40] + data[at:],
            "insert": data[:at] + value + data[at:],
            "cut": data[:at],
        }[how]
    return data


def say(node: Node, data: bytes, *, hang_up: bool) -> None:
    """Send bytes, and wait until the node has let go of the connection."""
    with wired(node.running.port) as wire, suppress(ConnectionError):
        wire.send(data)
        if hang_up:
            with suppress(OSError):  # the node did first
                wire.socket.shutdown(socket.SHUT_WR)
        wire.read_to_the_end()  # raises TimeoutError where the node does neither
    wait_until(lambda: node.running.open_associations == 0, 30)


def is_well(node: Node, died: list[str]) -> None:
    # On a machine that is busy, who is in order may be too slow for this node.
    wait_until(lambda: serves(node), 60)
    assert died == []


def serves(node: Node) -> bool:
    with wired(node.running.port) as wire, suppress(ConnectionError):
        return wire.associate() == AC and wire.store(image()) == 0x0000 and wire.release() == 6
    return False


@settings(STEADY, max_examples=100)
@given(changes=mutations)
def test_a_mutated_request_for_an_association_harms_nobody(
    node: Node, died: list[str], changes: list[tuple[str, float, bytes]]
) -> None:
    say(node, mutated(REQUEST, changes) + b"".join(STORE) + RELEASE, hang_up=True)
    is_well(node, died)


@settings(STEADY, max_examples=100)
@given(changes=mutations)
def test_a_mutated_command_harms_nobody(
    node: Node, died: list[str], changes: list[tuple[str, float, bytes]]
) -> None:
    say(node, REQUEST + mutated(STORE[0], changes) + STORE[1] + RELEASE, hang_up=True)
    is_well(node, died)


@settings(STEADY, max_examples=40)
@given(changes=mutations, part=st.integers(0, 3))
def test_who_sends_mutated_bytes_and_waits_is_hung_up_on(
    node: Node, died: list[str], changes: list[tuple[str, float, bytes]], part: int
) -> None:
    parts = [REQUEST, *STORE[:2], RELEASE]
    parts[part] = mutated(parts[part], changes)
    say(node, b"".join(parts), hang_up=False)
    is_well(node, died)


@settings(STEADY, max_examples=300)
@given(changes=mutations)
def test_a_mutated_instance_is_answered(
    node: Node, died: list[str], changes: list[tuple[str, float, bytes]]
) -> None:
    good = part10(image())
    begin = good.index(b"\x08\x00\x05\x00")
    assert reply_to(node.archive, good[:begin] + mutated(good[begin:], changes)) != 0xA700


def reply_to(archive: Archive, data: bytes) -> Reply:
    ds = image()
    event: Any = SimpleNamespace(
        encoded_dataset=lambda: data,
        request=SimpleNamespace(
            AffectedSOPClassUID=ds.SOPClassUID, AffectedSOPInstanceUID=ds.SOPInstanceUID
        ),
        context=SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1"),
        assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="MODALITY")),
    )
    return handle_store(event, archive, lambda _: Outcome.STORED)


@pytest.mark.parametrize("hang_up", [True, False])
@pytest.mark.parametrize(("name", "data"), corpus(), ids=[name for name, _ in corpus()])
def test_a_stream_that_breaks_the_protocol_harms_nobody(
    node: Node, died: list[str], name: str, data: bytes, hang_up: bool
) -> None:
    say(node, data, hang_up=hang_up)
    is_well(node, died)


def test_mutated_streams_of_a_fixed_seed_harm_nobody(node: Node, died: list[str]) -> None:
    chance = random.Random(11)
    good = b"".join([REQUEST, *STORE, RELEASE])
    for _ in range(100):
        data = bytearray(good)
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        say(node, bytes(data), hang_up=True)
    is_well(node, died)
