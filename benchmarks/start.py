"""How soon each process is there, and how large it is, at first and after thousands of studies.

python -m benchmarks.start [--rounds 5] [--studies 2000]

Memory is the resident set (RSS) as the system counts it; in brackets what is a process's own (USS),
without the libraries and pages that several share.
"""

from __future__ import annotations

import argparse
import compileall
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE

from benchmarks import objects, rig, sheet
from benchmarks.client import run
from dicom_node.contexts import VERIFICATION
from dicom_node.errors import PacsWorkerError

MIB = 2**20
POINTS = 10  # of a curve
_PATIENCE_S = 600.0
_ROLE = (sys.executable, "-m", "worker")


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds, in MiB."""

    resident: float
    own: float

    def __str__(self) -> str:
        return f"{self.resident:.0f} MB ({self.own:.0f})"


def size(process: psutil.Process) -> Size:
    """Measure a process."""
    memory = process.memory_full_info()
    return Size(memory.rss / MIB, memory.uss / MIB)


def _store(
    port: int, chests: list[objects.Radiograph], syntax: str = ExplicitVRLittleEndian
) -> None:
    """Store radiographs over one association."""
    _, stored = run("127.0.0.1", port, rig.NODE, [chests], syntax=syntax)
    if stored != len(chests):
        raise PacsWorkerError(f"the node stored {stored} of {len(chests)}")


# --- command line ----------------------------------------------------------------------------


def measure_help(rounds: int) -> sheet.Figure:
    """Time `cxr-worker --help`."""
    taken = []
    for _ in range(rounds):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "worker", "--help"], check=True, capture_output=True)
        taken.append(time.monotonic() - started)
    return sheet.Figure("`cxr-worker --help`", sheet.spread(taken, "s", 2), goal="under 0.3 s")


# --- node ------------------------------------------------------------------------------------


@contextmanager
def _home() -> Iterator[tuple[Path, int, dict[str, str]]]:
    """Make a folder with a database and a broker; give it with a free port and its environment."""
    with tempfile.TemporaryDirectory(prefix="cxr-bench-start-") as name:
        home, port = Path(name), rig.free_port()
        env = rig.environment(home, port, {"CXR_LOG_LEVEL": "WARNING"})
        upgrade = [sys.executable, "-m", "worker", "db", "upgrade"]
        subprocess.run(upgrade, env=env, check=True, capture_output=True)  # noqa: S603
        with rig.program([*_ROLE, "redis"], env, home / "log"):
            yield home, port, env


def _answers(port: int) -> bool:
    """Tell whether a node answers a C-ECHO."""
    entity = AE("BENCHMARK")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port, ae_title=rig.NODE)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return answer.get("Status") == 0x0000


def measure_node(rounds: int) -> list[sheet.Figure]:
    """Time a node from its start to its answer to a C-ECHO, and weigh it."""
    ready, idle = [], []
    with _home() as (home, port, env):
        for last in (number == rounds - 1 for number in range(rounds)):
            started = time.monotonic()
            with rig.program([*_ROLE, "node"], env, home / "log") as running:
                rig.wait_for_port(port, home / "log")
                if not _answers(port):
                    raise PacsWorkerError("the node listens and does not answer")
                ready.append(time.monotonic() - started)
                time.sleep(1)
                process = psutil.Process(running.pid)
                idle.append(size(process))
                if last:
                    after_small = _after(process, port, 500, objects.SMALL, 1)
                    after_large = _after(process, port, 20, objects.TEN_MEGABYTES, 1000)
    middle = sorted(idle, key=lambda each: each.resident)[len(idle) // 2]
    return [
        sheet.Figure("node, from exec to a C-ECHO answered", sheet.spread(ready, "s", 2),
                     goal="under 1 s"),
        sheet.Figure("node, resident when idle", str(middle), goal="under 120 MB"),
        sheet.Figure("node, after 500 objects of 76 kB", str(after_small), goal="under 120 MB"),
        sheet.Figure("node, after 20 objects of 10 MB more", str(after_large)),
    ]  # fmt: skip


def _after(process: psutil.Process, port: int, count: int, side: int, first: int) -> Size:
    _store(port, objects.radiographs(count, side, first=first))
    time.sleep(1)
    return size(process)


# --- cold worker -----------------------------------------------------------------------------


def measure_cold_worker(rounds: int) -> list[sheet.Figure]:
    """Time a worker from its start to the committed finding of an image that waits for it."""
    with _home() as (home, port, env), rig.program([*_ROLE, "node"], env, home / "log"):
        rig.wait_for_port(port, home / "log")
        first, *later = [_first_answer(home, port, env, n) for n in range(1, rounds + 2)]
    middle = sorted((held for _, held in later), key=lambda each: each.resident)[rounds // 2]
    return [
        sheet.Figure("worker, from exec to its first finding committed",
                     sheet.spread([seconds for seconds, _ in later], "s", 1),
                     f"resident then: {middle}", "under 10 s"),
        sheet.Figure("the same where the network was never started before", f"{first[0]:.1f} s",
                     f"resident then: {first[1]}"),
    ]  # fmt: skip


def _first_answer(home: Path, port: int, env: dict[str, str], number: int) -> tuple[float, Size]:
    """Give the seconds to the first answer, and the size of the child that gave it."""
    _store(port, objects.radiographs(1, objects.TEN_MEGABYTES, first=number))
    started = time.monotonic()
    with rig.program([*_ROLE, "worker", "--queues", "gpu"], env, home / "log") as running:
        while _findings(home) < number:
            if running.poll() is not None or time.monotonic() - started > _PATIENCE_S:
                raise PacsWorkerError(f"no answer:\n{(home / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        seconds = time.monotonic() - started
        return seconds, size(psutil.Process(running.pid).children()[0])


def _findings(home: Path) -> int:
    with closing(sqlite3.connect(f"file:{home}/cxr-worker.sqlite3?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM findings").fetchone()[0])


# --- growth ----------------------------------------------------------------------------------


def measure_growth(studies: int) -> list[sheet.Figure]:
    """Weigh every process of `up` while it answers studies of two megapixels, JPEG."""
    each = -(-studies // POINTS)
    with rig.pacs() as (pacs, arrivals):
        settings = {"CXR_DESTINATIONS": str(pacs), "CXR_QUIET_S": "1", "CXR_LOG_LEVEL": "WARNING"}
        with rig.up(settings) as (node, env):
            curves = {name: [size(process)] for name, process in roles(env["CXR_HOME"]).items()}
            for number in range(POINTS):
                _work_off(node.port, arrivals, each, number * each + 1)
                for name, process in roles(env["CXR_HOME"]).items():
                    curves.setdefault(name, []).append(size(process))
                print(f"{(number + 1) * each} studies", file=sys.stderr)
    return [_curve_figure(name, curve, each) for name, curve in sorted(curves.items())]


def _work_off(port: int, arrivals: Path, count: int, first: int) -> None:
    """Send studies, and wait for the reports of all."""
    syntax = str(JPEGBaseline8Bit)
    _store(port, objects.radiographs(count, objects.TWO_MEGAPIXELS, syntax, first), syntax)
    deadline = time.monotonic() + _PATIENCE_S
    while len(rig.arrived(arrivals)) < first + count - 1:
        if time.monotonic() > deadline:
            raise PacsWorkerError("reports do not arrive")
        time.sleep(0.2)


def roles(home: str) -> dict[str, psutil.Process]:
    """Find the processes of an installation, by what each does."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("CXR_HOME") == home:
                found[_role(process)] = process
    return found


