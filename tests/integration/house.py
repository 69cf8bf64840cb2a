"""cxr-worker as real processes, and a loopback PACS, for tests that kill and restart them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt

from dicom_node.contexts import REPORT_SOP_CLASSES, VERIFICATION
from dicom_node.peer import Peer
from dicom_node.storage_scu import send
from tests import datasets
from tests.e2e.programs import (
    START_S,
    STOP_S,
    alive,
    clean_environment,
    family,
    free_port,
    listens,
    living_in,
    wait_until,
)
from tests.fakes import new_uid
from worker import results as queries
from worker.database import build_engine, build_reading_sessions
from worker.embedded import find_server

CXR_WORKER = (sys.executable, "-m", "worker")
WORKED_S = 180

# Planted in every image, to be looked for in everything that is written.
NAME, ID, BIRTH_DATE = "Plantedname^Childgiven", "PLANTED-ID-4711", "20230417"
PLANTED = ("plantedname", "childgiven", ID.lower(), BIRTH_DATE)


class Pacs:
    """A Storage SCP that keeps every report it is sent, doubles included."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.status = 0x0000
        self._changed = threading.Condition()

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[Peer]:
        entity = AE("PACS")
        for uid in (*REPORT_SOP_CLASSES, VERIFICATION):
            entity.add_supported_context(uid)
        server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        try:
            yield Peer("PACS", "127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        with self._changed:
            if self.status == 0:
                self.received.append(event.encoded_dataset())
            self._changed.notify_all()
        return self.status

    def reports(self, study: str) -> list[Dataset]:
        """Give the reports of a study, as they came."""
        found = [dcmread(BytesIO(data)) for data in list(self.received)]
        return [ds for ds in found if ds.StudyInstanceUID == study]

    def wait_for(self, *studies: str) -> None:
        wait_until(
            lambda: all(self.reports(study) for study in studies), WORKED_S, "the studies' reports"
        )


@dataclass
class Redis:
    """A Redis on a TCP port that keeps nothing: what it forgets must not matter."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "")
        self.process = subprocess.Popen(
            [str(find_server()), *options, "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: listens(self.port), START_S, "the start of Redis")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class House:
    """One home, and what runs in it."""

    def __init__(self, home: Path, logs: Path, **settings: str) -> None:
        self.home = home
        self.logs = logs
        self.port = free_port()
        self.env = clean_environment(
            CXR_HOME=str(home),
            CXR_BIND="127.0.0.1",
            CXR_PORT=str(self.port),
            CXR_ARCHIVE_RESERVE_MB="0",
            CXR_QUIET_S="1",
            CXR_LEASE_S="4",
            CXR_NETWORK_TIMEOUT_S="4",
            CXR_LOG_LEVEL="DEBUG",
            **settings,
        )
        logs.mkdir(parents=True, exist_ok=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[psutil.Process] = []

    # --- processes ---------------------------------------------------------------------------

    def start(self, *words: str, name: str = "") -> subprocess.Popen[bytes]:
        """Start a role in a session of its own, as a terminal does."""
        name = name or words[0]
        with (self.logs / f"{name}-{len(self.seen)}-{time.monotonic_ns()}.log").open("wb") as log:
            process = subprocess.Popen(
                [*CXR_WORKER, *words], env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def start_up(self) -> subprocess.Popen[bytes]:
        """Run `cxr-worker up` until it says that it is ready."""
        before = self.text().count("is ready")
        process = self.start("up")
        wait_until(
            lambda: self.text().count("is ready") > before or process.poll() is not None,
            START_S,
            "the start",
        )
        assert process.poll() is None, self.text()[-3000:]
        return process

    def stop(self, name: str, *, group: bool = False, number: int = signal.SIGINT) -> int:
        """Stop a role as Ctrl-C does: a terminal tells the whole group, `kill` one process."""
        process = self.processes.pop(name)
        self.seen = family(process)
        (os.killpg if group else os.kill)(process.pid, number)
        return process.wait(STOP_S)

    def left_over(self) -> list[str]:
        """List what still runs of what was stopped last, or of this home at all."""
        psutil.wait_procs(self.seen, timeout=5)
        return alive(self.seen) + living_in(self.home)

    def role(self, *words: str) -> psutil.Process:
        """Find a child of `up` by the words of its command line."""
        parent = psutil.Process(self.processes["up"].pid)
        for child in parent.children():
            command = child.cmdline()
            if all(any(word in part for part in command) for word in words):
                return child
        raise AssertionError(f"no child {words}: {[c.cmdline() for c in parent.children()]}")

    def kill(self, *words: str) -> None:
        """Kill a role with -9, and wait until another one runs in its place."""
        victim = self.role(*words)
        victim.kill()

        def replaced() -> bool:
            try:
                return self.role(*words).pid != victim.pid
            except (AssertionError, psutil.NoSuchProcess):
                return False

        wait_until(replaced, START_S, f"the restart of {words}")

    def kill_all(self) -> None:
        """Leave nothing behind when a test failed."""
        for process in self.processes.values():
            for each in family(process) if process.poll() is None else []:
                each.kill()
            process.wait()

    # --- what people do ----------------------------------------------------------------------

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CXR_WORKER, *words], env=self.env, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    def results(self) -> dict[str, dict[str, Any]]:
        done = self.command("results", "--format", "json")
        assert done.returncode == 0, done.stderr
        return {record["study_instance_uid"]: record for record in json.loads(done.stdout)}

    def records(self) -> dict[str, dict[str, Any]]:
        """Give what `results` would, without the start of a process."""
        engine = build_engine(self.env.get("CXR_DATABASE_URL") or self.sqlite_url)
        try:
            with build_reading_sessions(engine)() as session:
                found = [queries.study_record(row) for row in queries.find_studies(session)]
        finally:
            engine.dispose()
        return {record["study_instance_uid"]: record for record in found}

    @property
    def sqlite_url(self) -> str:
        return f"sqlite:///{self.home}/cxr-worker.sqlite3"

    def wait_for_state(self, state: str, *studies: str) -> dict[str, dict[str, Any]]:
        records: dict[str, dict[str, Any]] = {}

        def reached() -> bool:
            records.update(self.records())
            return all(s in records and records[s]["state"] == state for s in studies)

        wait_until(reached, WORKED_S, f"the state {state}")
        return records

    @property
    def node(self) -> Peer:
        return Peer("CXRWORKER", "127.0.0.1", self.port)

    def is_receiving(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def store(self, images: Sequence[Dataset]) -> list[int]:
        return [answer.status for answer in send(list(images), self.node, "MODALITY")]

    def send_study(self, count: int = 1, **attributes: Any) -> str:
        """Send a study as a modality does, until it is stored; give its UID."""
        images = study_of(count, **attributes)
        assert self.store(images) == [0] * count
        return str(images[0].StudyInstanceUID)

    def text(self) -> str:
        """Everything that was logged and printed."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.logs.iterdir()))


def study_of(count: int, **attributes: Any) -> list[Dataset]:
    """Make a study of noisy images of one planted patient."""
    study = new_run_uid()
    rng = np.random.default_rng(len(study))
    return [
        datasets.image(
            rng.integers(0, 4096, (200, 180)).astype(np.uint16),
            StudyInstanceUID=study,
            SeriesInstanceUID=f"{study}.1",
            SOPInstanceUID=f"{study}.1.{number}",
            PatientName=NAME,
            PatientID=ID,
            PatientBirthDate=BIRTH_DATE,
            **attributes,
        )
        for number in range(1, count + 1)
    ]


def new_run_uid() -> str:
    """A UID that no other run on the same home used."""
    return f"{new_uid()}.{time.time_ns()}"
