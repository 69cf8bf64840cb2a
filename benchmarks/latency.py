"""How long a report takes on an idle machine, beyond the time that a study must be quiet.

python -m benchmarks.latency [--studies 100] [--database postgresql+psycopg://...]

`cxr-worker up` gets one study after the other, each one DX of 10 MB. The time runs from the
C-STORE response to the report's C-STORE request at the PACS; CXR_QUIET_S is taken off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from benchmarks import objects, rig, sheet
from benchmarks.client import LARGEST_PDU, Sender
from dicom_node.errors import PacsWorkerError

QUIET_S = 1
_PATIENCE_S = 60.0


def one_study(port: int, arrivals: Path, number: int) -> float:
    """Send a study; give the seconds from the C-STORE response to its report."""
    chest = objects.radiograph(number, objects.TEN_MEGABYTES)
    sender = Sender("127.0.0.1", port, rig.NODE, LARGEST_PDU, str(ExplicitVRLittleEndian))
    sender.prepare([chest])
    stored = sender.send()
    answered = time.monotonic()
    sender.release()
    while stored and time.monotonic() - answered < _PATIENCE_S:
        arrived = rig.arrived(arrivals).get(chest.study_instance_uid)
        if arrived is not None:
            return arrived - answered
        time.sleep(0.05)
    raise PacsWorkerError(f"study {number} was {'not reported' if stored else 'not stored'}")


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure."""
    with rig.pacs() as (pacs, arrivals):
        settings = {
            "CXR_DESTINATIONS": str(pacs), "CXR_QUIET_S": str(QUIET_S), "CXR_LOG_LEVEL": "WARNING",
            "CXR_DATABASE_URL": options.database,
        }  # fmt: skip
        if options.database:
            upgrade = [sys.executable, "-m", "worker", "db", "upgrade"]
            subprocess.run(  # noqa: S603  our own program
                upgrade, env=os.environ | settings, check=True, capture_output=True
            )
        with rig.up(settings) as (node, _):
            first, *others = (
                one_study(node.port, arrivals, number) - QUIET_S
                for number in range(1, options.studies + 2)
            )
    cuts = statistics.quantiles(others, n=100, method="inclusive")
    what = f"latency of one 10 MB study beyond CXR_QUIET_S, {options.studies} studies"
    return [
        sheet.Figure(f"{what}, median", _seconds(cuts[49]), goal="under 0.25 s"),
        sheet.Figure("the same, 90th percentile", _seconds(cuts[89])),
        sheet.Figure(
            "the same, 99th percentile",
            _seconds(cuts[98]),
            f"longest {_seconds(max(others))}",
            "under 0.6 s",
        ),
        sheet.Figure("the same, the first study after the start", _seconds(first)),
    ]


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


if __name__ == "__main__":
    parser = sheet.parser("latency", __doc__)
    parser.add_argument("--database", default="", help="URL of an empty one; SQLite by default")
    parser.add_argument("--studies", type=int, default=100, help="how many are sent, two or more")
    sys.exit(sheet.run(measure, parser.parse_args()))
