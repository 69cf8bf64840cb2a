import errno
import hashlib
import os
import stat
import time

import pytest

from dicom_node import durable
from dicom_node.archive import MARK, Archive, is_valid_uid
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
    before = archive.absolute(first.path).stat().st_ino
    assert archive.write(STUDY, SOP, b"same") == first
    assert archive.absolute(first.path).stat().st_ino == before


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
    monkeypatch.setattr(
        os, "replace", lambda *names, **at: (events.append("rename"), replace(*names, **at))[1]
    )
    archive.write(STUDY, SOP, b"data")
    assert events == ["fsync file", "rename", "fsync folder", "fsync folder"]
    events.clear()
    archive.write(STUDY, "1.2.3.5", b"the study folder is known to be durable")
    assert events == ["fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize(
    "uid", ["", "..", ".", "1..2", "../1", "1.2/3", "1.2\n", "a", "1" * 65, "1.2\0.3", "1.02", "00"]
)
def test_a_uid_that_is_no_name_is_refused(archive, uid):
    assert not is_valid_uid(uid)
    with pytest.raises(InvalidInstance):
        archive.write(STUDY, uid, b"")
    with pytest.raises(InvalidInstance):
        archive.write(uid, SOP, b"")
    assert [path.name for path in archive.root.iterdir()] == [MARK]


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "1.2.3/../../secret"])
def test_a_path_that_leads_out_of_the_archive_is_refused(archive, path):
    with pytest.raises(ValueError, match="leads out"):
        archive.read(path)


def test_nothing_is_written_when_the_reserve_would_be_touched(tmp_path):
    archive = Archive(tmp_path, reserve_bytes=1 << 62)
    with pytest.raises(OSError, match="No space") as error:
        archive.write(STUDY, SOP, b"data")
    assert error.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.rglob("*")] == [MARK]


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
    of_the_mark = archive.root / ".mark.partial"
    of_the_mark.touch()
    os.utime(of_the_mark, (time.time() - 7200,) * 2)
    assert archive.remove_partial() == 2
    assert new.exists()
    assert not old.exists()
    assert archive.is_there()


def test_partial_files_that_cannot_be_removed_harm_nobody(archive, monkeypatch):
    archive.write(STUDY, SOP, b"data")
    partial = archive.root / STUDY / ".old.partial"
    partial.touch()
    os.utime(partial, (time.time() - 7200,) * 2)

    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as read_only:
        read_only.setattr(os, "unlink", fail)
        assert archive.remove_partial() == 0
    assert archive.remove_partial() == 1


# --- the mark --------------------------------------------------------------------------------


def unmount(archive):
    """Leave what an unmounted disk leaves: its mount point, empty."""
    disk = archive.root.rename(archive.root.with_name("disk"))
    archive.root.mkdir()

    def mount():
        archive.root.rmdir()  # fails where something was written
        disk.rename(archive.root)

    return mount


def test_nothing_is_written_to_the_mount_point_of_a_disk_that_is_away(archive):
    stored = archive.write(STUDY, SOP, b"data")
    mount = unmount(archive)
    assert not archive.is_there()
    for write in (
        lambda: archive.write(STUDY, SOP, b"data"),
        lambda: archive.write(STUDY, "1.2.3.5", b"more"),
        lambda: archive.quarantine(stored.path),
    ):
        with pytest.raises(OSError, match="is its disk mounted") as error:
            write()
        assert error.value.errno == errno.ENODEV
        assert str(archive.root) not in error.value.strerror
    mount()
    assert archive.is_there()
    assert archive.write(STUDY, SOP, b"data") == stored


def test_a_folder_that_is_not_there_at_all_is_away_too_and_is_not_made(archive):
    away = archive.root.rename(archive.root.with_name("away"))
    with pytest.raises(OSError, match="is its disk mounted"):
        archive.write(STUDY, SOP, b"data")
    assert not archive.root.exists()
    away.rename(archive.root)
    archive.write(STUDY, SOP, b"data")


def test_a_disk_that_is_unmounted_while_it_is_written_to_gets_all_of_it(archive, monkeypatch):
    replace, mounts = os.replace, []

    def replace_and_unmount(*names, **at):
        mounts.append(unmount(archive))
        replace(*names, **at)

    with monkeypatch.context() as late:
        late.setattr(os, "replace", replace_and_unmount)
        stored = archive.write(STUDY, SOP, b"data")
    mounts[0]()
    assert archive.read(stored.path) == b"data"


def test_an_archive_that_is_not_to_be_made_is_left_alone(tmp_path):
    archive = Archive(tmp_path / "archive", make=False)
    with pytest.raises(OSError, match="is its disk mounted"):
        archive.write(STUDY, SOP, b"data")
    assert not archive.root.exists()
    archive.make()
    assert archive.is_there()
    archive.write(STUDY, SOP, b"data")


@pytest.mark.parametrize("begin", [Archive.make, Archive.probe])
def test_the_folder_that_it_makes_is_for_its_owner_alone(tmp_path, begin):
    made = Archive(tmp_path / "archive")
    begin(made)
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o700


def test_a_folder_that_is_there_keeps_its_mode(tmp_path):
    there = tmp_path / "archive"
    there.mkdir()
    there.chmod(0o750)
    Archive(there).make()
    assert stat.S_IMODE(there.stat().st_mode) == 0o750


def test_a_mark_that_is_there_is_not_written_again(archive):
    before = (archive.root / MARK).stat()
    Archive(archive.root).make()
    assert (archive.root / MARK).stat() == before


def test_free_space_is_told_in_bytes(archive):
    assert archive.free_bytes() > 0


def test_a_folder_that_was_forgotten_is_only_synced_once_more(tmp_path, monkeypatch):
    settled, synced, fsync = durable.SettledFolders(most=2), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda folder: (synced.append(folder), fsync(folder)))
    with durable.opened(tmp_path) as root:
        for name in ("1", "2", "1", "3", "1", "2"):
            durable.make_within(root, name)
            with durable.opened(name, root) as folder:
                settled.settle(root, name, folder)
    assert len(synced) == 4  # 1, 2, 3, and 2 again
