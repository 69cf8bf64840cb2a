"""`cxr-worker dataset ...`: what it prints, what it refuses, and what the audit trail has of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.ward import Ward, chest
from worker import composition, database, ledger
from worker.__main__ import app
from worker.audit.trail import NotRecorded, Trail
from worker.exporting import FolderRefused
from worker.states import Finding, Label, Verdict
from worker.tables import Instance, Study

BUILT = (composition.settings, composition.engine, composition.archive, composition.desk)


@pytest.fixture
def ward(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ward]:
    """A ward on the database and the archive of a home that the commands see."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.chdir(tmp_path)
    for each in BUILT:
        each.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    database.upgrade(composition.settings().database_url)
    yield Ward(tmp_path, database.build_sessions(composition.engine()))
    root.handlers[:], root.level = handlers, level
    composition.engine().dispose()
    for each in BUILT:
        each.cache_clear()


def export(*words: str) -> Result:
    return CliRunner().invoke(app, ["dataset", "export", *words])


def judged(ward: Ward, *people: str) -> str:
    """Receive a study with an image that people agree about; give its UID."""
    ds = chest()
    ward.receive(ds)
    ward.classify()
    study, uid = str(ds.StudyInstanceUID), str(ds.SOPInstanceUID)
    for person in people:
        new = ledger.NewVerdict(
            uid, ward.findings()[-1].model_id, Finding.PRESENT, Verdict.AGREE, Label.PNEUMONIA, "",
            person,
        )  # fmt: skip
        with ward.sessions() as session, session.begin():
            assert ledger.save_verdict(session, study, new, ward.clock())
    assert {row.study_instance_uid for row in ward.all(Study)} >= {study}
    assert ward.all(Instance)
    return study


def test_what_was_written_and_left_out_is_told_and_what_to_do_next(ward: Ward) -> None:
    judged(ward, "anna", "bert")
    judged(ward, "anna")
    done = export("--verdicts", "out", "--readers", "2")
    assert done.exit_code == 0, done.output
    assert "pneumonia" in done.output
    assert "left out: 1, as too few readers agree" in done.output
    assert "more verdicts are needed" in done.output
    assert len(list(Path("out").rglob("*.jpeg"))) == 1
    assert "model/train.py --data out" in Path("out/README").read_text()


def test_the_export_of_a_study_is_in_the_audit_trail_before_it_is_written(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = judged(ward, "anna"), judged(ward)
    assert export("--verdicts", "out").exit_code == 0
    told = composition.settings().audit_path.read_text()
    assert 'csd-code="110106"' in told
    assert (study in told, other in told) == (True, False)

    def refuse(*_: object) -> None:
        raise NotRecorded("the disk is full")

    monkeypatch.setattr(Trail, "record", refuse)
    assert isinstance(export("--verdicts", "other").exception, NotRecorded)
    assert list(Path("other").iterdir()) == []


def test_a_folder_that_holds_something_is_refused(ward: Ward) -> None:
    judged(ward, "anna")
    assert export("--verdicts", "out").exit_code == 0
    done = export("--verdicts", "out")
    assert isinstance(done.exception, FolderRefused)
    assert str(done.exception) == "out is not empty: name a new folder"


def test_without_a_verdict_nothing_is_written(ward: Ward) -> None:
    judged(ward)
    done = export("--verdicts", "out", "--since", "2026-11-22")
    assert done.exit_code == 0, done.output
    assert "more verdicts are needed" in done.output
    assert not list(Path("out").rglob("*.jpeg"))


@pytest.mark.parametrize("words", [[], ["--verdicts", "out", "--readers", "0"]])
def test_a_wrong_word_is_told(words: list[str]) -> None:
    done = export(*words)
    assert done.exit_code == 2
    assert "--verdicts" in done.output or "--readers" in done.output
