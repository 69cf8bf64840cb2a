"""An association ends between two requests, and never with one that was begun and not answered."""

from __future__ import annotations

import logging
import struct
import threading
import time
from contextlib import suppress
from random import Random

import pytest
from pynetdicom.dimse import DIMSEServiceProvider

from tests.datasets import image
from tests.hostile import fresh
from tests.nodes import accepts, wait_until
from tests.wire import ABORT, AC, P_DATA, RJ, Wire, pdu, request, status_of, store, wired

SIXTEEN_BITS = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}


class SlowRecord:
    """Records when it is let go on."""

    def __init__(self, keep):
        self.keep, self.inside, self.go_on = keep, threading.Event(), threading.Event()

    def __call__(self, received):
        self.inside.set()
        assert self.go_on.wait(60)
        return self.keep(received)


def stop(node, **limits):
    stopper = threading.Thread(target=node.running.shutdown, kwargs=limits)
    stopper.start()
    return stopper


def joined(thread):
    thread.join(30)
    return not thread.is_alive()


def test_a_store_that_was_begun_is_answered_before_the_association_is_ended(start):
    node = start()
    node.record = slow = SlowRecord(node.record)
    with wired(node.running.port) as wire:
        assert wire.associate() == AC
        wire.send(*store(image()))
        assert slow.inside.wait(30)
        stopper = stop(node, grace_s=0, finish_s=30)
        wait_until(lambda: not accepts(node.running.port))
        time.sleep(0.3)  # an abort would have come by now
        slow.go_on.set()
        assert wire.answer() == 0x0000
        assert wire.read()[0] == ABORT
        assert joined(stopper)
    assert len(node.received) == len(node.closed) == 1


def test_the_next_store_after_that_is_not_begun(start):
    node = start()
    node.record = slow = SlowRecord(node.record)
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(*store(image()), *store(image(SOPInstanceUID="1.2.3")))
        assert slow.inside.wait(30)
        stopper = stop(node, grace_s=0, finish_s=30)
        wait_until(lambda: not accepts(node.running.port))
        time.sleep(0.3)
        slow.go_on.set()
        assert wire.answer() == 0x0000
        assert P_DATA not in wire.read_to_the_end()
        assert joined(stopper)
    assert [each.sop_instance_uid for each in node.received] == [image().SOPInstanceUID]


def test_half_a_store_is_given_up_and_nothing_is_recorded(start):
    node = start()
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(store(image())[0])
        stopper = stop(node, grace_s=0.2)
        assert ABORT in wire.read_to_the_end()
        assert joined(stopper)
    assert node.received == []


def test_a_store_that_does_not_end_is_cut_off(start):
    node = start()
    node.record = slow = SlowRecord(node.record)
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(*store(image()))
        assert slow.inside.wait(30)
        stopper = stop(node, grace_s=0, finish_s=0.2)
        assert ABORT in wire.read_to_the_end()
        assert joined(stopper)
    slow.go_on.set()


def test_who_connected_before_the_end_is_rejected_for_now(start, caplog):
    node = start()
    with wired(node.running.port) as early:
        wait_until(lambda: node.running.open_associations == 1)
        stopper = stop(node, grace_s=30)
        wait_until(lambda: not accepts(node.running.port))
        with caplog.at_level(logging.WARNING):
            early.send(request())
            kind, body = early.read()
        assert (kind, body[1]) == (RJ, 2)  # PS3.8 9.3.4: rejected-transient
        assert joined(stopper)
    assert any(line.endswith("the node is about to end") for line in caplog.messages)


