"""A node that runs on the loopback interface, and remembers what came."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynetdicom import AE

from dicom_node.archive import Archive
from dicom_node.storage_scp import NodeConfig, Outcome, Received, Services, start_node
from tests.datasets import image

SYNTAX = "1.2.840.10008.1.2.1"


class Node:
    """A running node, what it recorded, and which associations it saw closing."""

    def __init__(
        self,
        root: Path,
        record: Any = None,
        services: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.received: list[Received] = []
        self.closed: list[str] = []
        self.on_closed = self.closed.append
        self.archive = Archive(root / "archive")
        self.record = record or self._record
        config = {"ae_title": "NODE", "bind": "127.0.0.1", "port": 0} | config
        self.running = start_node(
            NodeConfig(**config),
            self.archive,
            Services(
                record=lambda r: self.record(r),
                on_association_closed=lambda i: self.on_closed(i),
                **(services or {}),
            ),
        )

    def _record(self, received: Received) -> Outcome:
        known = {r.sop_instance_uid: r.sha256 for r in self.received}
        self.received.append(received)
        if received.sop_instance_uid not in known:
            return Outcome.STORED
        same = known[received.sop_instance_uid] == received.sha256
        return Outcome.DUPLICATE if same else Outcome.CONFLICT

    def associate(
        self, calling: str = "MODALITY", called: str = "NODE", sop_classes: Any = None
    ) -> Any:
        ae = AE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        for uid in sop_classes or [image().SOPClassUID, "1.2.840.10008.1.1"]:
            ae.add_requested_context(uid, SYNTAX)
        return ae.associate("127.0.0.1", self.running.port, ae_title=called)

    def store(self, *instances: Any) -> list[int]:
        assoc = self.associate()
        statuses = [assoc.send_c_store(ds).Status for ds in instances]
        assoc.release()
        return statuses


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
