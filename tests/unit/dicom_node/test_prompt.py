"""Threads that wait for what they have to do, in a running node."""

import os
import threading
import time
from pathlib import Path

import pytest

from dicom_node import prompt
from tests.datasets import image
from tests.nodes import Node, wait_until
from tests.wire import wired


@pytest.fixture
def looks(monkeypatch):
    """Count how often each association's own thread, and its network thread, look for work."""
    counted = {"own": 0, "network": 0}

    def count(owner, name, kind):
        method = getattr(owner, name)

        def do(self):
            counted[kind] += 1
            return method(self)

        monkeypatch.setattr(owner, name, do)

    count(prompt._Checkpoint, "wait", "own")
    count(prompt.Prompt, "_read_or_wait", "network")
    return counted


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.running.shutdown(0, 5)


def test_an_idle_association_looks_for_work_seldom(looks, node):
    with wired(node.running.port) as wire:
        wire.associate()
        time.sleep(0.3)
        before, began = dict(looks), time.monotonic()
        time.sleep(2)
        most = 2 * (time.monotonic() - began) / prompt._LOOK_S + 2
        assert 0 < looks["own"] - before["own"] < most
        assert 0 < looks["network"] - before["network"] < most


def test_a_store_is_answered_though_nobody_looks(looks, node, monkeypatch):
    monkeypatch.setattr(prompt, "_LOOK_S", 3600)
    with wired(node.running.port) as wire:
        wire.associate()
        assert [wire.store(image()) for _ in range(3)] == [0, 0, 0]
        wire.release()
    wait_until(lambda: node.closed)


def test_a_node_ends_associations_though_nobody_looks(node, monkeypatch):
    monkeypatch.setattr(prompt, "_LOOK_S", 3600)
    with wired(node.running.port) as wire:
        wire.associate()
        assert wire.store(image()) == 0
        ending = threading.Thread(target=node.running.shutdown, args=(0, 5))
        ending.start()
        assert wire.read_to_the_end()
        ending.join(60)
        assert not ending.is_alive()


def test_an_association_leaves_no_descriptor_behind(node):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(2):
        before = descriptors()
        for _ in range(10):
            with wired(node.running.port) as wire:
                wire.associate()
                wire.release()
        wait_until(lambda: not node.running.open_associations)
    assert descriptors() <= before + 2


def test_associations_may_have_descriptors_beyond_1023(node):
    descriptors = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while descriptors[-1] < 1030:
            descriptors.append(os.dup(descriptors[0]))
        with wired(node.running.port) as wire:
            wire.associate()
            assert wire.store(image()) == 0
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_who_talks_to_the_peer_in_the_threads_place_is_not_robbed_of_the_answer():
    idle = threading.Event()
    idle.set()
    checkpoint = prompt._Checkpoint(idle.is_set)
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (checkpoint.wait(), passed.set()), daemon=True)
    thread.start()
    checkpoint.clear()
    idle.clear()
    checkpoint.ring()  # the answer came
    assert not passed.wait(0.3)
    checkpoint.set()
    assert passed.wait(10)
