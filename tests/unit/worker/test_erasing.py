"""Erasing a patient: nothing stays but who did it, when and why."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import QUARANTINE
from tests.fakes import answered, new_uid
from tests.keeping import PICTURES, Attic, kept_as_promised
from tests.light_report import light_reports
from tests.ward import PACS
from worker import erasing, ledger, reading, removing
from worker.states import JobKind
from worker.tables import Instance, Job, Removal, Report, Study

PATIENT = "PID1"


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Attic]:
    with light_reports():
        yield Attic(tmp_path, sessions)


def erase(ward: Attic, *, even_if_owed: bool = False, **which: str) -> list[Any]:
    studies = erasing.find(ward.desk, **(which or {"patient_id": PATIENT}))
    return list(
        erasing.erase(
            ward.desk, studies, "somebody", "by request", ward.write_down, even_if_owed=even_if_owed
        )
    )


def everything(engine: Engine) -> str:
    """Give all rows of all tables as text."""
    with engine.connect() as connection:
        tables = inspect(engine).get_table_names()
        rows = {
            name: [list(map(str, row)) for row in connection.execute(text(f"SELECT * FROM {name}"))]
            for name in tables
        }
    return json.dumps(rows)


def test_nothing_of_a_patient_stays_but_who_erased_it_and_why(
    tmp_path: Path, sessions: sessionmaker[Session], engine: Engine
) -> None:
    ward = Attic(tmp_path, sessions, CXR_DESTINATIONS=PICTURES)
    one, two = ward.tell(2), ward.tell()
    assert PATIENT in everything(engine)
    done = erase(ward)
    assert [(uid, why) for uid, _, why in done] == [(one, ""), (two, "")]
    assert ward.files() == set()
    left = json.loads(everything(engine))
    assert {name for name, rows in left.items() if rows} == {
        "alembic_version", "models", "removals",
    }  # fmt: skip
    assert PATIENT not in str(left)
    assert "ACC" not in str(left)
    rows = [(r.study_instance_uid, r.kind, r.count) for r in ward.all(Removal)]
    assert rows[:3] == [(one, "IMAGES", 2), (one, "REPORTS", 4), (one, "RESULTS", 2)]
    assert {(r.cause, r.person, r.reason) for r in ward.all(Removal)} == {
        ("ERASED", "somebody", "by request")
    }
    assert all(row.finished_at is not None for row in ward.all(Removal))


def test_other_patients_and_other_studies_stay(ward: Attic) -> None:
    erased, kept = ward.tell(), ward.tell()
    erase(ward, study=erased)
    assert [row.study_instance_uid for row in ward.all(Study)] == [kept]
    kept_as_promised(ward)
    assert erase(ward, patient_id="SOMEBODY") == []
    assert erase(ward, patient_id="", study="1.2.3") == []


def test_a_study_that_owes_work_is_left_unless_a_person_says_otherwise(ward: Attic) -> None:
    study = new_uid()
    ward.store(study, f"{study}.1")
    assert erasing.owing(ward.desk, erasing.find(ward.desk, study=study)) == [study]
    assert erase(ward) == [(study, None, "")]
    assert len(ward.files()) == 1
    ((_, erased, why),) = erase(ward, even_if_owed=True)
    assert (len(erased), why) == (2, "")
    assert (ward.files(), ward.all(Study), ward.all(Job)) == (set(), [], [])


def test_what_is_set_aside_and_what_no_row_names_goes_with_a_study(ward: Attic) -> None:
    study = ward.tell()
    assert ward.store(study, f"{study}.1", version=1) == 0xC010
    assert any(path.startswith(QUARANTINE) for path in ward.files())
    old, young = (ward.archive.write(study, f"{study}.{n}", b"x" * n).path for n in (7, 8))
    an_hour_ago = time.time() - 2 * removing.ERASED_AFTER_S
    os.utime(ward.archive.absolute(old), (an_hour_ago, an_hour_ago))
    erase(ward)
    assert ward.files() == {young}, "a node may be about to enter it"
    assert ("FILES", "ERASED", 2) in ward.removals()


def test_a_study_that_comes_again_after_it_was_erased_is_a_new_one(ward: Attic) -> None:
    study = ward.tell(2)
    erase(ward)
    ward.tell(study=study)
    assert ward.states() == ["DELIVERED"]
    assert [row.revision for row in ward.all(Report)] == [1]
    kept_as_promised(ward)


def test_files_that_cannot_be_removed_now_are_removed_by_the_relay(
    ward: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.tell()

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(removing, "remove", read_only)
        ((_, erased, why),) = erase(ward)
    assert (len(erased), why) == (3, "Read-only file system")
    assert ward.promised() == set()
    ward.turn()
    assert (ward.files(), ward.all(Study)) == (set(), [])


def test_an_image_that_comes_while_its_study_is_erased_is_told_by_itself(
    ward: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ward.tell(2)
    with monkeypatch.context() as patched:
        patched.setattr(erasing, "finish", lambda *_: None)
        erase(ward)
    assert ward.store(study, f"{study}.1") == 0
    assert ward.store(study, f"{study}.9") == 0
    ward.turn()
    ward.work(30)
    assert ward.states() == ["DELIVERED"]
    uids = {row.sop_instance_uid for row in ward.all(Instance)}
    assert uids == {f"{study}.1", f"{study}.9"}
    assert len(ward.findings()) == 2
    kept_as_promised(ward)


@pytest.mark.parametrize("kind", [JobKind.CLASSIFY, JobKind.REPORT, JobKind.DELIVER])
def test_a_worker_whose_study_is_erased_lets_go_of_it(
    ward: Attic, kind: JobKind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study, other = new_uid(), new_uid()
    for each in (study, other):
        ward.store(each, f"{each}.1")
        ward.clock.forward(1)
    steps = {"CLASSIFY": ward.classify, "REPORT": ward.report, "DELIVER": ward.deliver}
    ward.clock.forward(10)
    for before in list(steps)[: list(steps).index(kind)]:
        steps[before]()
    opened = reading.open_stored
    done: list[Any] = []

    def open_late(*args: Any) -> Any:
        if not done:
            done.append(True)
            done.extend(erase(ward, even_if_owed=True, study=study))
        return opened(*args)

    for module in ("worker.preparing", "worker.reading"):
        monkeypatch.setattr(f"{module}.open_stored", open_late)
    steps[kind]()
    assert done
    ward.work(60)
    assert [row.study_instance_uid for row in ward.all(Study)] == [other]
    assert ward.states() == ["DELIVERED"]
    assert not [record for record in caplog.records if record.exc_info]
    assert ward.jobs() == []


def test_a_destination_may_answer_for_what_was_erased_meanwhile(ward: Attic) -> None:
    ward.send.offers_commitment = True
    ward.ask.answers = [None]
    ward.tell()
    assert ward.states() == ["DELIVERED"]
    ((transaction_uid, uids),) = ward.ask.asked
    assert erase(ward)[0][1] is None, "a commitment is owed work"
    erase(ward, even_if_owed=True)
    assert not ward.answer(answered(transaction_uid, uids))
    assert ward.all(Study) == []


def test_a_claimed_delivery_of_what_was_erased_is_let_go(ward: Attic) -> None:
    study = new_uid()
    ward.store(study, f"{study}.1")
    ward.clock.forward(10)
    ward.classify()
    ward.report()
    claims = claimed(ward, JobKind.DELIVER, PACS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(erasing, "finish", lambda *_: None)
        erase(ward, even_if_owed=True)
    ward.store(study, f"{study}.9")  # keeps the study, not its report
    ward.turn()
    with ward.sessions() as session, session.begin(), pytest.raises(ledger.LeaseLost):
        ledger.report_to_send(session, claims[0])
    with ward.sessions() as session, session.begin():
        assert not ledger.is_held(session, claims[0])
        assert not ledger.bury(session, claims[0], "late")
    ward.work(30)
    assert ward.states() == ["DELIVERED"]


def claimed(ward: Attic, kind: JobKind, destination: str = "") -> list[ledger.Claim]:
    with ward.sessions() as session, session.begin():
        return ledger.claim(
            session, kind, 1, ward.clock(), ward.desk.lease, destination=destination
        )


def test_a_claim_of_what_was_erased_before_it_was_looked_at_is_let_go(
    ward: Attic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = new_uid()
    ward.store(study, f"{study}.1")
    look = ledger.claimed_instances

    def look_late(session: Any, claims: Any) -> Any:
        session.rollback()
        erase(ward, even_if_owed=True)
        return look(session, claims)

    monkeypatch.setattr(ledger, "claimed_instances", look_late)
    ward.classify()
    assert not [record for record in caplog.records if record.exc_info]
    assert ward.jobs() == []
    assert ward.all(Study) == []
