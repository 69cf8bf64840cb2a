"""What a connection brought is given in order, whatever pieces it came in."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dicom_node.intake import Intake

PATIENCE_S = 30.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE_S)
        yield ours, theirs


def intake(connection: socket.socket) -> Intake:
    return Intake(SimpleNamespace(socket=connection), PATIENCE_S)


def soon() -> float:
    return time.monotonic() + PATIENCE_S


@pytest.mark.parametrize("seed", range(8))
def test_what_came_in_any_pieces_is_taken_in_any_other(
    ends: tuple[socket.socket, socket.socket], seed: int
) -> None:
    ours, theirs = ends
    chance = random.Random(seed)
    data = chance.randbytes(5_000_000)

    def send() -> None:
        at = 0
        while at < len(data):
            size = chance.choice([1, 7, 4096, 300_000])
            theirs.sendall(data[at : at + size])
            at += size

    sender = threading.Thread(target=send)
    sender.start()
    reader, at = intake(ours), 0
    sizes = random.Random(seed + 100)
    while at < len(data):
        size = min(sizes.choice([6, 100, 16_390, 131_078, 700_000, 1_500_000]), len(data) - at)
        head = min(size, 6)
        assert reader.look(head, soon()) == data[at : at + head]
        assert reader.take(size, soon()) == data[at : at + size]
        at += size
    assert reader.pending == 0
    sender.join()


def test_what_was_looked_at_stays(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"abcdef")
    reader = intake(ours)
    assert reader.look(2, soon()) == b"ab"
    assert reader.look(3, soon()) == b"abc"
    assert reader.take(4, soon()) == b"abcd"
    assert reader.pending == 2


def test_what_does_not_come_in_time_is_an_error_and_a_writer_keeps_its_time(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    theirs.sendall(b"ab")
    reader = intake(ours)
    with pytest.raises(TimeoutError):
        reader.take(3, time.monotonic() + 0.05)
    assert ours.gettimeout() == PATIENCE_S
    with pytest.raises(TimeoutError):
        reader.take(3, time.monotonic() - 1)
    theirs.sendall(b"c")
    assert reader.take(3, soon()) == b"abc"


@pytest.mark.parametrize("size", [3, 2_000_000])
def test_the_end_of_a_connection_is_an_error(
    ends: tuple[socket.socket, socket.socket], size: int
) -> None:
    ours, theirs = ends
    theirs.sendall(b"ab")
    theirs.close()
    with pytest.raises(ConnectionError):
        intake(ours).take(size, soon())


def test_who_sends_little_takes_little_memory(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    reader = intake(ours)
    for _ in range(100):
        theirs.sendall(bytes(1000))
        reader.take(1000, soon())
    assert reader.memory == 16 << 10
