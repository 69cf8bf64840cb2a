"""Spans of OpenTelemetry, for `worker.tracing`; imported only where traces are wanted."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from dicom_node.records import Outcome, Received
from worker import VERSION
from worker.counting import sop_class_word
from worker.ledger import Asked, Claim, Origin
from worker.settings import Settings
from worker.states import DeliveryState, JobKind
from worker.tracing import Steps, Value, named, reason_of

# How long a process that ends waits for a collector.
FLUSH_S = 3.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = dict.fromkeys((JobKind.DELIVER, JobKind.COMMIT, JobKind.NOTIFY), SpanKind.CLIENT)


class Trace(NamedTuple):
    """The ids of a study's trace and of its first span: every role comes to the same."""

    trace_id: int
    root_id: int

    @classmethod
    def of(cls, origin: Origin) -> Trace:
        """Derive the ids; of a hash, so that a part of all studies can be chosen by them."""
        received_at = origin.received_at.astimezone(UTC).isoformat(timespec="microseconds")
        digest = sha256(f"cxr-worker study {origin.study_id} {received_at}".encode()).digest()
        return cls(int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]))

    def under_root(self) -> Context:
        """Give the context of what belongs below the first span, whoever has made that."""
        flags = TraceFlags(TraceFlags.SAMPLED)
        first = SpanContext(self.trace_id, self.root_id, is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(first), Context())


class _Ids(RandomIdGenerator):
    """Gives the ids of a trace to its first span, and chance ones to all others."""

    def __init__(self) -> None:
        self._here = threading.local()

    @contextmanager
    def of(self, trace: Trace) -> Iterator[None]:
        """Have the next span of this thread be the first of a trace."""
        self._here.trace = trace
        try:
            yield
        finally:
            self._here.trace = None

    def generate_trace_id(self) -> int:
        trace: Trace | None = getattr(self._here, "trace", None)
        return super().generate_trace_id() if trace is None else trace.trace_id

    def generate_span_id(self) -> int:
        trace: Trace | None = getattr(self._here, "trace", None)
        return super().generate_span_id() if trace is None else trace.root_id

    def is_trace_id_random(self) -> bool:
        return False


