"""Hypothesis plays modalities, workers, destinations and an unkind fate against one ledger."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import AssociationRejected, PeerError, ReportRefused
from tests import ledgers, reckoning
from tests.crashes import database_lost_at, killed_at, stalled_at
from tests.fakes import FakeSend, answered, model_info
from tests.light_report import light_reports
from tests.senders import Senders, bytes_of
from tests.ward import PACS, VIEWER, Ward
from worker import database
from worker.settings import Settings
from worker.tables import Outage, Report

STUDIES = ("2.25.71", "2.25.72")
MODALITIES = ("a", "b")
LEASE_S, QUIET_S, SILENCE_S = 300, 2, 60
# A destination or a person may take this long; so a story may.
ALL_IN_GOOD_TIME_S = 2 * 24 * 3600

WAITS = st.sampled_from([0.5, QUIET_S, 10, SILENCE_S + 1, LEASE_S + 1, 700, 6 * 3600])
# Most steps go well. The others end at a moment which may lie beyond their end.
FATES = st.integers(0, 109).map(
    lambda n: None if n < 80 else (killed_at, n - 80) if n % 3 else (database_lost_at, n - 80)
)
ANSWERS: dict[str, Any] = {
    "taken": 0,
    "taken, but its answer is lost": PeerError("lost"),
    "out of resources": PeerError("full", status=0xA700),
    "refused": ReportRefused("refused", status=0xA900),
    "rejected for good": AssociationRejected("rejected"),
    "a surprise": KeyError("surprise"),
}
COMMITMENTS: dict[str, Any] = {
    "kept": 0,
    "answered later": None,
    "not kept": 0x0112,
    "away": PeerError("away"),
    "refused": ReportRefused("refused", status=0x0122),
}
DESTINATIONS = (f"{PACS},{VIEWER}", PACS, VIEWER, f"{PACS}?commitment=off,{VIEWER}")


class Peers(FakeSend):
    """Destinations that offer commitment."""

    def __init__(self) -> None:
        super().__init__()
        self.offers_commitment = True


class Life(RuleBasedStateMachine):
    """A node, workers, two modalities and two destinations, for a few days."""

    engine: Engine
    folder: Path
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.home = self.folder / str(next(self.numbers))
        sessions = database.build_sessions(self.engine)
        _forget(sessions)
        self.ward = Ward(self.home, sessions, CXR_DESTINATIONS=DESTINATIONS[0], **_environment())
        self.ward.send = Peers()
        self.senders = Senders(self.ward)
        self.promised: dict[str, list[str]] = {}
        self.a_sender_stalled = False

    # --- fate --------------------------------------------------------------------------------

    @contextmanager
    def _befalls(self, fate: Any) -> Iterator[None]:
        """Let a step end as it is fated to; what it did not handle, its task logs."""
        befalls = fate[0](self.ward, fate[1]) if fate else nullcontext()
        with befalls, suppress(OperationalError, KeyError):
            yield
        for thread in threading.enumerate():
            if thread.name == "hand back":  # as soon as the database answers
                thread.join(60)

    def _promise(self) -> None:
        """Note where a new report must go."""
        names = [str(each.peer) for each in self.ward.settings.destinations]
        for report in self.ward.all(Report):
            self.promised.setdefault(report.sop_instance_uid, names)

    # --- reception ---------------------------------------------------------------------------

    @initialize(count=st.integers(1, 3))
    def a_study_comes(self, count: int) -> None:
        for number in range(count):
            self.senders.store(bytes_of(STUDIES[0], f"{STUDIES[0]}.{number}"))
        self.senders.close()

    @rule(
        study=st.sampled_from(STUDIES),
        number=st.integers(0, 2),
        other_bytes=st.integers(0, 5).map(lambda n: n == 5),
        of_another_study=st.integers(0, 9).map(lambda n: n == 9),
        modality=st.sampled_from(MODALITIES),
        close=st.booleans(),
        fate=FATES,
    )
    def store(
        self, study: str, number: int, other_bytes: bool, of_another_study: bool,
        modality: str, close: bool, fate: Any,
    ) -> None:  # fmt: skip
        uid = f"{STUDIES[0] if of_another_study else study}.{number}"
        data = bytes_of(study, uid, int(other_bytes))
        lived = False
        with self._befalls(fate):
            self.senders.store(data, modality)
            if close:
                self.senders.close(modality)
            lived = True
        if not lived:
            self.senders.lose(modality)

    @rule(modality=st.sampled_from(MODALITIES))
    def close(self, modality: str) -> None:
        self.senders.close(modality)

    # --- work --------------------------------------------------------------------------------

    @rule(seconds=WAITS)
    def time_passes(self, seconds: float) -> None:
        self.ward.clock.forward(seconds)

    @rule(fate=FATES, fails=st.integers(0, 3).map(lambda n: n == 3), goes_on=st.booleans())
    def classify(self, fate: Any, fails: bool, goes_on: bool) -> None:
        self.ward.classifier.failures = [RuntimeError(), MemoryError()] if fails else []
        with self._befalls(fate):
            self.ward.classify_all() if goes_on else self.ward.classify()
        self.ward.classifier.failures = []

    @rule(fate=FATES)
    def report(self, fate: Any) -> None:
        with self._befalls(fate):
            self.ward.report()
        self._promise()

    @rule(
        destination=st.sampled_from([PACS, VIEWER]),
        answer=st.sampled_from(list(ANSWERS)),
        offers=st.integers(0, 3).map(lambda n: n != 3),
        fate=FATES,
    )
    def deliver(self, destination: str, answer: str, offers: bool, fate: Any) -> None:
        peers, sent = self.ward.send, len(self.ward.send.sent)
        peers.answers, peers.offers_commitment = [ANSWERS[answer]], offers
        away = [row for row in self.ward.all(Outage) if row.next_try_at > self.ward.clock()]
        with self._befalls(fate):
            self.ward.deliver(destination)
        peers.answers, peers.offers_commitment = [], True
        if destination in {row.destination for row in away}:
            assert len(peers.sent) == sent, "something was sent to a destination that is away"

    @rule(
        destination=st.sampled_from([PACS, VIEWER]),
        answer=st.sampled_from(list(COMMITMENTS)),
        fate=FATES,
    )
    def commit(self, destination: str, answer: str, fate: Any) -> None:
        self.ward.ask.answers = [COMMITMENTS[answer]]
        with self._befalls(fate):
            self.ward.commit(destination)
        self.ward.ask.answers = []

    @rule(which=st.integers(0, 5), reason=st.sampled_from([0, 0, 0x0112]), fate=FATES)
    def a_destination_answers_late(self, which: int, reason: int, fate: Any) -> None:
        asked = self.ward.ask.asked
        if asked:
            transaction, uids = asked[-1 - which % len(asked)]
            with self._befalls(fate):
                self.ward.answer(answered(transaction, uids, reason))

    @rule(seconds=st.sampled_from([0, QUIET_S, LEASE_S + 1]), fate=FATES)
    def all_goes_on(self, seconds: float, fate: Any) -> None:
        with self._befalls(fate):
            self.ward.work(seconds)
        self._promise()

    # --- more than one worker ----------------------------------------------------------------

    @rule(
        step=st.sampled_from(["classify", "report", "deliver", "commit", "store"]),
        moment=st.integers(0, 9),
        meanwhile=st.lists(
            st.sampled_from(
                ["late", "lease", "quiet", "classify", "report", "deliver", "commit", "requeue",
                 "model", "all"]
            ), max_size=7,
        ),
    )  # fmt: skip
    def a_worker_stalls(self, step: str, moment: int, meanwhile: list[str]) -> None:
        steps = self._steps()

        def others() -> None:
            for name in meanwhile:
                steps[name]()
                self._promise()

        with stalled_at(self.ward, moment, others) as moments:
            steps[step]()
        self._promise()
        if moments.where and step == "deliver":
            self.a_sender_stalled = True

    def _steps(self) -> dict[str, Callable[[], Any]]:
        ward, senders = self.ward, self.senders
        return {
            "classify": ward.classify_all,
            "report": ward.report,
            "deliver": ward.deliver,
            "commit": ward.commit,
            "store": lambda: senders.store(bytes_of(STUDIES[0], f"{STUDIES[0]}.0"), "c"),
            "late": lambda: senders.store(bytes_of(STUDIES[0], f"{STUDIES[0]}.2"), "d"),
            "lease": lambda: ward.clock.forward(LEASE_S + 1),
            "quiet": lambda: ward.clock.forward(QUIET_S),
            "requeue": lambda: ward.requeue(STUDIES[0]),
            "model": lambda: self.the_model_changes("b"),
            "all": lambda: ward.work(QUIET_S),
        }

    # --- people ------------------------------------------------------------------------------

    @rule(study=st.sampled_from(STUDIES), fate=FATES)
    def requeue(self, study: str, fate: Any) -> None:
        with self._befalls(fate):
            self.ward.requeue(study)

    @rule(study=st.sampled_from(STUDIES), fate=FATES)
    def discard(self, study: str, fate: Any) -> None:
        with self._befalls(fate):
            self.ward.discard(study)

    @rule(digest=st.sampled_from("ab"))
    def the_model_changes(self, digest: str) -> None:
        self.ward.classifier.info = model_info(digest=digest * 64)

    @rule(destinations=st.sampled_from(DESTINATIONS))
    def the_settings_change(self, destinations: str) -> None:
        values = {"CXR_HOME": str(self.home / "home"), "CXR_DESTINATIONS": destinations}
        self.ward.settings = Settings.from_env({**values, **_environment()})
        self.ward.desk = replace(self.ward.desk, settings=self.ward.settings)

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_nothing_stands_still(self) -> None:
        reckoning.nothing_acknowledged_is_lost(self.ward, self.senders.acknowledged)
        reckoning.nothing_is_leased_forever(self.ward)
        reckoning.revisions_are_counted(self.ward)
        reckoning.states_fit_what_is_owed(self.ward)

    @invariant()
    def each_change_of_state_is_in_the_table(self) -> None:
        with self.ward.sessions() as session, session.begin():
            changes = session.execute(text("SELECT old, new FROM state_changes")).all()
            session.execute(text("DELETE FROM state_changes"))
        for old, new in changes:
            assert reckoning.is_explained(old, new), f"{old} became {new}"

    def teardown(self) -> None:
        try:
            self._all_is_well_again()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def _all_is_well_again(self) -> None:
        self.ward.work(ALL_IN_GOOD_TIME_S)
        self._promise()
        self.nothing_is_lost_and_nothing_stands_still()
        self.each_change_of_state_is_in_the_table()
        reckoning.nothing_is_owed_but_dead_letters(self.ward)
        told = reckoning.every_study_has_its_story_told(self.ward, self.promised)
        sent = [(data, peer) for data, peer, *_ in self.ward.send.sent]
        reckoning.each_report_is_always_the_same(data for data, _ in sent)
        if not self.a_sender_stalled:
            reckoning.the_current_report_came_last(told, sent)


def _environment() -> dict[str, str]:
    return {
        "CXR_LEASE_S": str(LEASE_S),
        "CXR_QUIET_S": str(QUIET_S),
        "CXR_NETWORK_TIMEOUT_S": str(SILENCE_S),
        "CXR_BATCH_SIZE": "2",
    }


def _forget(sessions: sessionmaker[Session]) -> None:
    ledgers.empty(sessions)
    with sessions() as session, session.begin():
        session.execute(text("DELETE FROM state_changes"))


def prepare(engine: Engine) -> None:
    """Have the database note each change of a study's state; spare the disk."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE state_changes (old TEXT, new TEXT)"))
        connection.execute(
            text(
                "CREATE TRIGGER note_state AFTER UPDATE OF state ON studies WHEN old.state <> "
                "new.state BEGIN INSERT INTO state_changes VALUES (old.state, new.state); END"
            )
        )
    engine.dispose()
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF").close())


@pytest.mark.timeout(1200)  # to find the shortest story that fails takes a while
def test_whatever_happens_nothing_is_lost_and_one_story_is_told(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    prepare(sqlite_engine)
    life = type("Life", (Life,), {"engine": sqlite_engine, "folder": tmp_path / "lives"})
    # Processes die here, and no power fails.
    with light_reports(), patch.object(os, "fsync", lambda _: None):
        run_state_machine_as_test(
            life,
            settings=settings(
                max_examples=50,
                stateful_step_count=30,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
