"""The house of a run: servers, destinations, receivers of notices, and the roles that use them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dicom_node.peer import Peer
from tests.chaos.behaviour import HANG, OK, Behaviour
from tests.chaos.diary import Diary
from tests.chaos.faults import GPU, IO, RECEIVERS
from tests.chaos.models import RELEASED, Models
from tests.chaos.pacs import Store
from tests.chaos.rollcall import silent_workers
from tests.chaos.servers import PostgresServer, RedisServer, is_up
from tests.chaos.supervisor import Role, Supervisor
from tests.e2e.programs import START_S, clean_environment, free_port, listens, wait_until
from tests.notices import secret_file

CXR_WORKER = (sys.executable, "-m", "worker")
CHECKOUT = Path(__file__).resolve().parents[2]

ROLES: dict[str, tuple[str, ...]] = {
    "node": ("node",),
    "relay": ("relay",),
    "io-1": ("worker", "--queues", "io"),
    "io-2": ("worker", "--queues", "io"),
    "gpu-1": ("worker", "--queues", "gpu"),
    "gpu-2": ("worker", "--queues", "gpu"),
}
SETTINGS = {
    "CXR_BIND": "127.0.0.1",
    "CXR_ARCHIVE_RESERVE_MB": "0",
    "CXR_WEB_PORT": "off",
    "CXR_QUIET_S": "1",
    "CXR_LEASE_S": "5",
    "CXR_NETWORK_TIMEOUT_S": "5",
    "CXR_DELIVERY_TIMEOUT_S": "5",
    "CXR_DELIVERY_RETRY_S": "1",
    "CXR_DELIVERY_RETRY_MAX_S": "8",
    "CXR_LOG_LEVEL": "DEBUG",
    # So that the reckoning knows of which study, and of which report, a receiver was told.
    "CXR_NOTIFY_FIELDS": "study_instance_uid,report_uid",
    # Of the two it is the quicker one to start, from the second start in a home on.
    "CXR_ENGINE": "openvino",
}


@dataclass
class Destination:
    """A PACS of the run: its process, and what it keeps."""

    title: str
    store: Store
    port: int = field(default_factory=free_port)

    @property
    def peer(self) -> Peer:
        return Peer(self.title, "127.0.0.1", self.port)

    def command(self) -> list[str]:
        words = [self.title, str(self.port), str(self.store.folder)]
        return [sys.executable, "-m", "tests.chaos.pacs", *words]


@dataclass
class Listener:
    """A receiver of notices: its process, and its diary."""

    kind: str
    diary: Diary
    secret: Path
    port: int = field(default_factory=free_port)

    def command(self) -> list[str]:
        words = [self.kind, str(self.port), str(self.diary.folder), str(self.secret)]
        return [sys.executable, "-m", "tests.chaos.receivers", *words]


class House:
    """Everything that runs, in one folder.

    Parameters
    ----------
    folder
        New; PostgreSQL keeps its data beside it, where its user may read.
    clock
        Seconds since the load began.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], **settings: str) -> None:
        self.folder, self.home, self.logs = folder, folder / "home", folder / "logs"
        self.logs.mkdir(parents=True)
        self._pg_folder = Path(tempfile.mkdtemp(prefix="cxr-chaos-pg-"))
        self.redis = RedisServer(folder / "redis")
        self.postgres = PostgresServer(self._pg_folder)
        self.pacs = Destination("PACS", Store(folder / "store-pacs"))
        self.archive = Destination("ARCHIVE", Store(folder / "store-archive"))
        self.secret = secret_file(folder)
        self.listeners = {
            kind: Listener(kind, Diary(folder / f"diary-{kind}"), self.secret) for kind in RECEIVERS
        }
        base = settings.pop("CXR_MODEL", "")
        self.models = Models(folder / "models", Path(base) if base else RELEASED)
        self.port = free_port()
        self.env = clean_environment(
            **SETTINGS,
            CXR_HOME=str(self.home),
            CXR_PORT=str(self.port),
            CXR_DATABASE_URL=self.postgres.url,
            CXR_BROKER_URL=self.redis.url,
            CXR_DESTINATIONS=f"{self.pacs.peer},{self.archive.peer}",
            CXR_MODEL=str(self.models.folder),
            CXR_WEBHOOK_URL=f"http://127.0.0.1:{self.listeners['webhook'].port}/notices",
            CXR_WEBHOOK_SECRET_FILE=str(self.secret),
            CXR_HL7_DESTINATION=f"mllp://127.0.0.1:{self.listeners['hl7'].port}",
            PYTHONPATH=str(CHECKOUT),
            **settings,
        )
        self.supervisor = Supervisor(clock)
        self._stopped = threading.Event()

    @property
    def node(self) -> Peer:
        return Peer("CXRWORKER", "127.0.0.1", self.port)

    @property
    def database_url(self) -> str:
        return self.postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def broker_messages(self) -> Path:
        return self.folder / "broker-messages.log"

    def role(self, name: str) -> Role:
        return self.supervisor.roles[name]

    def behaviour(self, name: str) -> Behaviour:
        """Give what tells a server how to behave."""
        found = self.listeners.get(name)
        return found.diary.behaviour if found else self.pacs.store.behaviour

    # --- the start ---------------------------------------------------------------------------

    def open(self, archive_is: str) -> None:
        """Start everything and wait until images can be sent; one destination is away."""
        self._add("redis", self.redis.command())
        user, gone = self.postgres.user, self.postgres.wait_until_gone
        self._add("postgres", self.postgres.command(), user=user, before=gone)
        self._add("pacs", self.pacs.command())
        for kind, listener in self.listeners.items():
            self._add(kind, listener.command())
        if archive_is != "refusing":
            self.archive.store.behaviour.behave(HANG)
            self._add("archive", self.archive.command())
        wait_until(lambda: is_up(self.postgres.url), START_S, "the start of PostgreSQL")
        wait_until(lambda: listens(self.redis.port), START_S, "the start of Redis")
        self._migrate()
        watching = (self.broker_messages, self._stopped)
        threading.Thread(target=self.redis.watch, args=watching, daemon=True).start()
        for name in ("node", "relay", "io-1", "io-2", "gpu-1"):
            self._add(name, [*CXR_WORKER, *ROLES[name]])
        wait_until(lambda: listens(self.port), START_S, "the node's start")
        # The first start makes the network's other form; the next one finds it.
        wait_until(lambda: "is loaded" in self.role("gpu-1").log_text(), START_S, "the model")
        self.models.share_network(self.home / "engines")
        self._add("gpu-2", [*CXR_WORKER, *ROLES["gpu-2"]])
        if archive_is == "mute":
            wait_until(lambda: listens(self.archive.port), START_S, "the archive's start")
            self.role("archive").signal(signal.SIGSTOP)

    def _add(self, name: str, command: list[str], **options: object) -> None:
        self.supervisor.add(Role(name, command, self.env, self.logs, **options))  # type: ignore[arg-type]

    def _migrate(self) -> None:
        done = subprocess.run(
            [*CXR_WORKER, "db", "upgrade"], env=self.env, capture_output=True, text=True,
            timeout=START_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def heal_archive(self) -> None:
        """Bring the destination back that was away all the time."""
        self.archive.store.behaviour.behave(OK)
        if "archive" in self.supervisor.roles:
            self.role("archive").signal(signal.SIGCONT)
        else:
            self._add("archive", self.archive.command())

    # --- the end -----------------------------------------------------------------------------

    def orphans(self) -> list[str]:
        """List processes whose parent was killed and who did not notice."""
        found = []
        for name in ROLES:
            for process in self.supervisor.orphans(self.role(name)):
                with suppress(psutil.Error):
                    found.append(f"{name}: {process.pid} {' '.join(process.cmdline())[:120]}")
        return found

    def silent_workers(self, limit_s: float = 30) -> list[str]:
        """Name the workers that take no messages any more."""
        workers = {
            "classify": [("gpu", self.role(name)) for name in GPU],
            "report": [("io", self.role(name)) for name in IO],
        }
        return silent_workers(self.redis.url, workers, limit_s)

    def stop_roles(self) -> list[str]:
        """End all roles as a service manager does; tell which did not end well."""
        self.supervisor.close()
        codes = {name: self.supervisor.end(self.role(name)) for name in ROLES}
        return [f"{name} ended with {code}" for name, code in codes.items() if code != 0]

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self._stopped.set()
        self.supervisor.kill_all()
        for process in self.postgres.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.postgres.wait_until_gone()
        shutil.rmtree(self._pg_folder, ignore_errors=True)
