"""One study's whole story, with whoever works killed at each of its moments in turn."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from tests import ledgers, reckoning
from tests.crashes import Moments, database_lost_at, killed_at
from tests.fakes import new_uid
from tests.light_report import light_reports
from tests.senders import Senders, bytes_of
from tests.ward import PACS, Ward
from worker.states import JobKind
from worker.tables import Delivery, Instance, Report, Study

pytestmark = pytest.mark.timeout(1200)

Injection = Callable[[Ward, int], AbstractContextManager[Moments]]


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Ward]:
    ward = Ward(tmp_path, sessions, CXR_LEASE_S="300")
    ward.send.offers_commitment = True
    # A process dies here, and no power fails.
    with light_reports(), patch.object(os, "fsync", lambda _: None):
        yield ward


def images_of(study: str) -> list[str]:
    return [f"{study}.{number}" for number in (1, 2, 3)]


def tell(ward: Ward, senders: Senders, study: str) -> None:
    """Two images and their report; a late image, another report, and its commitment."""
    *first, late = images_of(study)
    for images in (first, [late]):
        for image in images:
            senders.store(bytes_of(study, image))
        senders.close()
        ward.clock.forward(ward.settings.quiet_s)
        ward.classify()
        ward.report()
        ward.deliver()
    ward.commit()


def recover(ward: Ward, senders: Senders, study: str) -> None:
    """Send what was not acknowledged again, as modalities do, and do what is owed when it is due.

    The associations of a node that died end by their silence.
    """
    senders.lose()
    for image in set(images_of(study)) - senders.acknowledged.keys():
        senders.store(bytes_of(study, image))
    senders.close()
    ward.clock.forward(ward.settings.network_timeout_s)
    steps = {"CLASSIFY": ward.classify, "REPORT": ward.report, "DELIVER": ward.deliver}
    for _ in range(12):
        for job in sorted(ward.jobs(), key=lambda job: list(JobKind).index(job.kind)):
            ward.clock.now = max(ward.clock.now, job.due_at)
            steps.get(job.kind, ward.commit)()


def test_killed_at_any_moment_the_story_is_told_as_if_nothing_had_been(ward: Ward) -> None:
    assert moments_survived(ward, killed_at) > 100


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # no file is lost on the way
def test_a_database_lost_at_any_moment_changes_no_story(ward: Ward) -> None:
    assert moments_survived(ward, database_lost_at) > 100


def moments_survived(ward: Ward, befall: Injection) -> int:
    """Let it befall the story at each of its moments in turn; count them."""
    for count in itertools.count():
        study, senders = new_uid(), Senders(ward)
        with befall(ward, count) as moments, suppress(OperationalError):
            tell(ward, senders, study)
        at_once(ward, senders, moments)
        recover(ward, senders, study)
        in_the_end(ward, senders, study, moments)
        if moments.where is None:
            break
        ward.send.sent.clear()
        ledgers.empty(ward.sessions)
    return count


def at_once(ward: Ward, senders: Senders, moments: Moments) -> None:
    try:
        reckoning.nothing_acknowledged_is_lost(ward, senders.acknowledged)
        reckoning.nothing_is_leased_forever(ward)
        reckoning.states_fit_what_is_owed(ward)
    except AssertionError as error:
        error.add_note(f"after {moments.where}")
        raise


def in_the_end(ward: Ward, senders: Senders, study: str, moments: Moments) -> None:
    sent = [(data, peer) for data, peer, *_ in ward.send.sent]
    try:
        reckoning.nothing_acknowledged_is_lost(ward, senders.acknowledged)
        assert len(senders.acknowledged) == 3
        assert ward.jobs() == []
        assert end_of(ward, study) == (3, "COMMITTED", [(PACS, "COMMITTED")])
        reckoning.revisions_are_counted(ward)
        reckoning.each_report_is_always_the_same(data for data, _ in sent)
        promised = {report.sop_instance_uid: [PACS] for report in ward.all(Report)}
        told = reckoning.every_study_has_its_story_told(ward, promised)
        reckoning.the_current_report_came_last(told, sent)
    except AssertionError as error:
        error.add_note(f"after {moments.where}")
        raise


def end_of(ward: Ward, study: str) -> tuple[int, str, list[tuple[str, str]]]:
    """Count a study's instances; give its state, and where its current report is."""
    with ward.sessions() as session:
        row = session.scalars(select(Study).where(Study.study_instance_uid == study)).one()
        instances = session.scalars(select(Instance).where(Instance.study_id == row.id)).all()
        report = reckoning.current_report(session, row.id)
        assert report is not None
        deliveries = session.scalars(select(Delivery).where(Delivery.report_id == report.id))
        return len(instances), row.state, [(each.destination, each.state) for each in deliveries]
