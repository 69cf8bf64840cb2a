"""A PACS for benchmarks: it takes reports, and writes down when each came.

python -m benchmarks.pacs PORT FILE
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

import dicom_node.entity  # noqa: F401  the library's log handlers cost time
from dicom_node.contexts import VERIFICATION
from dicom_node.header import read_header
from dicom_node.ours import OUR_SOP_CLASSES


def main() -> None:
    """Listen until SIGINT or SIGTERM."""
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    entity = AE("PACS")
    entity.maximum_associations = 100
    for uid in (VERIFICATION, *sorted(OUR_SOP_CLASSES)):
        entity.add_supported_context(uid)
    stopped = threading.Event()
    with path.open("a", buffering=1) as arrivals:

        def store(event: Any) -> int:
            study = read_header(event.encoded_dataset())["StudyInstanceUID"]
            arrivals.write(f"{time.monotonic()} {study}\n")
            return 0x0000

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
        )
        print("listens", flush=True)
        stopped.wait()
        server.shutdown()


if __name__ == "__main__":
    main()
