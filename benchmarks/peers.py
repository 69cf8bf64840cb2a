"""What our node is held against, where it is installed: DCMTK's storescp and Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import rig
from dicom_node.peer import Peer

# What a peer that answers small packets at once needs: DCMTK waits for more by default.
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


@contextmanager
def storescp() -> Iterator[Peer]:
    """Run DCMTK's storescp, with the largest PDU it takes, a process for each association."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-dcmtk-") as name:
        port, log = rig.free_port(), Path(name) / "log"
        words = ["storescp", "--fork", "--max-pdu", "131072", "--output-directory", name, str(port)]
        with rig.program(words, _ENVIRONMENT, log):
            rig.wait_for_port(port, log)
            yield Peer("STORESCP", "127.0.0.1", port)


@contextmanager
def orthanc() -> Iterator[Peer]:
    """Run Orthanc as it comes, but for its ports and folders."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-orthanc-") as name:
        port, log = rig.free_port(), Path(name) / "log"
        settings = Path(name) / "orthanc.json"
        settings.write_text(
            json.dumps({
                "StorageDirectory": f"{name}/storage", "IndexDirectory": f"{name}/storage",
                "HttpPort": rig.free_port(), "DicomPort": port, "DicomAet": "ORTHANC",
                "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [],
            })
        )  # fmt: skip
        with rig.program(["Orthanc", settings], _ENVIRONMENT, log):
            rig.wait_for_port(port, log)
            yield Peer("ORTHANC", "127.0.0.1", port)


def installed() -> dict[str, contextmanager]:  # type: ignore[type-arg]
    """Give the peers that are installed here, by the names people know."""
    known = {"storescp": ("DCMTK storescp", storescp), "Orthanc": ("Orthanc", orthanc)}
    return {name: run for program, (name, run) in known.items() if shutil.which(program)}
