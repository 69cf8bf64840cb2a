import errno
import hashlib
import os
import stat
import time

import pytest

from dicom_node.archive import Archive, is_valid_uid
from dicom_node.errors import InvalidInstance

STUDY, SOP = "1.2.3", "1.2.3.4"


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "archive")


def test_written_bytes_come_back_with_their_size_and_hash(archive):
    stored = archive.write(STUDY, SOP, b"DICM")
    assert archive.read(stored.path) == b"DICM"
    assert (stored.size, stored.sha256) == (4, hashlib.sha256(b"DICM").hexdigest())
    assert stored.path == f"{STUDY}/{SOP}.{stored.sha256[:16]}.dcm"
    with archive.open(stored.path) as file:
        assert file.read() == b"DICM"


def test_a_memoryview_is_written_like_bytes(archive):
    assert archive.read(archive.write(STUDY, SOP, memoryview(b"DICM")).path) == b"DICM"


def test_the_same_bytes_are_written_once(archive):
    first = archive.write(STUDY, SOP, b"same")
    before = archive.absolute(first.path).stat().st_mtime_ns
    assert archive.write(STUDY, SOP, b"same") == first
    assert archive.absolute(first.path).stat().st_mtime_ns == before


def test_other_bytes_under_the_same_uid_do_not_touch_the_first(archive):
    first, second = archive.write(STUDY, SOP, b"one"), archive.write(STUDY, SOP, b"two")
    assert first.path != second.path
    assert archive.read(first.path) == b"one"


def test_a_damaged_file_is_replaced_by_the_bytes_it_should_hold(archive):
    stored = archive.write(STUDY, SOP, b"whole")
    archive.absolute(stored.path).write_bytes(b"who")
    archive.write(STUDY, SOP, b"whole")
    assert archive.read(stored.path) == b"whole"


def test_file_is_synced_before_it_gets_its_name_and_the_folders_after(archive, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    kind = {True: "folder", False: "file"}

    def note_fsync(descriptor):
        events.append(f"fsync {kind[stat.S_ISDIR(os.fstat(descriptor).st_mode)]}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), replace(*names))[1])
    monkeypatch.setattr(
        "pathlib.Path.replace",
        lambda path, target: os.replace(path, target),  # noqa: PTH105
    )
    archive.write(STUDY, SOP, b"data")
    assert events == ["fsync folder", "fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize(
    "uid", ["", "..", ".", "1..2", "../1", "1.2/3", "1.2\n", "a", "1" * 65, "1.2\0.3", "1.02", "00"]
)
def test_a_uid_that_is_no_name_is_refused(archive, uid):
    assert not is_valid_uid(uid)
    with pytest.raises(InvalidInstance):
        archive.write(STUDY, uid, b"")
    with pytest.raises(InvalidInstance):
        archive.write(uid, SOP, b"")
    assert list(archive.root.iterdir()) == []


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "1.2.3/../../secret"])
def test_a_path_that_leads_out_of_the_archive_is_refused(archive, path):
    with pytest.raises(ValueError, match="leads out"):
        archive.read(path)


def test_nothing_is_written_when_the_reserve_would_be_touched(tmp_path):
    archive = Archive(tmp_path, reserve_bytes=1 << 62)
    with pytest.raises(OSError, match="No space") as error:
        archive.write(STUDY, SOP, b"data")
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.rglob("*")) == []


def test_nothing_stays_behind_when_the_disk_fails(archive, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "disk")

    archive.write(STUDY, "1.2.3.9", b"makes the folder")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk"):
        archive.write(STUDY, SOP, b"data")
    assert [p.name[:7] for p in (archive.root / STUDY).iterdir()] == ["1.2.3.9"]


def test_a_quarantined_file_moves_and_keeps_its_bytes(archive):
    stored = archive.write(STUDY, SOP, b"odd")
    aside = archive.quarantine(stored.path)
    assert aside.startswith("quarantine/")
    assert archive.read(aside) == b"odd"
    assert not archive.absolute(stored.path).exists()


def test_only_stale_partial_files_are_removed(archive):
    archive.write(STUDY, SOP, b"data")
    old, new = (archive.root / STUDY / f".{name}.partial" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    assert archive.remove_partial() == 1
    assert new.exists()
    assert not old.exists()


def test_free_space_is_told_in_bytes(archive):
    assert archive.free_bytes() > 0
