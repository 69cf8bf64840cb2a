"""What a network does, done to a node: it goes on serving, and keeps nothing of it."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import pytest

from tests import hostile, soak
from tests.datasets import image
from tests.nodes import wait_until
from tests.wire import AC, P_DATA, RJ, Wire, pdu, request, store, wired

# pydicom warns of what a mutated character set is called.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Held:
    """The threads and descriptors of this process: as many in the end as in the beginning."""

    def __init__(self, node):
        assert node.store(image()) == [0x0000]  # whatever is opened once is open now
        wait_until(lambda: node.running.open_associations == 0)
        self.node = node
        self.descriptors = descriptors()
        self.threads = set(threading.enumerate())

    def settle(self):
        wait_until(lambda: not set(threading.enumerate()) - self.threads, 60)
        wait_until(lambda: descriptors() <= self.descriptors, 60)
        assert self.node.store(image()) == [0x0000]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def held(start):
    return Held(start(network_timeout_s=30.0))


@pytest.mark.parametrize("act", hostile.ACTS, ids=lambda act: act.__name__)
def test_nothing_stays_behind_and_others_are_served(held, act):
    port = held.node.running.port
    with wired(port) as other:
        assert other.associate("OTHER") == AC
        for number in range(8):
            with suppress(ConnectionError):
                act(port, Random(number))
            assert other.store(image()) == 0x0000
        assert other.release() == 6
    held.settle()


def test_thousands_of_health_checks_leave_nothing_behind(held):
    port = held.node.running.port
    for number in range(3000):
        (hostile.connect_and_leave if number % 2 else hostile.connect_and_reset)(port, Random(0))
    held.settle()


def test_half_open_connections_are_let_go_and_hold_up_nobody(start):
    held = Held(start(network_timeout_s=4.0))
    port = held.node.running.port
    with ExitStack() as stack:
        for number in range(60):
            wire = stack.enter_context(wired(port))
            if number % 3:
                wire.send(request()[: 1 + number])
        assert held.node.store(image()) == [0x0000]
        wait_until(lambda: held.node.running.open_associations == 0, 60)
    held.settle()


def test_slow_senders_are_served_as_long_as_they_are_in_time(held):
    data = b"".join(store(image()))
    with wired(held.node.running.port) as wire:
        wire.associate()
        for at in range(0, len(data), 1 + len(data) // 20):
            wire.send(data[at : at + 1 + len(data) // 20])
            time.sleep(0.02)
        assert wire.answer() == 0x0000
    held.settle()


def test_of_two_hundred_associations_at_once_some_are_rejected_for_now_and_others_served(start):
    held = Held(start(max_associations=50, network_timeout_s=30.0))
    port = held.node.running.port
    answers = []
    with ExitStack() as stack:
        inside = stack.enter_context(wired(port))
        assert inside.associate("INSIDE") == AC
        wires = [stack.enter_context(wired(port)) for _ in range(200)]
        for wire in wires:
            with suppress(ConnectionError):
                wire.send(request())
        accepted: list[Wire] = []
        for wire in wires:
            kind, body = wire.read()
            answers.append((kind, body[1] if kind == RJ else 0))
            if kind == AC:
                accepted.append(wire)
        assert inside.store(image()) == 0x0000
        assert all(wire.store(image()) == 0x0000 for wire in accepted)
    # PS3.8 9.3.4: rejected-transient; what is beyond all measure is closed unread.
    assert set(answers) <= {(AC, 0), (RJ, 2), (0, 0)}
    assert 0 < len(accepted) < 50
    assert (RJ, 2) in answers
    held.settle()


def test_data_sets_in_the_smallest_pieces_are_taken(held):
    with wired(held.node.running.port) as wire:
        wire.associate()
        wire.send(*store(image(), maximum=12))
        assert wire.answer() == 0x0000
    held.settle()


def test_an_empty_pdu_of_data_harms_nobody(held):
    with wired(held.node.running.port) as wire:
        wire.associate()
        wire.send(pdu(P_DATA, b""))
        wire.send(*store(image()))
        assert wire.read()[0] in (P_DATA, 7, 0)
    held.settle()


def test_a_few_hundred_good_and_hostile_associations_leave_nothing_behind(start):
    held = Held(start(network_timeout_s=10.0))
    tally = soak.Tally()
    soak.run_part(held.node.running.port, 300, 5, tally)
    held.settle()
    assert tally.wrong == {}
    recorded = {each.sop_instance_uid: each for each in held.node.received}
    assert tally.acknowledged
    for uid in tally.acknowledged:
        assert len(held.node.archive.read(recorded[uid].path)) == recorded[uid].size
