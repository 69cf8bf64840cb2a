"""The relay makes up for every message that was lost, and does not make a flood of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import PeerError
from tests.fakes import Bells
from tests.keeping import DAY
from tests.ward import PACS, VIEWER, Ward, chest
from worker import relay
from worker.classifying import claim_instances
from worker.desk import Bell
from worker.settings import Settings
from worker.states import JobKind
from worker.tables import Outage


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_RELAY_INTERVAL_S="0.01")


def nobody_waits(_: JobKind) -> int:
    return 0


def announced(ward: Ward, waiting: Callable[[JobKind], int] = nobody_waits) -> list[Bell]:
    bells = Bells()
    rung = relay.announce_due(ward.desk, bells, waiting)
    assert rung == bells.rung
    return rung


def test_nothing_owed_rings_nothing(ward: Ward) -> None:
    assert announced(ward) == []


def test_work_whose_message_was_lost_is_announced(ward: Ward) -> None:
    ward.receive_study()
    ward.clock.forward(1)
    assert announced(ward) == [Bell(JobKind.CLASSIFY)]


def test_work_that_is_just_being_announced_is_left_to_whoever_owed_it(ward: Ward) -> None:
    ward.receive_study()
    assert announced(ward) == []


def test_each_kind_of_work_rings_when_its_time_has_come(ward: Ward) -> None:
    study = ward.receive_study()
    ward.classify()
    assert announced(ward) == []
    ward.clock.forward(3)
    assert announced(ward) == [Bell(JobKind.REPORT)]
    ward.report()
    ward.clock.forward(1)
    assert announced(ward) == [Bell(JobKind.DELIVER, PACS)]
    ward.deliver()
    assert announced(ward) == []
    ward.receive(chest(study), association_id="late")
    ward.clock.forward(1)
    assert announced(ward) == [Bell(JobKind.CLASSIFY)]


def test_work_that_was_left_by_a_dead_worker_is_announced_when_its_lease_ends(ward: Ward) -> None:
    ward.receive_study()
    with ward.killed_at(1):
        ward.classify()
    ward.clock.forward(ward.settings.lease_s / 2)
    assert announced(ward) == []
    ward.clock.forward(ward.settings.lease_s)
    assert announced(ward) == [Bell(JobKind.CLASSIFY)]


@pytest.mark.parametrize(("count", "rings"), [(0, 1), (31, 1), (32, 0), (10_000, 0)])
def test_a_full_queue_gets_no_more_messages(ward: Ward, count: int, rings: int) -> None:
    ward.receive_study()
    ward.clock.forward(1)
    assert len(announced(ward, lambda _: count)) == rings


def test_the_relay_outlives_a_database_that_is_away(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = threading.Event()
    ward.receive_study()
    ward.clock.forward(1)
    calls = 0

    def sessions() -> Session:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise OperationalError("SELECT secret", {}, OSError("no route to host"))
        return ward.sessions()

    def announce(bell: Bell) -> None:
        assert bell == Bell(JobKind.CLASSIFY)
        stopped.set()

    with caplog.at_level(logging.INFO, logger="worker.relay"):
        relay.run(replace(ward.desk, sessions=sessions), announce, nobody_waits, stopped)
    assert calls == 4
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2, "one line when it goes and one when it is back"
    assert "away" in messages[0]
    assert "back" in messages[1]
    assert "secret" not in str(messages)


def test_the_relay_outlives_a_broker_that_is_away(ward: Ward) -> None:
    stopped = threading.Event()
    ward.receive_study()
    ward.clock.forward(1)
    tries: list[JobKind] = []

    def waiting(kind: JobKind) -> int:
        tries.append(kind)
        if len(tries) < 3:
            raise ConnectionRefusedError
        return 0

    relay.run(ward.desk, lambda _: stopped.set(), waiting, stopped)
    assert len(tries) == 3


def test_the_relay_does_not_wait_for_a_writer(ward: Ward, sqlite_engine: Engine) -> None:
    ward.receive_study()
    ward.clock.forward(1)
    with sqlite_engine.begin() as writing:
        writing.execute(text("DELETE FROM jobs"))
        assert announced(ward) == [Bell(JobKind.CLASSIFY)]


def test_the_relay_asks_how_much_waits_once_for_each_kind_of_work(ward: Ward) -> None:
    asked: list[JobKind] = []
    ward.settings = Settings.from_env(
        {"CXR_HOME": str(ward.settings.home), "CXR_DESTINATIONS": f"{PACS},{VIEWER}"}
    )
    ward.desk = replace(ward.desk, settings=ward.settings)
    ward.receive_study()
    ward.classify()
    ward.clock.forward(3)
    ward.report()
    ward.clock.forward(1)
    rung = announced(ward, lambda kind: asked.append(kind) or 0)  # type: ignore[func-returns-value]
    assert rung == [Bell(JobKind.DELIVER, PACS), Bell(JobKind.DELIVER, VIEWER)]
    assert asked == [JobKind.DELIVER]


def test_the_relay_says_that_it_turns_whatever_is_away(ward: Ward) -> None:
    stopped, turns = threading.Event(), list[int]()

    def away() -> Session:
        raise OperationalError("SELECT", {}, OSError())

    def turned() -> None:
        turns.append(1)
        if len(turns) == 3:
            stopped.set()

    relay.run(replace(ward.desk, sessions=away), Bells(), nobody_waits, stopped, turned)
    assert len(turns) == 3


def test_the_relay_keeps_the_log_of_the_database_short(
    ward: Ward, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, looked = threading.Event(), list[Engine]()

    def look(engine: Engine) -> None:
        looked.append(engine)
        stopped.set()

    monkeypatch.setattr(relay, "shorten_log", look)
    relay.run(ward.desk, Bells(), nobody_waits, stopped)
    assert looked == [sqlite_engine]


def test_a_study_does_not_wait_for_the_time_from_which_the_clock_was_set_back(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    ward.receive_study()
    ward.clock.forward(-DAY)
    assert relay.bring_forward(ward.desk) == 2
    assert "set back" in caplog.text
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"]
    assert relay.bring_forward(ward.desk) == 0


def test_a_report_does_not_wait_for_the_time_from_which_the_clock_was_set_back(ward: Ward) -> None:
    ward.receive_study()
    ward.send.answers.append(PeerError("away"))
    ward.work(seconds=3)
    assert ward.all(Outage)
    ward.clock.forward(-DAY)
    assert relay.bring_forward(ward.desk) == 1
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"]


def test_what_is_in_hand_while_the_clock_is_set_back_stays_so_for_a_lease(ward: Ward) -> None:
    ward.receive_study()
    (claim,) = claim_instances(ward.desk)
    ward.clock.forward(-DAY)
    assert relay.bring_forward(ward.desk) == 2
    assert claim_instances(ward.desk) == []
    ward.clock.forward(ward.settings.lease_s + 1)
    (again,) = claim_instances(ward.desk)
    assert again.subject_id == claim.subject_id


def test_what_waits_as_it_should_is_not_brought_forward(ward: Ward) -> None:
    ward.receive_study()
    ward.send.answers.append(PeerError("away"))
    assert relay.bring_forward(ward.desk) == 0
    ward.work(seconds=3)
    assert relay.bring_forward(ward.desk) == 0
