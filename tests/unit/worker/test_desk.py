"""The lease of claimed work lasts as long as the work does, within a limit."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from tests.e2e.programs import wait_until
from tests.ward import Ward
from worker.classifying import claim_instances
from worker.desk import held


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_LEASE_S="0.2")


def test_work_stays_claimed_while_it_is_worked_on(ward: Ward) -> None:
    ward.receive_study()
    claims = claim_instances(ward.desk)
    before = ward.jobs()[0].due_at
    with held(ward.desk, claims):
        ward.clock.forward(100)
        wait_until(lambda: ward.jobs()[0].due_at > before, 30, "an extension")


def test_a_step_beyond_its_limit_ends_its_process_and_its_lease(ward: Ward) -> None:
    ended = threading.Event()
    desk = replace(ward.desk, end_process=ended.set)
    ward.receive_study()
    claims = claim_instances(desk)
    with held(desk, claims, limit_s=0.3):
        assert ended.wait(30)
        due_at = ward.jobs()[0].due_at
    ward.clock.forward(ward.settings.lease_s)
    assert due_at <= ward.clock()


def test_a_step_within_its_limit_ends_nothing(ward: Ward) -> None:
    ended = threading.Event()
    desk = replace(ward.desk, end_process=ended.set)
    ward.receive_study()
    with held(desk, claim_instances(desk), limit_s=60):
        pass
    assert not ended.is_set()


def test_what_a_failed_step_leaves_claimed_is_put_back_and_is_nobodys_death(ward: Ward) -> None:
    ward.receive_study()
    claims = claim_instances(ward.desk)
    with pytest.raises(RuntimeError), held(ward.desk, claims):
        raise RuntimeError
    (job,) = [each for each in ward.jobs() if each.kind == "CLASSIFY"]
    assert (job.state, job.last_error) == ("DUE", "RuntimeError")
    ward.work(seconds=30)
    assert ward.reasons() == [None]


def test_what_a_failed_step_has_lost_is_left_to_its_heir(ward: Ward) -> None:
    ward.receive_study()
    claims = claim_instances(ward.desk)
    ward.clock.forward(1)
    heir = claim_instances(ward.desk)
    with pytest.raises(RuntimeError), held(ward.desk, claims):
        raise RuntimeError
    (job,) = [each for each in ward.jobs() if each.kind == "CLASSIFY"]
    assert (job.state, job.token) == ("LEASED", heir[0].token)
    assert job.deaths == 0, "who lost it is alive"


def test_a_worker_that_could_not_reach_the_database_says_later_that_it_is_alive(ward: Ward) -> None:
    ward.receive_study()
    claims = claim_instances(ward.desk)
    away = [True] * 3

    def sessions() -> Session:
        if away and away.pop():
            raise OperationalError("UPDATE", {}, OSError())
        return ward.sessions()

    lost = OperationalError("INSERT", {}, OSError())
    with pytest.raises(OperationalError), held(replace(ward.desk, sessions=sessions), claims):
        raise lost
    wait_until(lambda: ward.jobs()[0].state == "DUE", 30, "the work being handed back")
    job = ward.jobs()[0]
    assert (job.attempts, job.deaths) == (0, 0)
    ward.work(seconds=10)
    assert ward.reasons() == [None]
