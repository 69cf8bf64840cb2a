"""The node's role: reception, from the association to the committed row and its bell."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from dicom_node.archive import Archive
from dicom_node.correlation import about
from dicom_node.records import Commitment, Outcome, Received
from dicom_node.storage_scp import (
    NodeConfig,
    Record,
    RunningNode,
    Services,
    start_node,
)
from dicom_node.store import Store
from dicom_node.tls import client_context, server_context
from dicom_node.watch import Watch
from worker import holdings, ledger, tracing
from worker.clock import local_time
from worker.database import SessionFactory
from worker.desk import Bell
from worker.destinations import Destination, KnownPeer
from worker.settings import Settings
from worker.states import JobKind

log = logging.getLogger(__name__)

Ring = Callable[[Bell, datetime | None], None]
Clock = Callable[[], datetime]

# A bell must not come before its work is due: clocks are read at slightly different times.
SLACK = timedelta(milliseconds=20)


def recorder(
    sessions: SessionFactory,
    quiet_s: float,
    ring: Ring,
    clock: Clock | None = None,
    turn: AbstractContextManager[Any] = nullcontext(),  # noqa: B008  it has no state
    is_there: ledger.IsThere = lambda *_: True,
    stays: Callable[[str], bool] = lambda _: True,
) -> Record:
    """Make the callback that enters an instance into the ledger and rings for its classifying.

    It is entered as received at the time of `clock`, by which its work is due; by default at the
    time that the node says.

    Parameters
    ----------
    turn
        What one of several threads must have to write: SQLite has one writer at a time, and lets
        the others sleep for up to a tenth of a second before they look again.
    is_there
        Tells whether the archive has a file, where it may have been removed meanwhile; it is asked
        while others wait for the row, see `look_within`.
    stays
        Tells, once a row names it, that a file was not removed since it was written.
    """
    quiet = timedelta(seconds=quiet_s)

    def record(received: Received) -> Outcome:
        entered = replace(received, received_at=clock()) if clock else received
        try:
            with turn, sessions() as session, session.begin():
                outcome = ledger.record(session, entered, quiet=quiet, is_there=is_there)
                origin = tracing.origin(session, entered.study_instance_uid)
        except ledger.FileVanished:
            return Outcome.VANISHED
        if not stays(received.path):
            return Outcome.VANISHED
        if outcome is Outcome.STORED:
            ring(Bell(JobKind.CLASSIFY), None)
        trace_id = tracing.received(origin, entered, outcome, clock or local_time)
        _tell_of(received.study_instance_uid, received.association_id, trace_id)
        return outcome

    return record


def look_within(archive: Store) -> ledger.IsThere:
    """Give what tells within a transaction whether a file is there.

    A bucket may be silent for a minute, and is not asked before the commit: that it stays does. But
    it may carry out a removal late that it did not answer: what is going there counts as gone until
    a removal was answered, and its sender has to come again.
    """
    if isinstance(archive, Archive):
        return lambda path, _: archive.has(path)
    return lambda _, is_going: not is_going


@lru_cache(maxsize=1024)
def _tell_of(study_instance_uid: str, association_id: str, trace_id: str) -> None:
    """Write, once, by which association a study comes; what is done with it names the study."""
    with about(study_instance_uid=study_instance_uid), about(**tracing.named(trace_id)):
        log.info("study %s comes by association %s", study_instance_uid, association_id)


def closer(
    sessions: SessionFactory, ring: Ring, clock: Clock = local_time
) -> Callable[[str], None]:
    """Make the callback for an association's end: its studies are due when they were quiet."""

    def close(association_id: str) -> None:
        tracing.association_ended(association_id, clock)
        with sessions() as session, session.begin():
            due_at = ledger.close_association(session, association_id)
        if due_at is not None:
            ring(Bell(JobKind.REPORT), due_at + SLACK)

    return close


def taker(sessions: SessionFactory, clock: Clock) -> Callable[[Commitment], bool]:
    """Make the callback for what a destination says to a request for commitment of ours."""

    def take(commitment: Commitment) -> bool:
        with sessions() as session, session.begin():
            is_ours = ledger.save_commitment(session, commitment, clock())
            asked = tracing.asked(session, commitment.transaction_uid)
        tracing.answered(asked, clock)
        return is_ours

    return take


def node_config(settings: Settings) -> NodeConfig:
    """Say how to listen, and where others are found.

    Raises
    ------
    ConfigurationError
        When a certificate or a key cannot be used.
    """
    files = settings.tls_files
    known: list[Destination | KnownPeer] = [*settings.destinations, *settings.peers]
    return NodeConfig(
        ae_title=settings.ae_title,
        bind=settings.bind,
        port=settings.port,
        plaintext=settings.plaintext,
        tls_port=settings.tls_port,
        tls=server_context(files) if files and settings.tls_port is not None else None,
        allowed_hosts=settings.allowed_hosts,
        allowed_ae_titles=settings.allowed_ae_titles,
        require_called_ae_title=settings.require_called_ae_title,
        max_associations=settings.max_associations,
        network_timeout_s=settings.network_timeout_s,
        maximum_pdu=settings.maximum_pdu,
        peers={each.peer.ae_title: each.peer for each in known},
        peer_tls={
            each.peer.ae_title: client_context(files) for each in known if files and each.tls
        },
    )


def start(
    settings: Settings,
    archive: Store,
    sessions: SessionFactory,
    ring: Ring,
    reading: SessionFactory | None = None,
    clock: Clock = local_time,
    watch: Watch = Watch(),  # noqa: B008  it has no state
) -> RunningNode:
    """Start to receive, and to answer for what was received.

    Parameters
    ----------
    reading
        Sessions that hold up no writer; `sessions` will do.
    clock
        By which work is due.
    watch
        Hears what the node does.

    Raises
    ------
    ConfigurationError
        When a port cannot be had, or a certificate cannot be used.
    """
    archive.remove_partial()
    reading = reading or sessions
    turn = threading.Lock() if settings.database_url.startswith("sqlite") else nullcontext()
    services = Services(
        record=recorder(
            sessions, settings.quiet_s, ring, clock, turn, look_within(archive), archive.stays
        ),
        on_association_closed=closer(sessions, ring, clock),
        failure_of=holdings.committer(reading, archive),
        on_commitment=taker(sessions, clock),
        find=holdings.finder(reading, archive),
        retrieve=holdings.retriever(reading, archive),
        watch=watch,
    )
    return start_node(node_config(settings), archive, services)
