"""Real disks that are full or read-only: refused for now, nothing left, and taken when it is well.

Each is a small tmpfs, which takes root to mount.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import SystemRandom

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import MARK, Archive
from dicom_node.storage_scp import RunningNode
from tests.fakes import Bells
from tests.hostile import fresh
from tests.ledgers import Desk
from tests.wire import AC, wired
from worker import database, node
from worker.settings import Settings
from worker.tables import Instance

MB = 1 << 20


def mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip() or done.returncode}")


class Disk:
    """A mounted tmpfs."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        mount("-t", "tmpfs", "-o", f"size={size},mode=755", "cxr-test", path)

    def fill(self, leave: int = 0) -> None:
        """Take all space, but for a little."""
        filling = self.path / "filling"
        with filling.open("ab", buffering=0) as file:
            for size in (MB, 4096):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue
        os.truncate(filling, filling.stat().st_size - leave)

    def free(self) -> None:
        (self.path / "filling").unlink()

    def remount(self, how: str) -> None:
        mount("-o", f"remount,{how}", self.path)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.path], capture_output=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", 24 * MB)
    yield disk
    disk.unmount()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    settings = Settings.from_env(
        {"CXR_HOME": str(tmp_path), "CXR_PORT": "0", "CXR_BIND": "127.0.0.1"}
    )
    running: list[RunningNode] = []

    def start(archive: Archive, sessions: sessionmaker[Session]) -> RunningNode:
        running.append(node.start(settings, archive, sessions, Bells()))
        return running[-1]

    yield start
    for each in running:
        each.shutdown(0)


def statuses(running: RunningNode, count: int) -> list[int | None]:
    """Store instances of 20 kB, each another one, on one association."""
    with wired(running.port) as wire:
        assert wire.associate() == AC
        found = [
            wire.store(fresh(SystemRandom(), ImageComments="x" * 10_000)) for _ in range(count)
        ]
        wire.release()
    return found


def left(archive: Archive) -> list[Path]:
    """List what is in the archive and no stored instance."""
    stored = {*archive.root.glob("*/*.dcm"), archive.root / MARK}
    return [path for path in archive.root.rglob("*") if path.is_file() and path not in stored]


def test_an_archive_at_its_reserve_refuses_for_now_while_there_is_space_for_reports(
    disk: Disk, start: Callable[..., RunningNode], sqlite_sessions: sessionmaker[Session]
) -> None:
    archive, desk = Archive(disk.path / "archive", reserve_bytes=4 * MB), Desk(sqlite_sessions)
    running = start(archive, sqlite_sessions)
    assert statuses(running, 2) == [0x0000] * 2
    disk.fill(leave=4 * MB)
    assert statuses(running, 3) == [0xA700] * 3
    assert archive.free_bytes() > 3 * MB
    assert left(archive) == []
    assert len(desk.all(Instance)) == 2
    Archive(archive.root).write("1.2", "1.2.3", b"a report")
    disk.free()
    assert statuses(running, 2) == [0x0000] * 2
    assert len(desk.all(Instance)) == 4


def test_an_archive_that_is_really_full_refuses_for_now_and_keeps_no_half_files(
    disk: Disk, start: Callable[..., RunningNode], sqlite_sessions: sessionmaker[Session],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    archive, desk = Archive(disk.path / "archive"), Desk(sqlite_sessions)
    running = start(archive, sqlite_sessions)
    disk.fill()
    with caplog.at_level(logging.ERROR):
        assert statuses(running, 3) == [0xA700] * 3
    assert all(line.endswith("No space left on device") for line in caplog.messages)
    assert left(archive) == []
    assert desk.all(Instance) == []
    disk.free()
    assert statuses(running, 3) == [0x0000] * 3
    assert len(desk.all(Instance)) == 3


def test_an_archive_that_became_read_only_refuses_for_now(
    disk: Disk, start: Callable[..., RunningNode], sqlite_sessions: sessionmaker[Session],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    archive, desk = Archive(disk.path / "archive"), Desk(sqlite_sessions)
    running = start(archive, sqlite_sessions)
    assert statuses(running, 1) == [0x0000]
    disk.remount("ro")
    with caplog.at_level(logging.ERROR):
        assert statuses(running, 3) == [0xA700] * 3
    assert all(line.endswith("Read-only file system") for line in caplog.messages)
    assert left(archive) == []
    assert len(desk.all(Instance)) == 1
    start(archive, sqlite_sessions)  # a node that starts meanwhile waits for nothing
    disk.remount("rw")
    assert statuses(running, 3) == [0x0000] * 3


def test_an_archive_whose_disk_is_unmounted_refuses_until_it_is_mounted_again(
    tmp_path: Path, disk: Disk, start: Callable[..., RunningNode],
    sqlite_sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    point = tmp_path / "archive"
    point.mkdir()
    mount("--bind", disk.path, point)
    archive = Archive(point)
    running = start(archive, sqlite_sessions)
    try:
        assert statuses(running, 1) == [0x0000]
        subprocess.run(["umount", point], check=True)
        with caplog.at_level(logging.ERROR):
            assert statuses(running, 2) == [0xA700] * 2
        assert all("is its disk mounted?" in line for line in caplog.messages)
        assert list(point.iterdir()) == []
        mount("--bind", disk.path, point)
        assert statuses(running, 2) == [0x0000] * 2
    finally:
        subprocess.run(["umount", "-l", point], capture_output=True, check=False)


def test_a_database_whose_disk_is_full_acknowledges_nothing_and_recovers(
    tmp_path: Path, disk: Disk, start: Callable[..., RunningNode]
) -> None:
    url = f"sqlite:///{disk.path / 'cxr-worker.sqlite3'}"
    database.upgrade(url)
    engine = database.build_engine(url)
    desk = Desk(database.build_sessions(engine))
    try:
        running = start(Archive(tmp_path / "archive"), desk.sessions)
        assert statuses(running, 1) == [0x0000]
        disk.fill()
        found = statuses(running, 300)  # what SQLite has allotted already may hold a few
        assert set(found) <= {0x0000, 0xA700}
        assert found[-1] == 0xA700
        disk.free()
        assert len(desk.all(Instance)) == 1 + found.count(0x0000)
        assert statuses(running, 3) == [0x0000] * 3
        assert len(desk.all(Instance)) == 4 + found.count(0x0000)
    finally:
        engine.dispose()