class Tracer:
    """Makes the spans of a process, by the clock that work is due by."""

    def __init__(self, settings: Settings, role: str, exporter: SpanExporter) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(settings.traces_sample),
            resource=_resource(role),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("cxr-worker", VERSION)
        self._open: dict[str, dict[int, Span]] = {}

    def stop(self) -> None:
        """Send what is left, in a thread that is left behind when the collector hangs."""
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(FLUSH_S)

    def begin(
        self, name: str, parent: Context, at: datetime, kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
    ) -> Span:  # fmt: skip
        """Begin a span; one that is not sampled records nothing."""
        return self._tracer.start_span(
            name, parent, kind, _named(attributes or {}), start_time=_ns(at)
        )

    # --- the node ----------------------------------------------------------------------------

    def received(self, origin: Origin, instance: Received, outcome: Outcome, now: datetime) -> str:
        """Make the span of an instance, and that of the study when it is the first one."""
        trace = Trace.of(origin)
        began_at = instance.received_at - timedelta(seconds=instance.storing_s)
        if outcome is Outcome.STORED and origin.received_at == instance.received_at:
            with self._ids.of(trace):
                root = self._tracer.start_span("study", Context(), start_time=_ns(began_at))
            root.end(_ns(now))
        association = self._association(trace, origin, instance.association_id, began_at)
        if not association.is_recording():
            return ""
        attributes = {
            "outcome": outcome.value, "sop_class": sop_class_word(instance.sop_class_uid),
            "size_bytes": instance.size,
        }  # fmt: skip
        within = set_span_in_context(association, Context())
        self.begin("receive", within, began_at, SpanKind.SERVER, attributes).end(_ns(now))
        return _hex(trace.trace_id)

    def _association(
        self, trace: Trace, origin: Origin, association_id: str, began_at: datetime
    ) -> Span:
        ours = self._open.setdefault(association_id, {})
        if origin.study_id not in ours:
            attributes = {"association_id": association_id}
            ours[origin.study_id] = self.begin(
                "association", trace.under_root(), began_at, SpanKind.SERVER, attributes
            )
        return ours[origin.study_id]

    def association_ended(self, association_id: str, now: datetime) -> None:
        """End the spans of an association, one for each study that it brought."""
        for span in self._open.pop(association_id, {}).values():
            span.end(_ns(now))

    def answered(self, found: Sequence[Asked], now: datetime) -> None:
        """Make the spans of what a destination took its time to answer."""
        for origin, asked_at, destination, state in found:
            attributes = {"destination": destination, "outcome": state}
            within = Trace.of(origin).under_root()
            span = self.begin("wait for answer", within, asked_at, attributes=attributes)
            if state != DeliveryState.COMMITTED:
                _fail(span, "NOT_COMMITTED")
            span.end(_ns(now))

    # --- the workers -------------------------------------------------------------------------

    @contextmanager
    def taken(
        self,
        claims: Sequence[Claim],
        origins: Sequence[Origin],
        clock: Callable[[], datetime],
        attributes: Mapping[str, Value],
    ) -> Iterator[Steps]:
        """Make the spans of what was claimed, one for each study, and of what it waited for."""
        now = clock()
        spans = {}
        for origin in origins:
            mine = [claim for claim in claims if claim.study_id == origin.study_id]
            within = Trace.of(origin).under_root()
            span = self._begin_step(mine, within, now, {**attributes, "claims": len(claims)})
            if span.is_recording():
                spans[origin.study_id] = span
        steps = _Taken(self, spans, clock)
        try:
            yield steps
        except BaseException as error:
            steps.failed(reason_of(error))
            raise
        finally:
            end = _ns(clock())
            for span in spans.values():
                span.end(end)

    def _begin_step(
        self, claims: Sequence[Claim], within: Context, now: datetime, attributes: dict[str, Value]
    ) -> Span:
        name, kind = claims[0].kind.lower(), KINDS.get(claims[0].kind, SpanKind.INTERNAL)
        tries = {"attempt": max(claim.attempts for claim in claims), **attributes}
        due_at = min((claim.due_at for claim in claims if claim.due_at), default=now)
        waited = self.begin(f"wait for {name}", within, due_at, attributes=tries)
        waited.end(_ns(max(due_at, claims[0].claimed_at or now)))
        more = {"mine": len(claims), "deaths": max(claim.deaths for claim in claims)}
        return self.begin(name, within, now, kind, tries | more)


class _Taken(Steps):
    """Tells of claimed work by a span for each study."""

    def __init__(
        self, tracer: Tracer, spans: Mapping[int, Span], clock: Callable[[], datetime]
    ) -> None:
        self._tracer, self._spans, self._clock = tracer, spans, clock

    def log_fields(self, study_id: int | None = None) -> dict[str, str]:
        """Name the trace, where all is about one study."""
        mine = self._of(study_id)
        return named(_hex(mine[0].get_span_context().trace_id)) if len(mine) == 1 else {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        now = self._clock()
        parts = [
            self._tracer.begin(name, set_span_in_context(span, Context()), now)
            for span in self._spans.values()
        ]
        try:
            yield
        except BaseException as error:
            for span in parts:
                _fail(span, reason_of(error))
            raise
        finally:
            end = _ns(self._clock())
            for span in parts:
                span.end(end)

    def note(self, study_id: int | None = None, /, **attributes: Value) -> None:
        for span in self._of(study_id):
            span.set_attributes(_named(attributes))

    def failed(self, reason: str, study_id: int | None = None) -> None:
        for span in self._of(study_id):
            _fail(span, reason)

    def _of(self, study_id: int | None) -> list[Span]:
        return [span for key, span in self._spans.items() if study_id in (None, key)]


def _resource(role: str) -> Resource:
    """Say who makes the spans; a name that is set for all of OpenTelemetry wins."""
    ours = {
        "service.namespace": "cxr-worker",
        "service.version": VERSION,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    if not os.environ.get("OTEL_SERVICE_NAME"):
        ours[SERVICE_NAME] = f"cxr-{role}"
    return Resource.create(ours)


def _fail(span: Span, reason: str) -> None:
    span.set_attributes(_named({"reason": reason}))
    span.set_status(Status(StatusCode.ERROR, reason))


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"cxr.{name}": value for name, value in attributes.items()}


def _hex(trace_id: int) -> str:
    return f"{trace_id:032x}"


def _ns(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1) * 1000
