"""The Celery app. A message is a doorbell: it says that work may be due, the ledger knows what.

So a message that is lost, doubled or late changes nothing, and messages are acknowledged early.
Two queues: ``gpu`` for classification, ``io`` for reports, deliveries, commitments
and notices.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ParamSpec

from billiard import current_process
from celery import Celery, signals
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from sqlalchemy.exc import DBAPIError

from dicom_node.errors import PacsWorkerError
from worker import broker, composition, logs, metrics, monitoring, tracing
from worker.desk import GO_ON_S, SHADOW_LIMIT_S, Bell
from worker.lasting import lasting
from worker.ledger import BY_DESTINATION
from worker.settings import Settings
from worker.states import JobKind
from worker.up import mark_ready

log = logging.getLogger(__name__)

P = ParamSpec("P")

# Messages that a worker has in hand are not put back when it loses its broker: the relay rings in
# their stead. To put them back on a connection that is gone ends the worker, or leaves a file in
# the temporary folder (kombu 5.7).
virtual.QoS.restore_at_shutdown = False

QUEUES = {
    JobKind.CLASSIFY: "gpu",
    JobKind.REPORT: "io",
    JobKind.DELIVER: "io",
    JobKind.COMMIT: "io",
    JobKind.NOTIFY: "io",
}


# Imported late, as the node, the relay and the command line do without.
NEEDED = {
    "gpu": ("worker.classifying",),
    "io": (
        "worker.reporting",
        "worker.delivering",
        "worker.committing",
        "dicom_node.report",
        "dicom_node.storage_scu",
        "dicom_node.capture",
        "dicom_node.key_object",
        "worker.picture",
    ),
    # Wanted where anybody is told of positive studies.
    "notices": ("worker.notifying", "worker.webhook", "worker.hl7", "httpx"),
}


def _configuration() -> dict[str, Any]:
    settings = composition.settings()
    return {
        **broker.celery_options(settings),
        "task_ignore_result": True,
        "task_default_queue": "io",
        "task_time_limit": settings.step_limit_s,
        # It goes on from batch to batch; each has the limit, and may have another one ahead of it.
        "task_annotations": {
            "classify": {"time_limit": GO_ON_S + 2 * settings.step_limit_s},
            "shadow": {"time_limit": SHADOW_LIMIT_S},
        },
        "task_routes": {
            "shadow": {"queue": "gpu"},
            **{kind.lower(): {"queue": queue} for kind, queue in QUEUES.items()},
        },
        "worker_prefetch_multiplier": 1,
        "worker_proc_alive_timeout": 120,
        "worker_send_task_events": False,
    }


def io_threads(settings: Settings) -> int:
    """Count the threads that destinations can hold, with some to spare for everything else.

    A destination gets one delivery and one request for commitment at a time, a target one notice.
    """
    return 2 * len(settings.destinations) + len(settings.targets) + 4


app = Celery("cxr-worker")
app.add_defaults(_configuration)


def _guarded(step: Callable[P, None]) -> Callable[P, None]:
    """Log what a step could not handle; its work stays owed, and the relay announces it again."""

    @functools.wraps(step)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(*args, **kwargs)
        except PacsWorkerError as error:
            log.error("%s: %s", step.__name__, error)  # noqa: TRY400  the line says it all
        except DBAPIError as error:
            # Not its text: that quotes the values of a row.
            log.warning("%s: database failed: %s", step.__name__, type(error.orig).__name__)
        except Exception:
            log.exception("%s failed", step.__name__)

    return run


@app.task(name="classify")
@_guarded
def classify() -> None:
    """Classify the instances that are due."""
    from worker import classifying

    desk, classifier = composition.desk(), composition.classifier()
    monitoring.answers_with(classifier)
    classifying.classify(desk, classifier, announce, composition.explain())


@app.task(name="shadow")
@_guarded
def shadow() -> None:
    """Have the candidate look at what was answered, while nothing is to be classified."""
    from worker import shadowing

    shadowing.shadow(composition.desk(), composition.trying())


@app.task(name="report")
@_guarded
def report() -> None:
    """Report the studies that are ready."""
    from worker import reporting

    reporting.report(composition.desk(), announce)


@app.task(name="deliver")
@_guarded
def deliver(destination: str) -> None:
    """Deliver what is owed to a destination."""
    from dicom_node import storage_scu
    from worker import delivering

    delivering.deliver(composition.desk(), destination, storage_scu.delivering, announce)


@app.task(name="commit")
@_guarded
def commit(destination: str) -> None:
    """Ask a destination to commit itself to what it has taken."""
    from dicom_node.commitment import request_commitment
    from worker import committing

    committing.commit(composition.desk(), destination, request_commitment, announce)


@app.task(name="notify")
@_guarded
def notify(target: str) -> None:
    """Tell a target of the positive studies that it is owed to hear of."""
    from worker import notifying

    trail = composition.trail()
    try:
        notifying.notify(
            composition.desk(), target, notifying.sender(target), trail.record, announce
        )
    finally:
        trail.close()


def announce(bell: Bell, at: datetime | None = None) -> None:
    """Ring a bell, now or at a time; a broker that is away is the relay's concern.

    Parameters
    ----------
    bell
        What may be due.
    at
        When; now if not given.
    """
    args = (bell.destination,) if bell.kind in BY_DESTINATION else ()
    _send(bell.kind.lower(), args, at)


def announce_shadow() -> None:
    """Ring for the candidate."""
    _send("shadow", (), None)


def _send(name: str, args: tuple[str, ...], at: datetime | None) -> None:
    try:
        app.send_task(name, args=args, eta=at, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("broker is away (%s); the relay will announce this", type(error).__name__)


def waiting(kind: JobKind) -> int:
    """Count the messages that wait in the queue of a kind of work."""
    with app.connection_for_read() as connection, connection.channel() as channel:
        return broker.count_waiting(channel, QUEUES[kind])


def _import_what_is_needed(queue: str) -> None:
    with lasting():
        for name in NEEDED[queue]:
            importlib.import_module(name)


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    """Log in our own format, also under ``celery -A worker.tasks worker``."""
    ours = composition.settings()
    logs.configure(ours.log_level, ours.log_format, _role())


def role_of(queues: Iterable[str]) -> str:
    """Name the role of a worker by the queues that it serves."""
    served = sorted({"gpu", "io"} & set(queues))
    return f"worker-{served[0]}" if len(served) == 1 else "worker"


def _role() -> str:
    return role_of(app.amqp.queues.consume_from)


@signals.worker_init.connect
def _get_ready_to_be_watched(sender: Any, **_: Any) -> None:
    """Begin to tell once children are forked off; what is forked has no other thread then."""
    from celery import bootsteps

    class Watched(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:  # noqa: ARG002
            monitoring.start(composition.settings(), _role(), beats_itself=True)
            if "gpu" not in app.amqp.queues.consume_from:  # else the children work
                _start_traces()

    monitoring.prepare(composition.settings(), _role())
    sender.app.steps["worker"].add(Watched)


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def _send_last_spans(**_: Any) -> None:
    tracing.stop()


@signals.worker_init.connect
def _warn_of_a_shared_gpu(sender: Any, **_: Any) -> None:
    """Say what several processes of a worker do to a GPU; before they are forked off."""
    from model.engines import may_use_gpu

    settings, queues = composition.settings(), sender.app.amqp.queues.consume_from
    several = sender.concurrency > 1 and may_use_gpu(settings.device, settings.engine)
    if several and "gpu" in queues:
        log.warning(
            "%d processes share the first GPU they see; one worker for each GPU, with "
            "CUDA_VISIBLE_DEVICES and --concurrency 1, is faster", sender.concurrency,
        )  # fmt: skip


@signals.worker_process_init.connect
def _warm_up(**_: Any) -> None:
    """Load the network, and what explains it, in each child that serves the gpu queue."""
    monitoring.start_forked(str(getattr(current_process(), "index", 0)))
    _start_traces()
    if "gpu" in app.amqp.queues.consume_from:
        _import_what_is_needed("gpu")
        try:
            classifier = composition.classifier()
        except PacsWorkerError as error:
            log.error("%s", error)  # noqa: TRY400  the line says it all
            return
        if composition.explain() is not None:
            composition.answering().warm_up_explainer()
        info = classifier.info
        log.info("model %s %s is loaded, on %s", info.name, info.version, classifier.engine)
        monitoring.answers_with(classifier)
        mark_ready("worker-gpu")


def _start_traces() -> None:
    try:
        tracing.start(composition.settings(), _role())
    except PacsWorkerError as error:
        log.error("%s", error)  # noqa: TRY400  the line says it all


@signals.worker_ready.connect
def _tell_ready(**_: Any) -> None:
    """Import what reports and deliveries need before the first of them."""
    if "gpu" not in app.amqp.queues.consume_from:
        _import_what_is_needed("io")
        if composition.settings().targets:
            _import_what_is_needed("notices")
        _expect_deliveries()
        mark_ready("worker-io")


def _expect_deliveries() -> None:
    for each in composition.settings().destinations:
        for outcome in metrics.Outcome:
            metrics.expect(metrics.DELIVERIES, destination=str(each.peer), outcome=outcome)
    for target in composition.settings().targets:
        for outcome in metrics.Outcome:
            metrics.expect(metrics.NOTICES, target=target, outcome=outcome)
