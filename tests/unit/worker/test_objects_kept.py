"""Retention, erasure and what no row names, where the archive is a bucket (in memory)."""

from __future__ import annotations

import errno
import time
import uuid
from pathlib import Path

import fsspec
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.clearance import walk
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.status import Status
from tests.keeping import DAY, PICTURES, Attic, forget, kept_as_promised
from worker import adopting, erasing, measuring, unnamed
from worker.adopting import Fate
from worker.reading import ArchiveAway
from worker.tables import Instance, Removal, Study


class Bucket(Attic):
    """A ward whose archive is a bucket."""

    def files(self) -> set[str]:
        return {found.path for found in walk(self.archive)}


@pytest.fixture
def ward(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    def in_memory(_: Path) -> ObjectArchive:
        objects = Objects(uuid.uuid4().hex, lambda: fsspec.filesystem("memory"))
        made = ObjectArchive("memory", objects, tmp_path / "spool")
        made.make()
        return made

    monkeypatch.setattr("tests.ward.Archive", in_memory)
    return Bucket(tmp_path, sqlite_sessions, CXR_DESTINATIONS=PICTURES, CXR_KEEP_IMAGES_DAYS="1")


def test_images_go_when_their_time_has_come_and_reports_stay(ward: Bucket) -> None:
    ward.tell(2)
    before = ward.files()
    ward.clock.forward(2 * DAY)
    ward.turn()
    assert ward.files() < before
    kept_as_promised(ward)
    assert [(kind, count) for kind, _, count in ward.removals()] == [("IMAGES", 2)]


def test_an_image_is_taken_again_once_its_removal_was_answered_and_no_sooner(
    ward: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may still carry out a removal that it did not answer."""
    study = ward.tell(1)
    (uid,) = [row.sop_instance_uid for row in ward.all(Instance)]
    ward.clock.forward(2 * DAY)
    with monkeypatch.context() as silent:
        silent.setattr("worker.removing.remove", _not_answered)
        with pytest.raises(ArchiveAway):
            ward.turn()
    assert ward.store(study, uid) == Status.OUT_OF_RESOURCES
    (row,) = ward.all(Instance)
    assert row.removed_at is not None
    ward.turn()
    assert ward.store(study, uid) == Status.SUCCESS
    kept_as_promised(ward)


def _not_answered(*_: object) -> None:
    raise OSError(errno.ETIMEDOUT, "the object store does not answer in time")


def test_its_size_is_that_of_all_objects(ward: Bucket) -> None:
    ward.tell()
    sizes = [ward.archive.size(path) for path in ward.files()]
    assert measuring.measured(ward.desk) == sum(sizes) > 0


def test_what_is_erased_is_gone_with_what_lay_in_quarantine(ward: Bucket) -> None:
    study = ward.tell()
    assert ward.store(study, f"{study}.1", version=1) != 0
    assert any(path.startswith("quarantine/") for path in ward.files())
    (row,) = ward.all(Study)
    told = list(
        erasing.erase(ward.desk, [row], "somebody", "asked for", ward.write_down, even_if_owed=True)
    )
    assert [why for _, _, why in told] == [""]
    assert ward.files() == set()


def test_what_no_row_names_goes_after_a_day(ward: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    study = ward.tell()
    kept = ward.files()
    left = ward.archive.write(study, f"{study}.7", b"left").path
    assert list(unnamed.find(ward.desk)) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * DAY)
    (found,) = unnamed.find(ward.desk)
    assert found.path == left
    assert unnamed.remove(ward.desk, [found], "somebody") == [found]
    assert ward.files() == kept


def test_what_was_removed_does_not_come_back_with_a_copy_of_the_bucket(
    ward: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ward.tell()
    (row,) = ward.all(Instance)
    data = ward.archive.read(row.path)
    ward.clock.forward(2 * DAY)
    ward.turn()
    ward.archive.write(study, row.sop_instance_uid, data)
    (removal,) = ward.all(Removal)
    (copied,) = [each for each in walk(ward.archive) if each.path == row.path]
    assert copied.written_at > removal.begun_at.timestamp(), "its time is that of the copy"
    monkeypatch.setattr(adopting, "YOUNG_S", -60.0)
    assert [each.fate for each in adopting.adopt(ward.desk, write_down=ward.write_down)] == [
        Fate.REMOVED
    ]
    taken = adopting.adopt(ward.desk, write_down=ward.write_down, also_removed=True)
    assert [each.fate for each in taken] == [Fate.ADOPTED]
    ward.work(30)
    kept_as_promised(ward)


def test_what_nothing_was_removed_of_is_taken_in_from_a_bucket(
    ward: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.tell(2)
    forget(ward)
    monkeypatch.setattr(adopting, "YOUNG_S", -60.0)
    fates = [each.fate for each in adopting.adopt(ward.desk, write_down=ward.write_down)]
    assert fates.count(Fate.ADOPTED) == 2