def test_a_sender_that_never_stops_is_ended_between_two_stores(start):
    node = start()
    answered = []

    def send_on(wire: Wire):
        while True:
            ds = fresh(chance)
            wire.send(*store(ds))
            kind, body = wire.read()
            if kind != P_DATA:
                return
            assert status_of(body) == 0x0000
            answered.append(str(ds.SOPInstanceUID))

    chance = Random(1)
    with wired(node.running.port) as wire:
        wire.associate()
        sender = threading.Thread(target=send_on, args=(wire,))
        sender.start()
        wait_until(lambda: len(answered) > 3)
        assert joined(stop(node, grace_s=0.3))
        assert joined(sender)
    assert [each.sop_instance_uid for each in node.received] == answered


def test_a_peer_that_waits_long_for_its_answer_is_not_silent(start):
    node = start(network_timeout_s=1.0)
    node.record = slow = SlowRecord(node.record)
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(*store(image()))
        assert slow.inside.wait(30)
        time.sleep(1.5)
        slow.go_on.set()
        assert wire.answer() == 0x0000
        assert wire.store(image()) == 0x0000
        assert wire.release() == 6


@pytest.mark.parametrize("count", [60])
def test_who_does_not_wait_for_answers_fills_the_connection_and_not_the_memory(start, count):
    node = start()
    node.record = slow = SlowRecord(node.record)
    with wired(node.running.port) as wire:
        wire.associate()
        sender = threading.Thread(target=wire.send, args=store(image()) * count)
        sender.start()
        assert slow.inside.wait(30)
        (assoc,) = node.running._associations()
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert assoc.dimse.msg_queue.qsize() <= 4
            time.sleep(0.01)
        slow.go_on.set()
        assert [wire.answer() for _ in range(count)] == [0x0000] * count
        assert joined(sender)
        assert wire.release() == 6


def slow_parts(monkeypatch, seconds):
    """Let a node take its time with each part of a message, as a busy one does."""
    take = DIMSEServiceProvider.receive_primitive

    def take_slowly(self, primitive):
        time.sleep(seconds)
        take(self, primitive)

    monkeypatch.setattr(DIMSEServiceProvider, "receive_primitive", take_slowly)


def test_a_peer_that_sends_one_message_for_longer_than_the_timeout_is_not_silent(
    start, monkeypatch
):
    node = start(network_timeout_s=0.5)
    slow_parts(monkeypatch, 0.001)
    ds = image(PixelData=bytes(16_000_000), Rows=2000, Columns=4000, **SIXTEEN_BITS)
    with wired(node.running.port) as wire:
        wire.associate()
        began = time.monotonic()
        assert wire.store(ds) == 0x0000
        assert time.monotonic() - began > 1
        assert wire.release() == 6


def test_an_association_can_be_ended_in_the_middle_of_a_message(start, monkeypatch):
    node = start()
    slow_parts(monkeypatch, 0.002)
    ds = image(PixelData=bytes(160_000_000), Rows=8000, Columns=10000, **SIXTEEN_BITS)

    def send(wire):
        with suppress(OSError):
            wire.send(*store(ds))

    with wired(node.running.port) as wire:
        wire.associate()
        sender = threading.Thread(target=send, args=(wire,))
        sender.start()
        wait_until(lambda: node.running._associations()[0].dimse.message is not None)
        began = time.monotonic()
        node.running.shutdown(0, 5)
        assert time.monotonic() - began < 5
        assert node.running.open_associations == 0
    assert joined(sender)


@pytest.mark.parametrize(
    "command",
    [b"\0\0\0\1\2\0\0\0\xff\x7f", b"\0\0\x10\1\2\0\0\0\1\0", b"\xff" * 20],
    ids=["of no kind that there is", "of no kind", "no data set"],
)
def test_who_sends_a_command_that_cannot_be_understood_is_told_of_in_the_log(
    start, command, caplog
):
    with wired(start().running.port) as wire:
        wire.associate()
        wire.send(pdu(P_DATA, struct.pack(">LBB", len(command) + 2, 1, 3) + command))
        assert ABORT in wire.read_to_the_end()
    wait_until(lambda: "cannot be understood" in caplog.text)
    assert "was aborted" not in caplog.text
