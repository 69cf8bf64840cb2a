"""What our node is held against, where it is installed: DCMTK's storescp and Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import rig
from dicom_node.peer import Peer

TUNED = "with PDUs of 128 KiB and TCP_NODELAY"
_PLAIN = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
# What a peer that answers small packets at once needs: DCMTK waits for more by default.
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
# A process for each association, so that it serves 20 at once; and the largest PDU it takes.
_FORK, _LARGEST_PDU = ("--fork",), ("--max-pdu", "131072")


@contextmanager
def storescp(options: Sequence[str], environment: Mapping[str, str]) -> Iterator[Peer]:
    """Run DCMTK's storescp."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-dcmtk-") as name:
        port, log = rig.free_port(), Path(name) / "log"
        words = [dcmtk("storescp"), *options, "--output-directory", name, str(port)]
        with rig.program(words, environment, log):
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


def installed() -> dict[str, Callable[[], AbstractContextManager[Peer]]]:
    """Give the peers that are installed here, by the names people know."""
    known = (
        (dcmtk("storescp"), "DCMTK storescp", partial(storescp, _FORK, _PLAIN)),
        (dcmtk("storescp"), TUNED, partial(storescp, (*_FORK, *_LARGEST_PDU), _ENVIRONMENT)),
        (shutil.which("Orthanc"), "Orthanc", orthanc),
    )
    return {name: run for program, name, run in known if program}


def dcmtk(name: str) -> str:
    """Find a program of DCMTK; empty if there is none.

    pynetdicom installs programs of the same names beside the interpreter.
    """
    ours = Path(sys.executable).parent
    there = [each for each in os.get_exec_path() if Path(each) != ours]
    return shutil.which(name, path=os.pathsep.join(there)) or ""
