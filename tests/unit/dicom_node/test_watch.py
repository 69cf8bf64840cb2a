"""What a running node tells of itself: events to whoever counts, and whose lines are whose."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.correlation import fields
from dicom_node.records import Received
from dicom_node.storage_scp import Outcome
from dicom_node.watch import Rejection, Watch
from tests.datasets import image
from tests.e2e.programs import wait_until
from tests.nodes import Node


class Heard(Watch):
    def __init__(self) -> None:
        self.associations = 0
        self.rejections: list[Rejection] = []
        self.answers: list[tuple[str, int]] = []
        self.seconds: list[float] = []

    def accepted(self) -> None:
        self.associations += 1

    def rejected(self, why: Rejection) -> None:
        self.rejections.append(why)

    def stored(self, sop_class_uid: str, status: int, seconds: float) -> None:
        self.answers.append((sop_class_uid, status))
        self.seconds.append(seconds)


@contextmanager
def listening(root: Path, watch: Watch, record: Any = None, **config: Any) -> Iterator[Node]:
    node = Node(root, record, services={"watch": watch}, **config)
    try:
        yield node
    finally:
        node.running.shutdown(grace_s=0)


def test_each_answer_is_heard_with_its_status_and_time(tmp_path: Path) -> None:
    heard, ds = Heard(), image()

    def fail(_: Received) -> Outcome:
        raise OSError

    with listening(tmp_path, heard) as node:
        assoc = node.associate()
        assert assoc.send_c_store(ds).Status == 0x0000
        node.record = fail
        assert assoc.send_c_store(ds).Status == 0xA700
        assoc.release()
    assert heard.answers == [(ds.SOPClassUID, 0x0000), (ds.SOPClassUID, 0xA700)]
    assert all(0 < seconds < 60 for seconds in heard.seconds)
    assert heard.associations == 1


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"allowed_ae_titles": frozenset({"OTHER"})}, Rejection.CALLING_AE_TITLE),
        ({"require_called_ae_title": True, "ae_title": "OTHER"}, Rejection.CALLED_AE_TITLE),
    ],
)
def test_a_rejection_is_heard_with_its_reason(
    tmp_path: Path, config: dict[str, Any], why: Rejection
) -> None:
    heard = Heard()
    with listening(tmp_path, heard, **config) as node:
        assert node.associate().is_rejected
        wait_until(lambda: heard.rejections == [why], 10, "the event")


def test_a_connection_that_is_closed_unread_is_heard(tmp_path: Path) -> None:
    heard = Heard()
    only = (ipaddress.ip_network("192.0.2.0/24"),)
    with listening(tmp_path, heard, allowed_hosts=only) as node:
        with socket.create_connection(("127.0.0.1", node.running.port)) as connection:
            assert connection.recv(1) == b""
        wait_until(lambda: heard.rejections == [Rejection.HOST], 10, "the event")


def test_the_lines_of_an_association_have_its_id_and_of_another_one_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[tuple[str, str]] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((fields().get("association_id", ""), record.getMessage()))

    ours = logging.getLogger("dicom_node")
    reader = Reader()
    ours.addHandler(reader)
    try:
        with caplog.at_level(logging.INFO, "dicom_node"), listening(tmp_path, Watch()) as node:
            for _ in range(2):
                assoc = node.associate()
                assoc.send_c_store(image())
                assoc.abort()
            wait_until(lambda: len(node.closed) == 2, 10, "the end of both")
            ids = [received.association_id for received in node.received]
    finally:
        ours.removeHandler(reader)
    for name in ids:
        words = " ".join(message for whose, message in lines if whose == name)
        assert "accepted" in words
        assert "aborted" in words
    assert len(set(ids)) == 2


def test_a_node_listens_until_it_is_shut_down(tmp_path: Path) -> None:
    with listening(tmp_path, Watch()) as node:
        assert node.running.is_listening
    assert not node.running.is_listening
