"""The node and the mount point of an archive that is away: it waits, and writes nothing there."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import MARK, Archive
from tests.ledgers import Desk
from tests.nodes import wait_until
from worker import archiving


@pytest.fixture
def desk(sqlite_sessions: sessionmaker[Session]) -> Desk:
    return Desk(sqlite_sessions)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", make=False)


@contextmanager
def waiting(archive: Archive, sessions: object) -> Iterator[threading.Thread]:
    """Wait for the archive in a thread, as the node does when it starts."""
    stopped = threading.Event()
    arguments = (archive, sessions, stopped)
    thread = threading.Thread(target=archiving.wait_for_archive, args=arguments)
    thread.start()
    try:
        yield thread
    finally:
        stopped.set()
        thread.join(30)
        assert not thread.is_alive()


def keep(desk: Desk, archive: Archive, count: int = 1) -> list[str]:
    """Enter instances, and put their files where the database has them."""
    paths = []
    for number in range(1, count + 1):
        path = f"1.2.{number}/1.2.{number}.1.dcm"
        desk.receive(f"1.2.{number}", path=path)
        file = archive.root / path
        file.parent.mkdir(parents=True)
        file.touch()
        paths.append(path)
    return paths


def test_a_first_start_makes_the_archive(desk: Desk, archive: Archive) -> None:
    archiving.wait_for_archive(archive, desk.sessions, threading.Event())
    assert archive.is_there()


def test_an_archive_of_an_earlier_version_gets_its_mark(desk: Desk, archive: Archive) -> None:
    keep(desk, archive)
    archiving.wait_for_archive(archive, desk.sessions, threading.Event())
    assert archive.is_there()


def test_a_few_lost_files_do_not_make_an_archive_a_stranger(desk: Desk, archive: Archive) -> None:
    *_, newest = keep(desk, archive, 3)
    (archive.root / newest).unlink()
    archiving.wait_for_archive(archive, desk.sessions, threading.Event())
    assert archive.is_there()


def test_an_empty_mount_point_is_left_alone_until_the_disk_is_mounted(
    desk: Desk, archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    keep(desk, archive)
    disk = archive.root.rename(archive.root.with_name("disk"))
    archive.root.mkdir()
    with waiting(archive, desk.sessions) as thread:
        wait_until(lambda: caplog.messages)
        thread.join(1.5)  # it looks again meanwhile
        assert thread.is_alive()
        archive.root.rmdir()  # fails if anything was written there
        disk.rename(archive.root)
        thread.join(30)
        assert not thread.is_alive()
    assert archive.is_there()
    (line,) = caplog.messages
    assert line.startswith(
        "waiting for the archive: CXR_ARCHIVE holds nothing of what the database knows; "
        "perhaps its disk is not mounted"
    )
    assert str(archive.root) not in line


def test_a_person_may_begin_anew_by_making_the_mark(desk: Desk, archive: Archive) -> None:
    desk.receive()
    archive.root.mkdir()
    with waiting(archive, desk.sessions) as thread:
        (archive.root / MARK).touch()
        thread.join(30)
        assert not thread.is_alive()


def test_an_archive_that_cannot_be_made_is_waited_for(
    desk: Desk, archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = archive.make

    def fail() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/secret/path")

    monkeypatch.setattr(archive, "make", fail)
    with waiting(archive, desk.sessions) as thread:
        wait_until(lambda: caplog.messages)
        monkeypatch.setattr(archive, "make", make)
        thread.join(30)
        assert not thread.is_alive()
    assert caplog.messages == [
        "waiting for the archive: CXR_ARCHIVE cannot be used: Read-only file system"
    ]


def test_a_database_that_goes_away_meanwhile_is_waited_for(desk: Desk, archive: Archive) -> None:
    asked: list[int] = []

    def sessions() -> Session:
        asked.append(1)
        if len(asked) == 1:
            raise OperationalError("SELECT", {}, OSError())
        return desk.sessions()

    with waiting(archive, sessions) as thread:
        thread.join(30)
        assert not thread.is_alive()
    assert archive.is_there()


def test_a_node_that_is_told_to_end_does_not_go_on_waiting(desk: Desk, archive: Archive) -> None:
    desk.receive()
    with waiting(archive, desk.sessions):
        pass
    assert not archive.root.exists()


def test_who_waits_for_the_archive_says_that_it_turns(desk: Desk, archive: Archive) -> None:
    keep(desk, archive)
    archive.root.rename(archive.root.with_name("disk"))
    stopped = threading.Event()
    archiving.wait_for_archive(archive, desk.sessions, stopped, stopped.set)
    assert not archive.is_there()