def _role(process: psutil.Process) -> str:
    """Say what a process does, by its command line and its parent's."""
    words = process.cmdline()
    parent = process.parent()
    if "worker" not in words:
        return "decoder" if "python" in words[0] else "broker"
    name = " ".join(words[words.index("worker") + 1 :]).replace("worker --queues", "worker for")
    return f"{name}, child" if parent is not None and parent.cmdline() == words else name


def _curve_figure(name: str, curve: list[Size], each: int) -> sheet.Figure:
    resident = [point.resident for point in curve]
    half = resident[len(resident) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope * 1000 / each
    points = ", ".join(f"{point:.0f}" for point in resident)
    goal = "under 1,500 MB, flat" if name.startswith("worker") else ""
    return sheet.Figure(
        f"{name}, resident after {(len(curve) - 1) * each} studies",
        f"{curve[-1]}; in the second half {slope:+.0f} MB per 1,000 studies",
        f"every {each} studies: {points}",
        goal,
    )


def _compile() -> None:
    """Compile our packages, as an installation does; a working tree may hold none of that yet."""
    for package in ("dicom_node", "model", "worker"):
        compileall.compile_dir(str(Path(__file__).parent.parent / package), quiet=1)


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure all."""
    _compile()
    return [
        measure_help(options.rounds),
        *measure_node(options.rounds),
        *measure_cold_worker(options.rounds),
        *measure_growth(options.studies),
    ]


if __name__ == "__main__":
    parser = sheet.parser("start", __doc__)
    parser.add_argument("--studies", type=int, default=2000, help="of the curve of memory")
    sys.exit(sheet.run(measure, parser.parse_args()))
