"""What every archive promises, in a folder, in memory, and in a bucket over HTTP."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.archive import MARK, QUARANTINE, Archive
from dicom_node.clearance import Found, files_in, remove, remove_unnamed, sizes_of, walk
from dicom_node.errors import InvalidInstance
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.remote import START
from dicom_node.s3 import s3_objects
from dicom_node.store import Store
from tests.buckets import BUCKET, CREDENTIALS, S3, s3
from tests.datasets import image, part10

STUDY, UID = "1.2.3", "1.2.3.4"
LARGE = bytes(range(256)) * (12 << 10)  # 3 MB: it is drafted, and read in two steps
LATER = 3600.0


@pytest.fixture(scope="module")
def store() -> Iterator[S3]:
    with s3() as made:
        made.make_bucket(BUCKET)
        yield made


def in_folder(tmp_path: Path, _: S3) -> Callable[[], Store]:
    return lambda: Archive(tmp_path / "archive", make=False)


def in_memory(tmp_path: Path, _: S3) -> Callable[[], Store]:
    root = f"/{uuid.uuid4().hex}"
    objects = Objects(root, lambda: fsspec.filesystem("memory"))
    return lambda: ObjectArchive("memory", objects, tmp_path / "spool")


def in_bucket(tmp_path: Path, store: S3) -> Callable[[], Store]:
    root = f"{BUCKET}/{uuid.uuid4().hex}"
    objects = s3_objects(root, store.endpoint)
    return lambda: ObjectArchive(f"s3://{root}", objects, tmp_path / "spool")


@pytest.fixture(params=[in_folder, in_memory, in_bucket])
def build(
    request: pytest.FixtureRequest, tmp_path: Path, store: S3, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Store]:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    return request.param(tmp_path, store)


@pytest.fixture
def archive(build: Callable[[], Store]) -> Store:
    made = build()
    made.make()
    return made


def paths(archive: Store) -> list[str]:
    return sorted(found.path for found in walk(archive))


def nobody(_: Found) -> bool:
    return False


def drafted(archive: Store, data: bytes):
    draft = archive.draft(data[:100])
    draft.write(data[100:])
    return draft


# --- writing ---------------------------------------------------------------------------------


def test_written_bytes_come_back_with_their_size_and_hash(archive: Store) -> None:
    stored = archive.write(STUDY, UID, b"DICM")
    assert (stored.size, stored.sha256) == (4, hashlib.sha256(b"DICM").hexdigest())
    assert stored.path == f"{STUDY}/{UID}.{stored.sha256[:16]}.dcm"
    assert archive.has(stored.path)
    assert archive.size(stored.path) == 4
    assert archive.read(stored.path) == b"DICM"
    with archive.open(stored.path) as file:
        assert file.read() == b"DICM"


def test_the_same_bytes_are_written_once(archive: Store) -> None:
    first = archive.write(STUDY, UID, b"same")
    assert archive.write(STUDY, UID, memoryview(b"same")) == first
    assert archive.stays(first.path)
    assert paths(archive) == [first.path]


def test_other_bytes_under_the_same_uid_do_not_touch_the_first(archive: Store) -> None:
    first, second = archive.write(STUDY, UID, b"one"), archive.write(STUDY, UID, b"two")
    assert first.path != second.path
    assert archive.read(first.path) == b"one"


def test_many_threads_that_write_the_same_agree(archive: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(lambda _: archive.write(STUDY, UID, b"same"), range(16)))
    assert len(set(stored)) == 1
    assert archive.read(stored[0].path) == b"same"


@pytest.mark.parametrize("uid", ["", "..", "../1", "1.2/3", "1.2\n", "a", "1" * 65, "1.2\0.3"])
def test_a_uid_that_is_no_name_is_refused(archive: Store, uid: str) -> None:
    with pytest.raises(InvalidInstance):
        archive.write(STUDY, uid, b"x")
    with pytest.raises(InvalidInstance):
        archive.write(uid, UID, b"x")
    assert paths(archive) == []


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "1.2.3/../../secret"])
def test_a_path_that_leads_out_of_the_archive_is_refused(archive: Store, path: str) -> None:
    for act in (archive.read, archive.open, archive.has, archive.size):
        with pytest.raises(ValueError, match="leads out"):
            act(path)


def test_what_was_drafted_is_stored_under_the_name_of_its_bytes(
    archive: Store, tmp_path: Path
) -> None:
    draft = drafted(archive, LARGE)
    stored = archive.keep(STUDY, UID, draft)
    draft.discard()
    assert stored == archive.write(STUDY, UID, LARGE)
    assert archive.read(stored.path) == LARGE
    assert [each.name for each in tmp_path.rglob("*.partial")] == []


def test_a_draft_that_is_not_kept_leaves_nothing(archive: Store, tmp_path: Path) -> None:
    drafted(archive, LARGE).discard()
    assert paths(archive) == []
    assert list(tmp_path.rglob("*.partial")) == []


def test_what_was_drafted_and_is_there_already_is_written_once(archive: Store) -> None:
    for _ in range(2):
        draft = drafted(archive, LARGE)
        stored = archive.keep(STUDY, UID, draft)
        draft.discard()
    assert paths(archive) == [stored.path]


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, START - 1, START, START + 1, len(LARGE)])
def test_a_file_is_read_in_parts_from_wherever(archive: Store, size: int) -> None:
    data = LARGE[:size]
    with archive.open(archive.write(STUDY, UID, data).path) as file:
        assert file.read(1) == data[:1]
        assert file.seek(0, os.SEEK_END) == size
        file.seek(size // 2)
        assert file.read() == data[size // 2 :]
        assert file.read() == b""
        file.seek(0)
        assert file.read(size + 5) == data
        assert file.tell() == size


def test_a_header_and_an_image_are_read_as_from_a_disk(archive: Store) -> None:
    ds = image(np.arange(1 << 19, dtype=np.uint16).reshape(1 << 9, 1 << 10))
    stored = archive.write(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID), part10(ds))
    with archive.open(stored.path) as file:
        assert dcmread(file, stop_before_pixels=True).SOPInstanceUID == ds.SOPInstanceUID
    with archive.open(stored.path) as file:
        assert dcmread(file).PixelData == ds.PixelData


def test_what_is_not_there_is_told_as_such(archive: Store) -> None:
    path = f"{STUDY}/{UID}.0123456789abcdef.dcm"
    assert not archive.has(path)
    for act in (archive.read, archive.open, archive.size):
        with pytest.raises(FileNotFoundError):
            act(path)


def test_a_stored_file_can_be_sent(archive: Store) -> None:
    source = archive.source(archive.write(STUDY, UID, b"DICM").path)
    assert (source.read_bytes() if isinstance(source, Path) else source()) == b"DICM"


# --- the mark --------------------------------------------------------------------------------


def test_without_its_mark_it_is_not_the_archive_and_nothing_is_written(
    build: Callable[[], Store], tmp_path: Path
) -> None:
    archive = build()
    (tmp_path / "archive").mkdir()
    assert not archive.is_there()
    with pytest.raises(OSError, match=MARK):
        archive.write(STUDY, UID, b"x")
    with pytest.raises(OSError, match=MARK):
        archive.draft(b"x")
    with pytest.raises(OSError, match=MARK):
        list(walk(archive))
    with pytest.raises(OSError, match=MARK):
        remove(archive, [f"{STUDY}/x.dcm"])
    archive.make()
    assert archive.is_there()
    assert archive.write(STUDY, UID, b"x")


def test_a_mark_that_is_there_is_no_matter(archive: Store, build: Callable[[], Store]) -> None:
    stored = archive.write(STUDY, UID, b"x")
    build().make()
    assert build().read(stored.path) == b"x"


def test_a_probe_leaves_nothing(archive: Store) -> None:
    archive.probe()
    assert paths(archive) == []


# --- moving and removing ---------------------------------------------------------------------


def test_a_quarantined_file_moves_and_keeps_its_bytes(archive: Store) -> None:
    stored = archive.write(STUDY, UID, b"odd")
    aside = archive.quarantine(stored.path)
    assert aside == f"{QUARANTINE}/{stored.path}"
    assert archive.read(aside) == b"odd"
    assert not archive.has(stored.path)
    assert archive.quarantine(stored.path) == aside


def test_what_is_not_there_cannot_be_quarantined(archive: Store) -> None:
    archive.write(STUDY, f"{UID}.5", b"the study is there")
    with pytest.raises(FileNotFoundError):
        archive.quarantine(f"{STUDY}/{UID}.0123456789abcdef.dcm")


def test_stored_files_are_removed_and_those_that_are_gone_are_no_matter(archive: Store) -> None:
    stored = [archive.write(STUDY, f"{UID}.{n}", b"x" * n).path for n in (1, 2, 3)]
    assert sum(sizes_of(archive, stored).values()) == 6
    remove(archive, [*stored[:2], "9.9/8.8.0123456789abcdef.dcm"])
    remove(archive, stored[:2])
    assert sum(sizes_of(archive, stored).values()) == 3
    assert paths(archive) == stored[2:]


def test_the_walk_finds_every_file_but_the_mark(archive: Store) -> None:
    first = archive.write(STUDY, UID, b"one").path
    second = archive.quarantine(archive.write(STUDY, UID, b"other").path)
    found = {each.path: each for each in walk(archive)}
    assert set(found) == {first, second}
    assert [found[first].is_instance, found[second].is_instance] == [True, False]
    assert found[first].size == 3
    assert abs(found[first].written_at - time.time()) < 600
    assert [each.path for each in files_in(archive, STUDY)] == [first]
    assert [each.path for each in files_in(archive, f"{QUARANTINE}/{STUDY}")] == [second]
    assert files_in(archive, "9.9") == []


def test_a_study_is_not_taken_for_one_whose_uid_only_begins_so(archive: Store) -> None:
    archive.write(f"{STUDY}4", UID, b"other study")
    assert files_in(archive, STUDY) == []


def test_only_an_old_file_that_nobody_names_is_removed(archive: Store) -> None:
    archive.write(STUDY, UID, b"x")
    (found,) = walk(archive)
    assert not remove_unnamed(archive, found, time.time() - LATER, nobody)
    assert not remove_unnamed(archive, found, time.time() + LATER, lambda _: True)
    assert archive.has(found.path)
    assert remove_unnamed(archive, found, time.time() + LATER, nobody)
    assert not remove_unnamed(archive, found, time.time() + LATER, nobody)
    assert paths(archive) == []


def test_a_file_that_is_named_while_it_is_removed_is_given_back(archive: Store) -> None:
    stored = archive.write(STUDY, UID, b"x")
    (found,) = walk(archive)
    answers = iter([False, True])
    assert not remove_unnamed(archive, found, time.time() + LATER, lambda _: next(answers))
    assert archive.read(stored.path) == b"x"
    assert paths(archive) == [stored.path]


# --- the spool -------------------------------------------------------------------------------


def test_a_draft_needs_room_on_its_disk(archive: Store) -> None:
    archive.reserve_bytes = 1 << 62
    draft = drafted(archive, LARGE)
    with pytest.raises(OSError, match="No space"):
        archive.keep(STUDY, UID, draft)
    draft.discard()
    assert paths(archive) == []


def test_free_space_is_told_in_bytes(archive: Store) -> None:
    assert archive.free_bytes() > 1_000_000


def test_only_stale_partial_files_are_removed(archive: Store, tmp_path: Path) -> None:
    drafted(archive, LARGE).discard()
    folder = archive.spool if isinstance(archive, ObjectArchive) else tmp_path / "archive"
    for name, age_s in ((".a.partial", 7200), (".b.partial", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    assert [each.name for each in archive.stale_partial()] == [".a.partial"]
    assert archive.remove_partial() == 1
    assert [each.name for each in folder.glob(".*.partial")] == [".b.partial"]


# --- processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [in_folder, in_bucket], indirect=True)
def test_a_process_that_was_forked_off_writes_and_so_does_the_one_it_came_from(
    archive: Store,
) -> None:
    first = archive.write(STUDY, f"{UID}.1", b"before")
    child = os.fork()
    if child == 0:
        try:
            archive.write(STUDY, f"{UID}.2", archive.read(first.path) + b" and after")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    archive.write(STUDY, f"{UID}.3", b"the parent goes on")
    assert sorted(archive.read(path) for path in paths(archive)) == [
        b"before", b"before and after", b"the parent goes on",
    ]  # fmt: skip
