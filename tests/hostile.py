"""What a network does to a node: one function each, from a bare connect to half a data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from pydicom.dataset import Dataset

from tests.datasets import ROOT, image
from tests.wire import (
    ABORT,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    Wire,
    cut,
    pdu,
    request,
    store,
    wired,
)

Act = Callable[[int, Random], None]


def fresh(chance: Random, **attributes: object) -> Dataset:
    """An instance that no other call makes."""
    number = chance.getrandbits(96)
    uids = {"StudyInstanceUID": f"{ROOT}.7.{number >> 2}", "SOPInstanceUID": f"{ROOT}.8.{number}"}
    return image(**(uids | attributes))


def connect_and_leave(port: int, chance: Random) -> None:
    """A health check."""
    with wired(port):
        pass


def connect_and_reset(port: int, chance: Random) -> None:
    """A port scan."""
    Wire(port).reset()


def say_something_else(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.send(chance.choice([b"GET / HTTP/1.1\r\n\r\n", b"\0" * 6, chance.randbytes(200)]))
        wire.read_to_the_end()


def leave_in_the_request(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.send(request()[: chance.randrange(1, len(request()))])


def reset_in_the_request(port: int, chance: Random) -> None:
    wire = Wire(port)
    wire.send(request()[: chance.randrange(1, len(request()))])
    wire.reset()


def send_a_broken_request(port: int, chance: Random) -> None:
    data = bytearray(request())
    for _ in range(chance.randrange(1, 20)):
        data[chance.randrange(6, len(data))] = chance.randrange(256)
    with wired(port) as wire:
        wire.send(bytes(data))
        if wire.read()[0] == 2:
            wire.release()


def send_too_much_at_first(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.send(pdu(RQ, b"\0" * 100, length=1 << 30))
        wire.read_to_the_end()


def send_data_before_the_association(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.send(chance.choice(store(image())))
        wire.read_to_the_end()


def leave_the_association(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()


def reset_the_association(port: int, chance: Random) -> None:
    wire = Wire(port)
    wire.associate()
    wire.reset()


def abort_the_association(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(pdu(ABORT))


def abort_in_the_data_set(port: int, chance: Random) -> None:
    parts = store(fresh(chance), maximum=200)
    with wired(port) as wire:
        wire.associate()
        wire.send(*parts[: chance.randrange(1, len(parts))], pdu(ABORT))


def leave_in_a_pdu(port: int, chance: Random) -> None:
    parts = store(fresh(chance))
    with wired(port) as wire:
        wire.associate()
        wire.send(cut(parts, chance.randrange(1, sum(map(len, parts)))))


def reset_in_a_pdu(port: int, chance: Random) -> None:
    parts = store(fresh(chance))
    wire = Wire(port)
    wire.associate()
    wire.send(cut(parts, chance.randrange(1, sum(map(len, parts)))))
    wire.reset()


def reset_before_the_answer(port: int, chance: Random) -> None:
    wire = Wire(port)
    wire.associate()
    wire.send(*store(fresh(chance)))
    wire.reset()


def release_in_the_store(port: int, chance: Random) -> None:
    parts = store(fresh(chance), maximum=200)
    with wired(port) as wire:
        wire.associate()
        wire.send(*parts[: chance.randrange(1, len(parts))], pdu(RELEASE_RQ))
        wire.read_to_the_end()


def ask_for_a_second_association(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(request())
        wire.read_to_the_end()


def answer_what_was_not_asked(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(pdu(chance.choice((2, 3, RELEASE_RP)), b"\0" * 4))
        wire.read_to_the_end()


def use_a_wrong_context(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(*store(fresh(chance), context_id=chance.choice((2, 5, 99, 255))))
        wire.read_to_the_end()


def send_rubbish_as_data(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(pdu(P_DATA, chance.randbytes(chance.randrange(0, 60))))
        wire.send(pdu(ABORT))


def send_a_broken_instance(port: int, chance: Random) -> None:
    """The command is right, and the data set is not: it is answered, by an abort if need be."""
    command, *data = store(fresh(chance))
    body = bytearray(b"".join(data))
    for _ in range(chance.randrange(1, 30)):
        body[chance.randrange(12, len(body))] = chance.randrange(256)
    with wired(port) as wire:
        wire.associate()
        wire.send(command, bytes(body))
        wire.read()
        wire.release()


def send_a_huge_pdu(port: int, chance: Random) -> None:
    with wired(port) as wire:
        wire.associate()
        wire.send(pdu(P_DATA, b"\0" * 100, length=1 << 28))
        wire.read_to_the_end()


def send_slowly_and_leave(port: int, chance: Random) -> None:
    data = request()
    with wired(port) as wire:
        for at in range(0, len(data), 1 + len(data) // 5):
            wire.send(data[at : at + 1])
            time.sleep(0.05)


ACTS: tuple[Act, ...] = (
    connect_and_leave,
    connect_and_reset,
    say_something_else,
    leave_in_the_request,
    reset_in_the_request,
    send_a_broken_request,
    send_too_much_at_first,
    send_data_before_the_association,
    leave_the_association,
    reset_the_association,
    abort_the_association,
    abort_in_the_data_set,
    leave_in_a_pdu,
    reset_in_a_pdu,
    reset_before_the_answer,
    release_in_the_store,
    ask_for_a_second_association,
    answer_what_was_not_asked,
    use_a_wrong_context,
    send_rubbish_as_data,
    send_a_broken_instance,
    send_a_huge_pdu,
    send_slowly_and_leave,
)
