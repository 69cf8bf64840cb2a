"""A PACS as a process of its own, which keeps every object it gets: `python -m tests.chaos.pacs`.

It can be killed and stopped like any other; and it reads from a file how to behave.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt

from dicom_node.contexts import REPORT_SOP_CLASSES, VERIFICATION
from tests.chaos.behaviour import ABORT, BUSY, HANG, OK, Behaviour
from tests.chaos.images import data_set_of

OUT_OF_RESOURCES = 0xA700  # PS3.4 B.2.3


@dataclass(frozen=True)
class Kept:
    """One object as it came, and when."""

    at_ns: int
    sop_instance_uid: str
    path: Path

    def data_set(self) -> bytes:
        return data_set_of(self.path.read_bytes())

    def read(self) -> Dataset:
        return dcmread(self.path)


class Store:
    """The folder of a PACS: what it has, doubles included, and how it behaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour = Behaviour(folder)
        (folder / "objects").mkdir(exist_ok=True)

    def keep(self, sop_instance_uid: str, part10: bytes) -> None:
        partial = self.folder / f"{os.getpid()}-{threading.get_ident()}.partial"
        partial.write_bytes(part10)
        partial.replace(self.folder / "objects" / f"{time.time_ns()}.{sop_instance_uid}.dcm")

    def kept(self) -> list[Kept]:
        """List all objects in the order in which they came."""
        found = []
        for path in (self.folder / "objects").iterdir():
            at, _, uid = path.stem.partition(".")
            found.append(Kept(int(at), uid, path))
        return sorted(found, key=lambda each: each.at_ns)

    def by_uid(self) -> dict[str, list[Kept]]:
        found: dict[str, list[Kept]] = defaultdict(list)
        for each in self.kept():
            found[each.sop_instance_uid].append(each)
        return found


def serve(title: str, port: int, store: Store) -> None:
    """Listen until SIGTERM."""
    entity = AE(title)
    entity.maximum_associations = 100
    for uid in (*REPORT_SOP_CLASSES, VERIFICATION):
        entity.add_supported_context(uid)

    def on_store(event: Any) -> int:
        how, uid = store.behaviour.how, str(event.request.AffectedSOPInstanceUID)
        if how == BUSY:
            return OUT_OF_RESOURCES
        # One that hangs has kept the object or not: nobody can know.
        if how == OK or len(uid) % 2:
            store.keep(uid, event.encoded_dataset())
        if how == ABORT:
            event.assoc.abort()
        while store.behaviour.how == HANG and event.assoc.is_established:
            time.sleep(0.1)
        return 0x0000 if how == OK else OUT_OF_RESOURCES

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    print("listens", flush=True)
    while not stopped.wait(0.2):
        pass
    server.shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Store(Path(sys.argv[3])))
