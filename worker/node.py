"""The node's role: reception, from the association to the committed row and its bell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from dicom_node.archive import Archive
from dicom_node.storage_scp import (
    NodeConfig,
    Outcome,
    Received,
    Record,
    RunningNode,
    Services,
    start_node,
)
from worker import ledger
from worker.database import SessionFactory
from worker.desk import Bell
from worker.settings import Settings
from worker.states import JobKind

Ring = Callable[[Bell, datetime | None], None]

# A bell must not come before its work is due: clocks are read at slightly different times.
SLACK = timedelta(milliseconds=20)


def recorder(sessions: SessionFactory, quiet_s: float, ring: Ring) -> Record:
    """Make the callback that enters an instance into the ledger and rings for its classifying."""

    def record(received: Received) -> Outcome:
        with sessions() as session, session.begin():
            outcome = ledger.record(session, received, quiet=timedelta(seconds=quiet_s))
        if outcome is Outcome.STORED:
            ring(Bell(JobKind.CLASSIFY), None)
        return outcome

    return record


def closer(sessions: SessionFactory, ring: Ring) -> Callable[[str], None]:
    """Make the callback for an association's end: its studies are due when they were quiet."""

    def close(association_id: str) -> None:
        with sessions() as session, session.begin():
            due_at = ledger.close_association(session, association_id)
        if due_at is not None:
            ring(Bell(JobKind.REPORT), due_at + SLACK)

    return close


def start(
    settings: Settings, archive: Archive, sessions: SessionFactory, ring: Ring
) -> RunningNode:
    """Start to receive.

    Raises
    ------
    ConfigurationError
        When the port cannot be had.
    """
    archive.remove_partial()
    config = NodeConfig(
        ae_title=settings.ae_title,
        bind=settings.bind,
        port=settings.port,
        allowed_ae_titles=settings.allowed_ae_titles,
        max_associations=settings.max_associations,
        network_timeout_s=settings.network_timeout_s,
    )
    record = recorder(sessions, settings.quiet_s, ring)
    return start_node(config, archive, Services(record, closer(sessions, ring)))
