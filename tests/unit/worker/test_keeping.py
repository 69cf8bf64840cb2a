"""The commands about what is kept: `retention` and `erase`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner

from tests.fakes import new_uid
from tests.keeping import DAY, Attic
from tests.light_report import light_reports
from worker import composition, given_up, keeping
from worker.__main__ import app
from worker.audit.trail import NotRecorded
from worker.settings import Settings
from worker.tables import Removal, Study

LIMITS = {"CXR_KEEP_IMAGES_DAYS": "30", "CXR_ARCHIVE_MAX_GB": "0.000001"}


@pytest.fixture
def ward(
    tmp_path: Path,
    sqlite_engine: Engine,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Attic]:
    ward = Attic(tmp_path, sqlite_sessions, **LIMITS)
    monkeypatch.setattr(composition, "settings", lambda: ward.settings)
    monkeypatch.setattr(composition, "engine", lambda: sqlite_engine)
    monkeypatch.setattr(composition, "desk", lambda: ward.desk)
    with light_reports():
        yield ward


def told(*words: str, code: int = 0, answer: str = "") -> str:
    done = CliRunner().invoke(app, words, input=answer)
    assert done.exit_code == code, done.output
    return done.output


def test_retention_shows_the_policy_and_what_would_go_and_leaves_it(ward: Attic) -> None:
    ward.tell()
    ward.clock.forward(31 * DAY)
    ward.tell()
    files = ward.files()
    output = told("retention")
    for line in (
        "images are kept for 30 days (CXR_KEEP_IMAGES_DAYS)",
        "reports are kept for ever (CXR_KEEP_REPORTS_DAYS)",
        "results are kept for ever (CXR_KEEP_RESULTS_DAYS)",
        "the archive grows up to 1e-06 GB (CXR_ARCHIVE_MAX_GB)",
        "images of 1 studies would go for their age",
        "images of 2 studies would go for their space, 0.00 GB",
        "0 files that no row names would go, 0 bytes",
        "0 half-written files would go",
    ):
        assert line in output
    assert ward.files() == files
    assert ward.removals() == []


def test_retention_removes_it_when_it_is_told_to(ward: Attic) -> None:
    study = ward.tell()
    ward.clock.forward(31 * DAY)
    ward.tell()
    ward.archive.write(study, f"{study}.7", b"left")
    (ward.archive.root / ".half.partial").write_bytes(b"half")
    then = time.time() - 2 * DAY
    for path in ward.files():
        os.utime(ward.archive.absolute(path), (then, then))
    output = told("retention", "--apply")
    assert "images of 1 studies removed for their age" in output
    assert "images of 1 studies removed for their space" in output
    assert "1 files that no row names removed, 4 bytes" in output
    assert "1 half-written files removed" in output
    assert len(ward.files()) == 2, "the reports"
    assert {row.person for row in ward.all(Removal)} == {given_up.who()}
    assert "images of 0 studies" in told("retention")


def test_retention_says_when_no_room_can_be_made(ward: Attic) -> None:
    ward.receive_study(9)
    output = told("retention", "--apply")
    assert "that is not enough, and nothing more may go" in output


def test_retention_finishes_what_was_begun(ward: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.tell()
    ward.clock.forward(31 * DAY)
    with monkeypatch.context() as patched:
        patched.setattr("worker.retention.finish", lambda *_: None)
        ward.keeper.turn()
    assert "1 removals were begun and are to be finished" in told("retention")
    assert "1 removals were finished" in told("retention", "--apply")
    assert len(ward.files()) == 1


def test_without_limits_nothing_would_go(ward: Attic) -> None:
    ward.settings = Settings.from_env({"CXR_HOME": str(ward.settings.home)})
    ward.desk = type(ward.desk)(ward.sessions, ward.archive, ward.settings, ward.clock)
    ward.tell()
    ward.clock.forward(31 * DAY)
    output = told("retention")
    assert "images are kept for ever" in output
    assert "studies" not in output


def test_erase_asks_first(ward: Attic) -> None:
    study = ward.tell()
    output = told("erase", "--patient-id", "PID1", "--reason", "asked", answer="n\n", code=1)
    assert f"{study}  DELIVERED" in output
    assert len(ward.all(Study)) == 1
    output = told("erase", "--patient-id", "PID1", "--reason", "asked", answer="y\n")
    assert f"{study}: erased: 1 images, 1 reports, 1 results" in output
    assert keeping.NOT_OURS in output
    assert (ward.files(), ward.all(Study)) == (set(), [])
    assert {row.reason for row in ward.all(Removal)} == {"asked"}


def audited(ward: Attic) -> list[str]:
    path = ward.settings.audit_path
    return path.read_text().splitlines() if path.exists() else []


def test_an_erasure_is_in_the_audit_trail(ward: Attic) -> None:
    study = ward.tell()
    told("erase", "--study", study, "--reason", "asked", "--yes")
    (line,) = audited(ward)
    assert 'EventActionCode="D"' in line
    assert 'csd-code="110105"' in line
    assert f'ParticipantObjectID="{study}"' in line
    assert f'UserName="{given_up.who()}"' in line


def test_what_the_audit_trail_does_not_take_is_not_erased(ward: Attic) -> None:
    study, files = ward.tell(), ward.files()
    ward.settings.audit_path.mkdir(parents=True)
    done = CliRunner().invoke(app, ["erase", "--study", study, "--reason", "asked", "--yes"])
    assert isinstance(done.exception, NotRecorded)
    assert "CXR_AUDIT_FILE" in str(done.exception)
    assert (ward.files(), len(ward.all(Study)), ward.all(Removal)) == (files, 1, [])


def test_what_is_not_erased_as_it_owes_work_is_not_in_the_audit_trail(ward: Attic) -> None:
    study = new_uid()
    ward.store(study, f"{study}.1")
    told("erase", "--study", study, "--reason", "asked", "--yes", code=1)
    assert audited(ward) == []


def test_erase_refuses_while_work_is_owed(ward: Attic) -> None:
    study = new_uid()
    ward.store(study, f"{study}.1")
    words = ("erase", "--study", study, "--reason", "asked", "--yes")
    output = told(*words, code=1)
    assert f"{study}  RECEIVING, owes work" in output
    assert f"{study}: owes work; wait, or use --even-if-owed" in output
    assert len(ward.files()) == 1
    told(*words, "--even-if-owed")
    assert (ward.files(), ward.all(Study)) == (set(), [])


def test_erase_says_what_it_cannot_remove_now(ward: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.tell()
    ward.archive.root.rename(ward.archive.root.with_name("away"))
    output = told("erase", "--patient-id", "PID1", "--reason", "asked", "--yes", code=1)
    assert "the relay removes them when it can" in output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--reason", "r"], "name a --patient-id or a --study"),
        (["--reason", "r", "--study", "1.2", "--patient-id", "P"], "name a --patient-id"),
        (["--reason", " ", "--study", "1.2"], "says why"),
        (["--study", "1.2"], "--reason"),
    ],
)
def test_erase_wants_to_know_what_and_why(ward: Attic, words: list[str], says: str) -> None:
    assert says in told("erase", *words, code=2)


def test_erase_says_when_there_is_nothing(ward: Attic) -> None:
    assert "No study matches." in told("erase", "--study", "1.2", "--reason", "r", code=1)
