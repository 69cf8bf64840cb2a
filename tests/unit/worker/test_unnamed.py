"""Files that no row names: found and removed a day later, and only those."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.keeping import DAY, PICTURES, Attic, kept_as_promised
from tests.senders import bytes_of
from worker import retention, unnamed
from worker.tables import Removal


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Attic:
    return Attic(tmp_path, sessions, CXR_DESTINATIONS=PICTURES, CXR_KEEP_IMAGES_DAYS="1")


def make_old(ward: Attic) -> None:
    then = time.time() - 2 * DAY
    for path in ward.files():
        os.utime(ward.archive.absolute(path), (then, then))


def test_what_a_row_names_is_not_among_them(ward: Attic) -> None:
    ward.tell(2)
    make_old(ward)
    assert list(unnamed.find(ward.desk)) == []


def test_a_file_that_was_never_entered_is_found_after_a_day_and_removed(ward: Attic) -> None:
    study = ward.tell()
    kept = ward.files()
    left = ward.archive.write(study, f"{study}.7", b"left").path
    assert list(unnamed.find(ward.desk)) == []
    make_old(ward)
    (found,) = unnamed.find(ward.desk)
    assert (found.path, found.size) == (left, 4)
    assert unnamed.remove(ward.desk, [found], "somebody") == [found]
    assert ward.files() == kept
    (row,) = ward.all(Removal)
    assert (row.kind, row.cause, row.person, row.size_bytes) == ("FILES", "UNNAMED", "somebody", 4)
    assert unnamed.remove(ward.desk, [found], "somebody") == []


def test_a_file_that_is_entered_before_it_is_removed_stays(ward: Attic) -> None:
    study = ward.tell()
    uid = f"{study}.7"
    ward.archive.write(study, uid, bytes_of(study, uid))
    make_old(ward)
    found = list(unnamed.find(ward.desk))
    assert len(found) == 1
    assert ward.store(study, uid) == 0
    assert unnamed.remove(ward.desk, found, "somebody") == []
    ward.work(30)
    kept_as_promised(ward)


def test_what_is_about_to_be_removed_is_left_to_whoever_began_it(
    ward: Attic, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.tell()
    ward.clock.forward(2 * DAY)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "finish", lambda *_: None)
        ward.keeper.turn()
    make_old(ward)
    assert list(unnamed.find(ward.desk)) == []


def test_what_came_back_after_its_removal_is_found(ward: Attic) -> None:
    """As a power cut, or a back-up that is restored, may bring it back."""
    ward.tell()
    (path,) = [row for row in ward.files() if row.rsplit("/", 1)[1].startswith(row.split("/")[0])]
    data = ward.archive.read(path)
    ward.clock.forward(2 * DAY)
    ward.turn()
    ward.archive.absolute(path).write_bytes(data)
    make_old(ward)
    assert [found.path for found in unnamed.find(ward.desk)] == [path]


def test_an_archive_that_is_away_is_not_looked_through(ward: Attic) -> None:
    ward.archive.root.rename(ward.archive.root.with_name("away"))
    with pytest.raises(retention.ArchiveAway):
        list(unnamed.find(ward.desk))
