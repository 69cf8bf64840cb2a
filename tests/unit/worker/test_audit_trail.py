"""The file of the audit trail: on the disk before anything is shown, whatever happens to it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.accounts import at_once
from worker.audit import messages
from worker.audit.log_file import LogFile
from worker.audit.messages import Person, StudyOf
from worker.audit.trail import NotRecorded, Trail
from worker.settings import Settings

ANNA = Person("anna", "192.0.2.7")


def viewed(number: int) -> messages.Message:
    return messages.study_viewed(ANNA, StudyOf(f"1.2.{number}", f"P{number}"))


def studies_in(*paths: Path) -> list[int]:
    """Give the numbers of the studies that were viewed, as they stand in files."""
    text = "".join(path.read_text("ascii") for path in paths)
    return [int(number) for number in re.findall(r'ParticipantObjectID="1\.2\.(\d+)"', text)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "audit" / "audit.log"


@pytest.fixture
def trail(path: Path) -> Trail:
    return Trail(path, "CXRWORKER")


def test_each_message_is_a_line_of_a_file_that_only_we_can_read(trail: Trail, path: Path) -> None:
    for number in range(3):
        trail.record(viewed(number))
    assert len(path.read_text().splitlines()) == 3
    assert studies_in(path) == [0, 1, 2]
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert oct(path.parent.stat().st_mode)[-3:] == "700"


def test_a_message_is_on_the_disk_when_it_is_recorded(
    trail: Trail, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    trail.record(viewed(1))
    monkeypatch.setattr(os, "fsync", counted)
    trail.record(viewed(2))
    assert synced == [path.stat().st_size]


def test_what_cannot_be_written_raises_and_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trail = Trail(tmp_path / "file" / "audit.log", "CXRWORKER")
    with pytest.raises(NotRecorded, match=r"CXR_AUDIT_FILE is .*audit\.log") as caught:
        trail.record(viewed(17))
    assert "P17" not in str(caught.value)


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_leaves_no_part_of_a_message(
    trail: Trail, path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    trail.record(viewed(1))
    whole = path.read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes = b"") -> int:
        if fails == "write" and len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, fails, full)
        with pytest.raises(NotRecorded, match="No space left"):
            trail.record(viewed(2))
    assert path.read_bytes() == whole
    trail.record(viewed(3))
    assert studies_in(path) == [1, 3]


def test_several_messages_are_written_together_or_not_at_all(trail: Trail, path: Path) -> None:
    trail.record(viewed(1), viewed(2))
    assert studies_in(path) == [1, 2]
    trail.record()
    assert studies_in(path) == [1, 2]


def test_what_a_dying_process_left_of_a_line_does_not_spoil_the_next(
    trail: Trail, path: Path
) -> None:
    trail.record(viewed(1))
    with path.open("a") as file:
        file.write("<85>1 2026-11-")
    trail.record(viewed(2))
    first, torn, last = path.read_text().splitlines()
    assert torn == "<85>1 2026-11-"
    assert first.endswith("</AuditMessage>")
    assert last.endswith("</AuditMessage>")


def test_after_rotation_a_new_file_is_begun(trail: Trail, path: Path) -> None:
    trail.record(viewed(1))
    rotated = path.rename(path.with_name("audit.log.1"))
    trail.record(viewed(2))
    assert (studies_in(rotated), studies_in(path)) == ([1], [2])
    path.unlink()
    path.touch(0o640)  # as logrotate does with `create`
    trail.record(viewed(3))
    assert studies_in(path) == [3]
    assert oct(path.stat().st_mode)[-3:] == "640", "logrotate's choice is kept"


def test_after_a_truncation_the_file_goes_on_at_its_beginning(trail: Trail, path: Path) -> None:
    trail.record(viewed(1))
    os.truncate(path, 0)  # as logrotate does with `copytruncate`
    trail.record(viewed(2))
    assert studies_in(path) == [2]


def test_a_trail_that_was_closed_can_be_written_to_again(trail: Trail, path: Path) -> None:
    trail.record(viewed(1))
    trail.close()
    trail.close()
    trail.record(viewed(2))
    assert studies_in(path) == [1, 2]


def test_threads_and_trails_write_whole_lines_while_the_file_is_rotated(path: Path) -> None:
    trails = [Trail(path, "CXRWORKER") for _ in range(3)]
    rotated: list[Path] = []

    def write(trail: Trail, start: int) -> None:
        for number in range(start, start + 40):
            trail.record(viewed(number))

    def rotate() -> None:
        for n in range(20):
            if path.exists():
                rotated.append(path.rename(path.with_name(f"audit.log.{n}")))

    told = at_once(*(partial(write, trails[n % 3], n * 40) for n in range(6)), rotate)
    assert told == [None] * 7
    assert sorted(studies_in(*rotated, path)) == list(range(240))
    for each in (*rotated, path):
        assert all(line.endswith("</AuditMessage>") for line in each.read_text().splitlines())


def _write_for_ever(path: str) -> None:
    trail, number = Trail(Path(path), "CXRWORKER"), 0
    while True:
        trail.record(viewed(number))
        number += 1


def test_a_process_that_is_killed_leaves_lines_that_the_next_one_can_follow(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_write_for_ever, args=[str(path)], daemon=True)
    process.start()
    while not path.exists() or path.stat().st_size < 20_000:
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    Trail(path, "CXRWORKER").record(viewed(10**6))
    numbers = studies_in(path)
    assert numbers[-1] == 10**6
    assert numbers[:-1] == list(range(len(numbers) - 1))


def test_the_lock_of_the_file_is_given_back_when_writing_fails(path: Path) -> None:
    one, other = LogFile(path), LogFile(path)
    one.append([b"a"])
    with pytest.raises(TypeError):
        one.append(["not bytes"])  # type: ignore[list-item]
    other.append([b"b"])
    assert path.read_bytes() == b"a\nb\n"


def test_the_trail_of_the_settings_is_in_home(tmp_path: Path) -> None:
    settings = Settings.from_env({"CXR_HOME": str(tmp_path), "CXR_AE_TITLE": "OURS"})
    trail = Trail.of(settings, sends=True)
    trail.record(messages.application_started())
    trail.close()
    assert "AETITLES=OURS" in (tmp_path / "audit" / "audit.log").read_text()
