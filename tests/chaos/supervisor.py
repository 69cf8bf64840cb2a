"""Keeps processes running as systemd would: what ends is started again, half a second later."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RESTART_S = 0.5
LOOK_S = 0.1
# How long a role may take to end when it is told to.
STOP_S = 90


@dataclass
class Role:
    """One process that is to run, in a session of its own, and each time it ran.

    Parameters
    ----------
    command
        What to start.
    user
        As whom; ourselves when not given.
    before
        Called before each start.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    logs: Path
    user: str | None = None
    before: Callable[[], None] = lambda: None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    holds: int = 0
    ended_at: float | None = None
    expected: set[int] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)

    def start(self) -> None:
        self.before()
        self.starts += 1
        with (self.logs / f"{self.name}.{self.starts:03d}.log").open("wb") as log:
            self.process = subprocess.Popen(
                list(self.command), env=dict(self.env), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, user=self.user,
                group=self.user, cwd="/" if self.user else None,
            )  # fmt: skip
        self.sessions.add(self.process.pid)
        self.ended_at = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """List the process and all that descend from it."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; that it ends is no surprise then."""
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.expected.add(self.pid)
        if self.runs():
            os.kill(self.pid, number)

    def log_text(self) -> str:
        return "".join(
            path.read_text(errors="replace")
            for path in sorted(self.logs.glob(f"{self.name}.[0-9]*.log"))
        )


class Supervisor:
    """Starts roles again when they end, until it is closed.

    Attributes
    ----------
    surprises
        Ends that nobody caused: (seconds, role, number of the start, exit code).
    helped
        Roles that had to be killed as they did not end when they were told to.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.roles: dict[str, Role] = {}
        self.surprises: list[tuple[float, str, int, int]] = []
        self.helped: list[str] = []
        self._clock = clock
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, role: Role) -> Role:
        with self._lock:
            self.roles[role.name] = role
            role.start()
        return role

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_S):
            with self._lock:
                for role in self.roles.values():
                    self._look_at(role)

    def _look_at(self, role: Role) -> None:
        if role.runs() or role.process is None:
            return
        if role.ended_at is None:
            role.ended_at = time.monotonic()
            if role.pid not in role.expected:
                code = role.process.returncode
                self.surprises.append((self._clock(), role.name, role.starts, code))
        if not role.holds and time.monotonic() - role.ended_at >= RESTART_S:
            role.start()

    @contextmanager
    def held(self, role: Role) -> Iterator[None]:
        """Let a role stay away, once it has ended."""
        with self._lock:
            role.holds += 1
        try:
            yield
        finally:
            with self._lock:
                role.holds -= 1

    def end(self, role: Role, number: int = signal.SIGTERM) -> int:
        """Tell a role to end, and wait for it; give its exit code."""
        assert role.process is not None
        process = role.process
        role.signal(number)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.helped.append(f"{role.name}.{role.starts:03d} did not end in {STOP_S} s")
            process.kill()
            return process.wait()

    def close(self) -> None:
        """Start nothing any more."""
        self._closed.set()
        self._thread.join()

    def kill_all(self) -> None:
        """Leave nothing behind."""
        self.close()
        for role in self.roles.values():
            for each in (*role.family(), *self.orphans(role)):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            if role.process is not None:
                role.process.wait()

    def orphans(self, role: Role) -> list[psutil.Process]:
        """List what runs in a session of which the first process has ended."""
        ended = role.sessions - ({role.pid} if role.runs() else set())
        return [each for each in psutil.process_iter() if _session(each) in ended]


def _session(process: psutil.Process) -> int:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return -1
        return os.getsid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return -1
