"""An archive that is away, full or read-only for a while: work waits, and nothing is given up."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.storage_scp import Outcome
from tests.ward import Ward, chest
from worker import composition

LONG_S = 120


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions)


def test_images_that_cannot_be_read_for_long_are_assessed_afterwards(ward: Ward) -> None:
    ward.receive_study(2)
    away = ward.archive.root.rename(ward.archive.root.with_name("away"))
    ward.work(LONG_S)
    assert ward.states() == ["RECEIVING"]
    away.rename(ward.archive.root)
    ward.work(60)
    assert ward.states() == ["DELIVERED"]
    assert [found["assessed"] for found in ward.records()[0]["instances"]] == [True, True]


def test_nothing_is_read_from_or_written_to_the_mount_point_of_an_archive_that_is_away(
    ward: Ward,
) -> None:
    root = ward.archive.root
    ward.receive_study(2)
    ward.classify()
    ward.receive_study(1)
    disk = root.rename(root.with_name("disk"))
    root.mkdir()
    ward.work(LONG_S)
    assert "DELIVERED" not in ward.states()
    assert "FAILED" not in ward.states()
    root.rmdir()  # fails if anything was written there
    disk.rename(root)
    ward.work(60)
    assert ward.states() == ["DELIVERED", "DELIVERED"]


def test_a_study_whose_folder_is_hidden_below_the_mount_point_is_waited_for(ward: Ward) -> None:
    study, root = ward.receive_study(), ward.archive.root
    disk = root.rename(root.with_name("disk"))
    (root / study).mkdir(parents=True)
    ward.work(LONG_S)
    assert ward.states() == ["RECEIVING"]
    (root / study).rmdir()
    root.rmdir()
    disk.rename(root)
    ward.work(60)
    assert ward.states() == ["DELIVERED"]


def test_a_study_whose_folder_is_gone_from_the_archive_is_a_dead_letter(ward: Ward) -> None:
    study = ward.receive_study()
    shutil.rmtree(ward.archive.root / study)
    ward.work(LONG_S)
    assert ward.states() == ["FAILED"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_report_that_cannot_be_written_for_long_is_written_afterwards(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    ward.receive_study(2)
    with monkeypatch.context() as full:
        full.setattr(ward.archive, "write", fail)
        ward.work(LONG_S)
        assert [(job.kind, job.state) for job in ward.jobs()] == [("REPORT", "DUE")]
    ward.work(60)
    assert ward.states() == ["DELIVERED"]
    assert len(ward.reports()) == 1


def test_a_report_whose_evidence_cannot_be_read_for_long_is_written_afterwards(
    ward: Ward,
) -> None:
    ward.receive_study()
    ward.classify()
    away = ward.archive.root.rename(ward.archive.root.with_name("away"))
    ward.work(LONG_S)
    away.rename(ward.archive.root)
    ward.work(60)
    assert ward.states() == ["DELIVERED"]


def test_an_image_that_is_gone_from_its_folder_is_a_dead_letter(ward: Ward) -> None:
    ward.receive_study()
    (file,) = ward.archive.root.glob("*/*.dcm")
    file.unlink()
    ward.work(LONG_S)
    assert ward.states() == ["FAILED"]


def test_reports_may_use_the_space_that_images_must_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    monkeypatch.setattr(composition, "require_schema", lambda _: None)
    caches = (composition.settings, composition.engine, composition.archive, composition.desk)
    for cached in caches:
        cached.cache_clear()
    try:
        assert composition.archive().reserve_bytes > 0
        assert composition.desk().archive.reserve_bytes == 0
    finally:
        composition.engine().dispose()
        for cached in caches:
            cached.cache_clear()


def test_an_image_that_is_gone_is_told_to_a_person_and_assessed_when_it_is_sent_again(
    ward: Ward,
) -> None:
    image = chest()
    ward.receive(image)
    ward.receive_study()
    study, uid = image.StudyInstanceUID, image.SOPInstanceUID
    (file,) = (ward.archive.root / study).iterdir()
    file.unlink()
    ward.work(3600)
    assert ward.states() == ["FAILED", "DELIVERED"]
    (job,) = [job for job in ward.jobs() if job.state == "DEAD"]
    assert job.kind == "CLASSIFY"
    assert job.last_error.startswith(f"{study}/{uid}")
    advice = "restore it or send it again, then requeue the study"
    assert job.last_error.endswith(f" is gone from the archive: {advice}")
    assert ward.receive(image) is Outcome.DUPLICATE
    assert ward.requeue(study) == 1
    ward.work(60)
    assert ward.states() == ["DELIVERED", "DELIVERED"]
    assert ward.reasons() == [None, None]
