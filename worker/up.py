"""Everything on one machine: supervises node, relay, workers and the embedded Redis with circus.

Each role is a process of its own, restarted when it dies, and stopped when this one is.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from dicom_node.errors import ConfigurationError
from worker.settings import Settings

# Set for the roles that `up` starts: they end when it does, even if it is killed.
SUPERVISED = "CXRWORKER_SUPERVISED"
SUPERVISOR = "CXRWORKER_SUPERVISOR"
PR_SET_PDEATHSIG = 1  # prctl(2)

STOP_S = 30


def roles(settings: Settings) -> dict[str, list[str]]:
    """Give the roles of one machine with their arguments, in the order they start."""
    redis = {"redis": ["redis"]} if settings.embedded_broker else {}
    return {
        **redis,
        "node": ["node"],
        "relay": ["relay"],
        "worker-io": ["worker", "--queues", "io"],
        "worker-gpu": ["worker", "--queues", "gpu"],
        **({} if settings.web_port is None else {"web": ["web"]}),
    }


def die_with_parent() -> None:
    """Ask Linux to stop this process when `up` dies; the request survives an exec."""
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(supervisor):  # it died before we asked
            os.kill(os.getpid(), signal.SIGTERM)


def run(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Start all roles and keep them running until SIGINT, SIGTERM or SIGHUP.

    Parameters
    ----------
    on_ready
        Called once, from another thread, when the node answers and the worker has its model.
    """
    from circus import get_arbiter

    lock = take_home(settings.home)
    require_free_ports(settings)
    marks = Path(tempfile.mkdtemp(prefix="cxr-worker-"))  # sockets and marks of this run alone
    try:
        arbiter = get_arbiter(
            [
                _watcher(name, words, marks, i)
                for i, (name, words) in enumerate(roles(settings).items())
            ],
            controller=f"ipc://{marks}/controller",
            pubsub_endpoint=f"ipc://{marks}/events",
            check_delay=0.5,
        )
        logging.getLogger("tornado.application").addFilter(_NoConflicts())
        awaited = [name for name in roles(settings) if name not in ("redis", "relay")]
        tell = threading.Thread(target=_tell_when_ready, args=(marks, awaited, on_ready))
        tell.daemon = True
        tell.start()
        arbiter.start()
    finally:
        shutil.rmtree(marks, ignore_errors=True)
        lock.close()


def take_home(home: Path) -> IO[str]:
    """Lock the folder until the file is closed, by the end of this process at the latest.

    Raises
    ------
    ConfigurationError
        When another `up` runs in it: two would stop each other's broker.
    """
    try:
        home.mkdir(0o700, parents=True, exist_ok=True)
        lock = (home / "up.lock").open("w")
    except OSError as error:
        raise ConfigurationError("CXR_HOME", f"{home} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigurationError(
            "CXR_HOME", f"{home} is in use by another `cxr-worker up`; stop it or choose another"
        ) from error
    return lock


def require_free_ports(settings: Settings) -> None:
    """Refuse a port that another program holds, before anything is started.

    Raises
    ------
    ConfigurationError
        Naming the setting.
    """
    if settings.plaintext:
        _require_free("CXR_PORT", settings.bind, settings.port)
    if settings.tls_port is not None:
        _require_free("CXR_TLS_PORT", settings.bind, settings.tls_port)
    if settings.web_port is not None:
        _require_free("CXR_WEB_PORT", settings.web_bind, settings.web_port)
    if settings.metrics_port is not None:
        _require_free("CXR_METRICS_PORT", settings.metrics_bind, settings.metrics_port)


def _require_free(setting: str, bind: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise ConfigurationError(
                setting, f"{bind}:{port} cannot be had: {error.strerror}"
            ) from error


def _watcher(name: str, words: list[str], marks: Path, order: int) -> dict[str, Any]:
    return {
        "name": name,
        "cmd": sys.executable,
        "args": ["-m", "worker", *words],
        "env": {SUPERVISED: str(marks), SUPERVISOR: str(os.getpid())},
        "copy_env": True,
        "graceful_timeout": STOP_S,
        "max_retry": -1,
        "priority": -order,
        "singleton": True,
        "hooks": HOOKS.get(name, {}),
    }


def _stop_last(watcher: Any, arbiter: Any, **_: Any) -> bool:
    """Hold the broker's stop back until the other roles have ended: circus stops all at once."""
    pids = [pid for other in arbiter.watchers if other is not watcher for pid in other.processes]
    deadline = time.monotonic() + STOP_S
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return True


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop_on_hangup(arbiter: Any, **_: Any) -> bool:
    """Stop when the terminal is closed, where circus would restart all roles."""
    handlers = arbiter.ctrl.sys_hdl
    handlers.handle_hup = handlers.handle_term
    return True


HOOKS = {
    "redis": {"before_stop": (_stop_last, True)},
    "node": {"after_start": (_stop_on_hangup, True)},
}


class _NoConflicts(logging.Filter):
    """Drops what circus logs of itself when its regular check meets its own stop."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and type(record.exc_info[1]).__name__ == "ConflictError")


def is_supervised() -> bool:
    """Tell whether `up` runs this role."""
    return SUPERVISED in os.environ


def mark_ready(role: str) -> None:
    """Tell the supervisor, if there is one, that a role is ready."""
    marks = os.environ.get(SUPERVISED)
    if marks and Path(marks).is_dir():
        (Path(marks) / f"{role}.ready").touch()


def _tell_when_ready(marks: Path, roles: Sequence[str], on_ready: Callable[[], None]) -> None:
    expected = [marks / f"{role}.ready" for role in roles]
    while not all(mark.exists() for mark in expected):
        if not marks.exists():
            return
        time.sleep(0.05)
    on_ready()
