"""What a process does to be watched: it counts, it tells, and one answers for all on a port.

Under `up` that is the relay; a role that runs by itself answers for itself and what it forks.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from worker import VERSION, metrics
from worker.metrics import Metric
from worker.settings import Settings
from worker.states import Finding

if TYPE_CHECKING:
    from model.predict import ModelInfo
    from worker.endpoint import Endpoint
    from worker.telling import Teller, Told

# How often a main loop that could wait for longer turns.
TURN_S = 2.0


class Answers(Protocol):
    """A model that was loaded; :class:`model.predict.Classifier` is one."""

    @property
    def info(self) -> ModelInfo:
        """Name, version, digest."""
        ...

    @property
    def engine(self) -> object:
        """What runs it, and where."""
        ...


class _Process:
    """What this process has to be watched with."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings, self.role = settings, role
        self.folder, self.is_supervised = _folder_of(role)
        self.number = ""
        self.beats_itself = False
        self.beat_at: float | None = None
        self.facts: dict[str, str] = {}
        self.meters: metrics.Meters | None = None
        self.teller: Teller | None = None
        self.endpoint: Endpoint | None = None

    def begin(self) -> None:
        """Count from nothing, and tell of it."""
        from prometheus_client import ProcessCollector

        from worker.telling import Teller

        self.meters = metrics.switch_on()
        ProcessCollector(registry=self.meters.registry)
        metrics.put(metrics.BUILD_INFO, 1, version=VERSION)
        name = f"{self.role}-{self.number}" if self.number else self.role
        self.teller = Teller(self.folder, name, self.tell)

    def tell(self) -> Told:
        """Say everything that this process knows of itself."""
        from prometheus_client import generate_latest

        from worker.telling import Told

        assert self.meters is not None  # it has begun
        if self.beats_itself:
            self.beat()
        beat_s = None if self.beat_at is None else time.monotonic() - self.beat_at
        text = generate_latest(self.meters.registry).decode()
        return Told(self.role, self.number, beat_s, dict(self.facts), text)

    def beat(self) -> None:
        self.beat_at = time.monotonic()
        metrics.put(metrics.HEARTBEAT, time.time())


def _folder_of(role: str) -> tuple[Path, bool]:
    """Give the folder where the processes of `up`, or of this role, tell; whether it is `up`'s."""
    from worker.up import SUPERVISED

    marks = os.environ.get(SUPERVISED)
    if marks and Path(marks).is_dir():
        return Path(marks), True
    folder, maker = Path(tempfile.mkdtemp(prefix=f"cxr-{role}-")), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # and no process that it forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder, False


class _This:
    """Holds what this process is watched with; None while it is not."""

    process: _Process | None = None


def prepare(settings: Settings, role: str) -> None:
    """Get ready without a thread, as what is forked off now must find the same folder."""
    if settings.metrics_port is not None:
        _This.process = _Process(settings, role)


def start(settings: Settings, role: str, *, beats_itself: bool = False) -> None:
    """Begin to count, to tell, and to answer; nothing where CXR_METRICS_PORT is not set.

    Parameters
    ----------
    beats_itself
        Whether it lives as long as it answers: its main loop belongs to a library.

    Raises
    ------
    ConfigurationError
        When the port cannot be had.
    """
    if settings.metrics_port is None:
        return
    if _This.process is None:
        prepare(settings, role)
    process = _This.process
    assert process is not None  # prepared
    process.beats_itself = beats_itself
    process.begin()
    beat()
    if not process.is_supervised or role == "relay":
        process.endpoint = _answer_for(process)


def start_forked(number: str) -> None:
    """Begin anew in a process that was forked off."""
    process = _This.process
    if process is None:
        return
    for inherited in (process.teller, process.endpoint):
        if inherited is not None:
            inherited.forget()
    process.number, process.endpoint = number, None
    process.beats_itself, process.beat_at = False, None
    process.begin()


def stop() -> None:
    """Answer and count no more."""
    process, _This.process = _This.process, None
    for each in (process.endpoint, process.teller) if process else ():
        if each is not None:
            each.stop()
    metrics.switch_off()


def beat() -> None:
    """Say that the main loop of this role has turned."""
    if _This.process is not None and _This.process.meters is not None:
        _This.process.beat()


def measure(metric: Metric, look: Callable[[], float]) -> None:
    """Have a gauge looked at whenever it is asked for."""
    if _This.process is not None and _This.process.meters is not None:
        _This.process.meters.of(metric, {}).set_function(look)


def collect(collector: Any) -> None:
    """Have a collector of Prometheus' asked whenever this process is."""
    if _This.process is not None and _This.process.meters is not None:
        _This.process.meters.registry.register(collector)


def answers_with(classifier: Answers) -> None:
    """Say which model answers in this process from now on."""
    process = _This.process
    if process is None or process.meters is None:
        return
    from dicom_node.codes import NOT_ASSESSED_REASONS

    info = classifier.info
    name = f"{info.name} {info.version}, digest {info.digest[:16]}"
    if process.facts.get("model") != name:
        labels = {"name": info.name, "version": info.version, "digest": info.digest[:16]}
        process.meters.forget(metrics.MODEL_INFO)
        metrics.put(metrics.MODEL_INFO, 1, engine=str(classifier.engine), **labels)
        process.facts["model"] = name
        for finding in Finding:
            metrics.expect(metrics.FINDINGS, finding=finding, model_version=info.version)
        for reason in NOT_ASSESSED_REASONS:
            metrics.expect(metrics.NOT_ASSESSED, reason=reason)


def _answer_for(process: _Process) -> Endpoint:
    from worker import up
    from worker.endpoint import Endpoint, Page
    from worker.health import Health
    from worker.telling import gather

    ours = process.settings
    roles = [process.role]
    if process.is_supervised:
        roles = [role for role in up.roles(ours) if role != "redis"]

    def told() -> list[Told]:
        return gather(process.folder)

    def scraped() -> Page:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Page(exposition(roles, told()), CONTENT_TYPE_LATEST)

    health = Health(ours, roles, told)
    pages = {"/metrics": scraped, "/healthz": health.alive, "/readyz": health.ready}
    assert ours.metrics_port is not None  # else nothing is started
    return Endpoint(ours.metrics_bind, ours.metrics_port, pages)


def exposition(roles: list[str], told: list[Told]) -> bytes:
    """Write what some processes count in Prometheus' text format, and which roles answer."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    from worker.telling import families

    up = GaugeMetricFamily(metrics.ROLE_UP.name, metrics.ROLE_UP.meaning, labels=["role"])
    answer = {each.role for each in told if each.beat_s is not None}
    for role in roles:
        up.add_metric([role], float(role in answer))

    class Gathered(Collector):
        def collect(self) -> Any:
            yield up
            yield from families(told)

    registry = CollectorRegistry()
    registry.register(Gathered())
    return generate_latest(registry)
