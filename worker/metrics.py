"""What is counted and measured, by name. Nothing is while CXR_METRICS_PORT is not set.

The labels of a metric take their values from closed lists: states, stages, reasons, SOP classes,
versions of models, destinations that are set. Never a UID, who called us, or anything of a patient.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# From a store into memory to a delivery that a peer draws out.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Kind(StrEnum):
    """How a metric behaves; Prometheus' own words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Stage(StrEnum):
    """What takes its time on the way from an association to a confirmed delivery."""

    STORE = "store"
    PREPARE = "prepare"
    PREDICT = "predict"
    REPORT = "report"
    DELIVER = "deliver"
    COMMIT = "commit"
    NOTIFY = "notify"


class Outcome(StrEnum):
    """What comes of a try to deliver."""

    DELIVERED = "delivered"
    TRIED_AGAIN = "tried_again"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `docs/monitoring.md` describes them for readers."""

    kind: Kind
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(Kind.COUNTER, name, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(Kind.GAUGE, name, meaning, labels)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(Kind.HISTOGRAM, name, meaning, labels, buckets)


# --- of every role ---------------------------------------------------------------------------

BUILD_INFO = _gauge("cxr_build_info", "Always 1; which version this is.", "version")
ROLE_UP = _gauge("cxr_role_up", "Whether a role that should run here answers.")
HEARTBEAT = _gauge("cxr_heartbeat_timestamp_seconds", "When the role's main loop last turned.")

# --- of the node -----------------------------------------------------------------------------

RECEIVED = _counter(
    "cxr_instances_received_total", "Instances that were answered with Success.", "sop_class"
)
RESPONSES = _counter(
    "cxr_store_responses_total", "C-STORE requests by the status of their answer.", "status"
)
ASSOCIATIONS = _gauge("cxr_associations_open", "Associations that are open.")
ACCEPTED = _counter("cxr_associations_accepted_total", "Associations that were accepted.")
REJECTED = _counter(
    "cxr_associations_rejected_total",
    "Associations that were rejected, and connections that were closed unread.",
    "reason",
)

# --- of all who do a stage -------------------------------------------------------------------

STAGE_SECONDS = _histogram(
    "cxr_stage_seconds",
    "Seconds for an instance (store), a batch (prepare, predict), a report (report, deliver), a "
    "request (commit) or a notice (notify), failures included.",
    SECONDS,
    "stage",
)

# --- of the workers --------------------------------------------------------------------------

BATCH_SIZE = _histogram("cxr_batch_size", "Images that the network answered at once.", SIZES)
FINDINGS = _counter(
    "cxr_findings_total", "Images that were assessed, by what was found.", "finding",
    "model_version",
)  # fmt: skip
NOT_ASSESSED = _counter(
    "cxr_not_assessed_total", "Images that were not assessed, by the reason.", "reason"
)
SCORE = _histogram(
    "cxr_pneumonia_score", "Probability of pneumonia of images that were assessed.", TENTHS,
    "model_version",
)  # fmt: skip
MODEL_INFO = _gauge(
    "cxr_model_info", "Always 1; the model that answers in a process.", "name", "version",
    "digest", "engine",
)  # fmt: skip
DELIVERIES = _counter(
    "cxr_deliveries_total", "Tries to deliver a report, by what came of them.", "destination",
    "outcome",
)  # fmt: skip

NOTICES = _counter(
    "cxr_notices_total", "Tries to tell of a positive study, by what came of them.", "target",
    "outcome",
)  # fmt: skip

# --- of the relay, which looks at the database and the archive -------------------------------

LEDGER_UP = _gauge("cxr_ledger_up", "Whether the database answered when it was last asked.")
QUEUE_DEPTH = _gauge(
    "cxr_queue_depth", "Work that is owed, by kind and destination; counted up to 10,000.", "kind",
    "destination",
)  # fmt: skip
QUEUE_OLDEST = _gauge(
    "cxr_queue_oldest_due_seconds", "How long the oldest of it has been due.", "kind",
    "destination",
)  # fmt: skip
DEAD_LETTERS = _gauge(
    "cxr_dead_letters", "Work that was given up, by kind; counted up to 10,000.", "kind"
)
STUDIES = _gauge(
    "cxr_studies",
    "Studies on their way, and those that failed, by state; counted up to 10,000.",
    "state",
)
AWAY = _gauge(
    "cxr_destination_away_seconds",
    "How long a destination has been away; 0 while it is not.",
    "destination",
)
ARCHIVE_FREE = _gauge("cxr_archive_free_bytes", "Free space on the archive's disk.")
ARCHIVE_SIZE = _gauge("cxr_archive_size_bytes", "Size of the archive's disk.")
ARCHIVE_RESERVE = _gauge(
    "cxr_archive_reserve_bytes", "Free space below which instances are refused."
)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)


class Meters:
    """What one process counts.

    Attributes
    ----------
    registry : CollectorRegistry
        Prometheus' own, which gives it out.
    """

    def __init__(self) -> None:
        import prometheus_client

        prometheus_client.disable_created_metrics()
        self.registry: CollectorRegistry = prometheus_client.CollectorRegistry()
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def of(self, metric: Metric, labels: dict[str, str]) -> Any:
        """Give what counts a metric under its labels; made when it is first wanted."""
        meter = self._made.get(metric.name) or self._make(metric)
        return meter.labels(**labels) if labels else meter

    def forget(self, metric: Metric) -> None:
        """Forget all labels of a metric, as they are true no more."""
        if metric.name in self._made:
            self._made[metric.name].clear()

    def _make(self, metric: Metric) -> Any:
        import prometheus_client

        kinds: dict[Kind, Any] = {
            Kind.COUNTER: prometheus_client.Counter,
            Kind.GAUGE: prometheus_client.Gauge,
            Kind.HISTOGRAM: prometheus_client.Histogram,
        }
        more = {"buckets": metric.buckets} if metric.buckets else {}
        with self._making:
            if metric.name not in self._made:
                self._made[metric.name] = kinds[metric.kind](
                    metric.name, metric.meaning, metric.labels, registry=self.registry, **more
                )
            return self._made[metric.name]


class _Switch:
    """Holds the meters of this process, once it counts."""

    meters: Meters | None = None


def switch_on() -> Meters:
    """Begin to count, from nothing: what a process was forked from counts for itself."""
    _Switch.meters = Meters()
    return _Switch.meters


def switch_off() -> None:
    """Count nothing any more."""
    _Switch.meters = None


def expect(metric: Metric, **labels: str) -> None:
    """Have a metric be there from the beginning: the first of its kind is an increase then."""
    if _Switch.meters is not None:
        _Switch.meters.of(metric, labels)


def count(metric: Metric, **labels: str) -> None:
    """Count one more."""
    if _Switch.meters is not None:
        _Switch.meters.of(metric, labels).inc()


def observe(metric: Metric, value: float, **labels: str) -> None:
    """Enter a value into a histogram."""
    if _Switch.meters is not None:
        _Switch.meters.of(metric, labels).observe(value)


def put(metric: Metric, value: float, **labels: str) -> None:
    """Set a gauge."""
    if _Switch.meters is not None:
        _Switch.meters.of(metric, labels).set(value)


@contextmanager
def timed(stage: Stage) -> Iterator[None]:
    """Measure how long a stage takes, whether it fails or not."""
    began_at = time.perf_counter()
    try:
        yield
    finally:
        observe(STAGE_SECONDS, time.perf_counter() - began_at, stage=stage)
