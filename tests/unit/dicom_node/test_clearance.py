"""Removing files of the archive: those that are named, and those that nobody names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node import durable
from dicom_node.archive import QUARANTINE, Archive
from dicom_node.clearance import (
    EMPTY_S,
    Found,
    files_in,
    remove,
    remove_unnamed,
    sizes_of,
    walk,
)

STUDY, UID = "1.2.3", "1.2.3.4"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def nobody(_: Found) -> bool:
    return False


def make_old(archive: Archive, path: str, seconds: float = 10_000) -> None:
    then = time.time() - seconds
    os.utime(archive.absolute(path), (then, then))


def only(archive: Archive) -> Found:
    (found,) = walk(archive)
    return found


def test_stored_files_are_removed_and_those_that_are_gone_are_no_matter(archive: Archive) -> None:
    paths = [archive.write(STUDY, f"{UID}.{n}", b"x" * n).path for n in (1, 2, 3)]
    assert sum(sizes_of(archive, paths).values()) == 6
    remove(archive, [*paths[:2], "9.9/8.8.0123456789abcdef.dcm"])
    remove(archive, paths[:2])
    assert sum(sizes_of(archive, paths).values()) == 3
    assert [found.path for found in walk(archive)] == paths[2:]


def test_nothing_is_removed_where_the_archive_is_not_mounted(archive: Archive) -> None:
    stored = archive.write(STUDY, UID, b"x")
    (archive.root / ".cxr-worker-archive").unlink()
    with pytest.raises(OSError, match="mounted"):
        remove(archive, [stored.path])
    with pytest.raises(OSError, match="mounted"):
        list(walk(archive))
    assert archive.has(stored.path)


def test_the_walk_finds_every_file_but_the_mark_and_knows_what_is_an_instance(
    archive: Archive,
) -> None:
    first = archive.write(STUDY, UID, b"one").path
    second = archive.quarantine(archive.write(STUDY, UID, b"other").path)
    (archive.root / ".x.partial").write_bytes(b"half")
    found = {each.path: each for each in walk(archive)}
    assert set(found) == {first, second, ".x.partial"}
    assert [each.is_instance for each in found.values()].count(True) == 1
    assert (found[first].study_instance_uid, found[first].sop_instance_uid) == (STUDY, UID)
    assert found[first].size == 3
    assert second.startswith(f"{QUARANTINE}/{STUDY}/")


def test_a_folder_that_has_long_been_empty_is_removed(archive: Archive) -> None:
    stored = archive.write(STUDY, UID, b"x")
    remove(archive, [stored.path])
    assert files_in(archive, STUDY) == []
    assert (archive.root / STUDY).is_dir(), "somebody may remember that it is durable"
    make_old(archive, STUDY, 2 * EMPTY_S)
    assert list(walk(archive)) == []
    assert not (archive.root / STUDY).exists()
    assert archive.write(STUDY, UID, b"x") == stored


def test_a_folder_that_is_removed_as_a_file_is_written_is_made_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = durable.make_within, list[str]()

    def make_and_lose(parent: int, name: str) -> bool:
        found = make(parent, name)
        if not made:
            (archive.root / name).rmdir()
        made.append(name)
        return found

    monkeypatch.setattr(durable, "make_within", make_and_lose)
    stored = archive.write(STUDY, UID, b"x")
    assert made == [STUDY, STUDY]
    assert archive.read(stored.path) == b"x"


def test_an_old_file_that_nobody_names_is_removed(archive: Archive) -> None:
    stored = archive.write(STUDY, UID, b"x")
    assert not remove_unnamed(archive, only(archive), time.time() - 60, nobody)
    make_old(archive, stored.path)
    assert not remove_unnamed(archive, only(archive), time.time() - 60, lambda _: True)
    found = only(archive)
    assert remove_unnamed(archive, found, time.time() - 60, nobody)
    assert not remove_unnamed(archive, found, time.time() - 60, nobody)
    assert list(walk(archive)) == []


Act = Callable[[Archive], None]


def write_again(archive: Archive) -> None:
    archive.write(STUDY, UID, b"x")


def make_young(archive: Archive) -> None:
    """Do what whoever sends it again does, as it had opened the file before that was put aside."""
    (aside,) = (archive.root / STUDY).glob(".*.aside")
    os.utime(aside)


@pytest.mark.parametrize("meanwhile", [write_again, make_young])
def test_a_file_that_is_written_while_it_is_removed_is_there_afterwards(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, meanwhile: Act
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    make_old(archive, stored.path)
    rename = os.rename
    happened = list[bool]()

    def rename_and_go_on(*args: str, **folders: int) -> None:
        rename(*args, **folders)
        if not happened:
            happened.append(True)
            meanwhile(archive)

    found = only(archive)
    monkeypatch.setattr(os, "rename", rename_and_go_on)
    remove_unnamed(archive, found, time.time() - 60, nobody)
    assert happened
    assert archive.read(stored.path) == b"x"
    assert [each.path for each in walk(archive)] == [stored.path]


def test_a_file_that_is_named_while_it_is_removed_is_given_back(archive: Archive) -> None:
    stored = archive.write(STUDY, UID, b"x")
    make_old(archive, stored.path)
    answers = iter([False, True])
    assert not remove_unnamed(archive, only(archive), time.time() - 60, lambda _: next(answers))
    assert archive.has(stored.path)


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_was_left_aside_by_who_died_comes_back_if_it_is_named(
    archive: Archive, named: bool
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    make_old(archive, stored.path)
    folder, _, name = stored.path.rpartition("/")
    (archive.root / stored.path).rename(archive.root / folder / f".{name}.aside")
    found = only(archive)
    assert (found.named, found.sop_instance_uid, found.is_instance) == (stored.path, UID, True)
    assert remove_unnamed(archive, found, time.time() - 60, lambda _: named) is not named
    assert archive.has(stored.path) is named


def test_a_file_that_is_stored_again_is_young_again(archive: Archive) -> None:
    stored = archive.write(STUDY, UID, b"x")
    make_old(archive, stored.path)
    archive.write(STUDY, UID, b"x")
    assert only(archive).written_at > time.time() - 60


def test_a_file_on_a_disk_that_is_read_only_now_is_known_all_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = archive.write(STUDY, UID, b"x")

    def read_only(_: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", read_only)
    assert archive.write(STUDY, UID, b"x") == stored


def test_a_file_whose_name_is_taken_away_as_it_is_stored_again_is_written_anew(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    utime = os.utime

    def utime_and_lose(descriptor: int) -> None:
        utime(descriptor)
        archive.absolute(stored.path).unlink()

    monkeypatch.setattr(os, "utime", utime_and_lose)
    archive.write(STUDY, UID, b"x")
    assert archive.read(stored.path) == b"x"


def test_nobody_remembers_for_long_that_a_folder_is_durable(tmp_path: Path) -> None:
    synced, fsync = list[int](), os.fsync
    settled = durable.SettledFolders(lasting_s=0)
    (tmp_path / "a").mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        durable.opened(tmp_path) as above,
        durable.opened("a", above) as folder,
    ):
        patch.setattr(os, "fsync", lambda each: (synced.append(each), fsync(each))[1])
        settled.settle(above, "a", folder)
        settled.settle(above, "a", folder)
    assert synced == [above, above]
