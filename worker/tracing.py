"""Traces: what is done for a study, by which role, and what it waited for. Off by default.

Nothing of a trace is carried along: messages are doorbells, and work is claimed by whoever comes.
So the id of a trace follows from what every role can read: the number of the study's row and the
time when its first instance came (:class:`worker.ledger.Origin`). It tells nothing of the patient,
and who knows a Study Instance UID cannot tell its trace by it.

Here is what the steps call. While CXR_OTLP_ENDPOINT is not set none of it does anything, and
`worker.spans`, which needs OpenTelemetry, is not imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.correlation import about
from dicom_node.errors import ConfigurationError, PacsWorkerError
from dicom_node.records import Outcome, Received
from worker import ledger
from worker.database import READS_ONLY
from worker.desk import Desk
from worker.lasting import lasting
from worker.ledger import Asked, Claim, Origin
from worker.settings import Settings
from worker.settings_tracing import ENDPOINT

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.spans import Tracer

Value = str | int | float | bool | Sequence[str]


class Steps:
    """Hears how a step fares with what it has claimed; this one tells nobody.

    Where nothing else is said it is about all studies of the step.
    """

    def part(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  nobody asks it
        """Tell how long a part of the step takes."""
        return nullcontext()

    def log_fields(self, study_id: int | None = None) -> dict[str, str]:  # noqa: ARG002
        """Give what lines of the log say of it, or of one of its studies."""
        return {}

    def note(self, study_id: int | None = None, /, **attributes: Value) -> None:
        """Tell something about it; never of a patient."""

    def failed(self, reason: str, study_id: int | None = None) -> None:
        """Tell that it failed, by a word of a closed list."""


NOTHING = Steps()
_CURRENT: ContextVar[Steps] = ContextVar("cxr_steps", default=NOTHING)


class _This:
    """Holds what makes the spans of this process; None while there are none."""

    tracer: Tracer | None = None


# --- the life of a process -------------------------------------------------------------------


def require(settings: Settings) -> None:
    """Refuse to start with settings of traces that cannot be met.

    Raises
    ------
    ConfigurationError
        When OpenTelemetry is not installed, or the file of headers cannot be used.
    """
    if not settings.otlp_endpoint:
        return
    settings.otlp_headers()
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
        found = found and importlib.util.find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigurationError(
            ENDPOINT, "is set, but OpenTelemetry is not installed: pip install "
            "'cxr-worker[tracing]', or leave it empty"
        )  # fmt: skip


def start(settings: Settings, role: str) -> None:
    """Begin to make spans and to send them; to be called anew in a process that was forked off.

    Raises
    ------
    ConfigurationError
        As `require` does.
    """
    _This.tracer = None  # what was inherited has no thread here
    if settings.otlp_endpoint:
        require(settings)
        with lasting():
            from worker.collector import exporter_of
            from worker.spans import Tracer

        _This.tracer = Tracer(settings, role, exporter_of(settings))


def stop() -> None:
    """Send what is left, for a moment at most, and make no more."""
    tracer, _This.tracer = _This.tracer, None
    if tracer is not None:
        tracer.stop()


def named(trace_id: str) -> dict[str, str]:
    """Give what lines of the log say of a trace."""
    return {"trace_id": trace_id} if trace_id else {}


# --- the node --------------------------------------------------------------------------------


def origin(session: Session, study_instance_uid: str) -> Origin | None:
    """Look up what names the trace of a study; None, unasked, while there are no traces."""
    return ledger.origin_of(session, study_instance_uid) if _This.tracer else None


def received(
    found: Origin | None, instance: Received, outcome: Outcome, clock: Callable[[], datetime]
) -> str:
    """Tell of an instance that is recorded; give the id of its trace, "" when there is none."""
    if _This.tracer is None or found is None:
        return ""
    return _This.tracer.received(found, instance, outcome, clock())


def association_ended(association_id: str, clock: Callable[[], datetime]) -> None:
    """Tell that an association brings no more."""
    if _This.tracer is not None:
        _This.tracer.association_ended(association_id, clock())


def asked(session: Session, transaction_uid: str) -> list[Asked]:
    """Look up what a destination was asked; nothing, unasked, while there are no traces."""
    return ledger.asked(session, transaction_uid) if _This.tracer else []


def answered(found: Sequence[Asked], clock: Callable[[], datetime]) -> None:
    """Tell that a destination has answered what it was asked."""
    if _This.tracer is not None:
        _This.tracer.answered(found, clock())


# --- the workers -----------------------------------------------------------------------------


def taken(
    desk: Desk, claims: Sequence[Claim], **attributes: Value
) -> AbstractContextManager[Steps]:
    """Tell that claimed work is taken in hand, what it waited for, and when it is done.

    It may be left by another thread.
    """
    tracer = _This.tracer
    return nullcontext(NOTHING) if tracer is None else _taken(tracer, desk, claims, attributes)


@contextmanager
def _taken(
    tracer: Tracer, desk: Desk, claims: Sequence[Claim], attributes: dict[str, Value]
) -> Iterator[Steps]:
    with tracer.taken(claims, _origins(desk, claims), desk.clock, attributes) as steps:
        yield steps


def _origins(desk: Desk, claims: Sequence[Claim]) -> list[Origin]:
    """Look up what names the traces; a database that is away is the concern of the step itself."""
    try:
        with desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            return ledger.origins(session, (claim.study_id for claim in claims))
    except SQLAlchemyError:
        return []


@contextmanager
def working(desk: Desk, claims: Sequence[Claim], **attributes: Value) -> Iterator[None]:
    """Tell of claimed work as `taken` does; what this thread notes and fails at is about it."""
    if _This.tracer is None:
        yield
        return
    with _taken(_This.tracer, desk, claims, attributes) as steps:
        token = _CURRENT.set(steps)
        try:
            with about(**steps.log_fields()):
                yield
        finally:
            _CURRENT.reset(token)


def note(**attributes: Value) -> None:
    """Tell something about the work in hand; never of a patient."""
    _CURRENT.get().note(**attributes)


def failed(error: Exception | str) -> None:
    """Tell that the work in hand failed, of itself or for now."""
    _CURRENT.get().failed(error if isinstance(error, str) else reason_of(error))


def reason_of(error: BaseException) -> str:
    """Name an error by a word of a closed list: its reason, its DIMSE status, or its type.

    Not its text, which may be anything.
    """
    known = error if isinstance(error, PacsWorkerError) else None
    status = getattr(known, "status", None)
    reason = getattr(known, "reason", None)
    return str(reason or (f"0x{status:04X}" if status is not None else type(error).__name__))
