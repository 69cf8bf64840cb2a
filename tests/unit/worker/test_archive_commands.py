"""The command `archive adopt`: what it says, and what it does only when it is told to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner

from tests.keeping import Attic, age, forget
from worker import adopting, composition, erasing, tasks
from worker.__main__ import app
from worker.tables import Instance, Removal


@pytest.fixture
def ward(
    tmp_path: Path,
    sqlite_engine: Engine,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> Attic:
    ward = Attic(tmp_path, sqlite_sessions)
    monkeypatch.setattr(composition, "settings", lambda: ward.settings)
    monkeypatch.setattr(composition, "engine", lambda: sqlite_engine)
    monkeypatch.setattr(composition, "desk", lambda: ward.desk)
    monkeypatch.setattr(tasks, "announce", ward.bells)
    return ward


def told(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["archive", "adopt", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_what_would_be_taken_in_is_shown_and_left(ward: Attic) -> None:
    study = ward.tell(2)
    forget(ward)
    age(ward)
    output = told()
    assert "2 images of 1 studies would be taken in, with --apply" in output
    assert output.count(f"{study}/{study}.") == 2
    assert "1 files are left as they are: reports, pictures and flags of ours" in output
    assert ward.all(Instance) == []
    assert not ward.settings.audit_path.exists()


def test_files_that_are_too_young_are_told_and_left(
    ward: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "YOUNG_S", 86_400.0)  # however slow the machine is
    ward.tell(2)
    forget(ward)
    output = told("--apply")
    assert "0 images of 0 studies taken in" in output
    assert "3 files are left as they are: younger than a minute" in output
    assert ward.all(Instance) == []


def test_it_is_taken_in_when_it_is_told_to_and_its_bell_is_rung(ward: Attic) -> None:
    ward.tell(2)
    forget(ward)
    age(ward)
    rung = len(ward.bells.rung)
    assert "2 images of 1 studies taken in" in told("--apply")
    assert len(ward.all(Instance)) == 2
    assert len(ward.bells.rung) == rung + 1
    (line,) = ward.settings.audit_path.read_text().splitlines()
    assert 'EventActionCode="U"' in line
    assert "0 images of 0 studies taken in" in told("--apply")


def test_what_was_removed_is_left_unless_it_is_asked_for_with_a_warning(ward: Attic) -> None:
    study = ward.tell()
    (row,) = ward.all(Instance)
    data = ward.archive.read(row.path)
    studies = erasing.find(ward.desk, study=study)
    list(
        erasing.erase(
            ward.desk, studies, "somebody", "asked for", ward.write_down, even_if_owed=True
        )
    )
    ward.archive.write(study, row.sop_instance_uid, data)
    (erased, *_) = ward.all(Removal)
    age(ward, time.time() - erased.begun_at.timestamp() + 60)
    output = told("--apply")
    assert "1 files are left as they are: that were removed on purpose" in output
    assert "--also-removed takes them in" in output
    assert ward.all(Instance) == []
    output = told("--apply", "--also-removed")
    assert "a patient who was\nerased" in output
    assert "1 images of 1 studies taken in" in output
    assert len(ward.all(Instance)) == 1


def test_an_archive_that_is_away_is_told_without_a_traceback(ward: Attic) -> None:
    ward.archive.root.rename(ward.archive.root.with_name("away"))
    output = told("--apply", code=1)
    assert output.startswith("CXR_ARCHIVE cannot be looked through now")
    assert "Traceback" not in output
