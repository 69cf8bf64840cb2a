"""What is peculiar to an archive in a bucket: a store that fails, and objects that nobody locks."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dicom_node import object_archive
from dicom_node.archive import MARK
from dicom_node.clearance import Found, remove_unnamed, walk
from dicom_node.errors import ConfigurationError
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects, StoreAway
from dicom_node.s3 import s3_objects
from tests.buckets import BUCKET, CREDENTIALS, S3, failing, gate, s3
from tests.e2e.programs import free_port

STUDY, UID = "1.2.3", "1.2.3.4"
LARGE = os.urandom(3 << 20)
LATER = 3600.0


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("dicom_node.s3._TRIES", 1)


@pytest.fixture(scope="module")
def store() -> Iterator[S3]:
    with s3() as made:
        made.make_bucket(BUCKET)
        yield made


@pytest.fixture
def root() -> str:
    return f"{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def archive(store: S3, root: str, tmp_path: Path) -> ObjectArchive:
    made = at(store.endpoint, tmp_path, root)
    made.make()
    return made


def at(endpoint: str, tmp_path: Path, root: str = BUCKET) -> ObjectArchive:
    return ObjectArchive(f"s3://{root}", s3_objects(root, endpoint), tmp_path / "spool")


def nobody(_: Found) -> bool:
    return False


def paths(archive: ObjectArchive) -> list[str]:
    return sorted(found.path for found in walk(archive))


def everything(archive: ObjectArchive) -> list[Callable[[], Any]]:
    path = f"{STUDY}/{UID}.0123456789abcdef.dcm"
    return [
        archive.make,
        lambda: archive.write(STUDY, UID, b"x"),
        lambda: archive.open(path),
        lambda: archive.read(path),
        lambda: archive.has(path),
        lambda: archive.quarantine(path),
        archive.probe,
        lambda: list(walk(archive)),
    ]


# --- a store that fails ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "number"),
    [
        (500, "InternalError", errno.EIO),
        (403, "AccessDenied", errno.EACCES),
        (404, "NoSuchBucket", errno.ENODEV),
    ],
)
def test_an_answer_that_is_an_error_is_told_as_a_disk_would_and_without_what_it_names(
    status: int, code: str, number: int, tmp_path: Path
) -> None:
    with failing(status, code) as endpoint:
        archive = at(endpoint, tmp_path)
        assert not archive.is_there()
        archive._marked_at = time.monotonic()  # else all would fail for the want of it
        for act in everything(archive):
            with pytest.raises(OSError, match=r"store|bucket|No such") as told:
                act()
            assert told.value.errno in (number, errno.ENOENT if status == 404 else number)
            assert "DOE" not in str(told.value.strerror)
            assert "1.2.3" not in str(told.value.strerror)
        with pytest.raises(OSError, match=r"store|bucket") as told:
            archive.write(STUDY, UID, b"x")
        assert told.value.errno == number


def test_a_store_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    archive = at(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert not archive.is_there()
    for act in everything(archive):
        with pytest.raises(OSError, match="object store") as told:
            act()
        assert not isinstance(told.value, FileNotFoundError)


def test_a_bucket_that_does_not_exist_is_named_as_the_reason(store: S3, tmp_path: Path) -> None:
    archive = at(store.endpoint, tmp_path, "no-such-bucket/x")
    with pytest.raises(OSError, match="does not exist") as told:
        archive.make()
    assert told.value.errno == errno.ENODEV


def test_credentials_that_are_missing_are_named_as_the_reason(
    store: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    root = f"{BUCKET}/{uuid.uuid4().hex}"
    with pytest.raises(OSError, match="NoCredentials"):
        at(store.endpoint, tmp_path, root).make()


def test_a_store_that_comes_back_is_written_to_again(tmp_path: Path, root: str) -> None:
    with s3() as store:
        store.make_bucket(BUCKET)
        archive = at(store.endpoint, tmp_path, root)
        archive.make()
        store.stop()
        with pytest.raises(OSError, match="object store"):
            archive.write(STUDY, UID, b"x")
        store.start()
        assert archive.read(archive.write(STUDY, UID, b"x").path) == b"x"


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dicom_node.s3.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"CXR_ARCHIVE.*cxr-worker\[s3\]"):
        s3_objects(f"bucket/{uuid.uuid4().hex}")


# --- what is sent along ----------------------------------------------------------------------


class Noting:
    """A file system that notes how it is written to, and may not know conditions."""

    def __init__(self, is_conditional: bool = True) -> None:
        self.inner = fsspec.filesystem("memory")
        self.is_conditional = is_conditional
        self.puts: list[dict[str, Any]] = []

    def call_s3(self, *_: object, **__: object) -> None:
        raise AssertionError("nothing is listed here")

    def pipe_file(self, path: str, data: bytes, **options: Any) -> None:
        self.puts.append(options)
        if options["mode"] == "create" and not self.is_conditional:
            error = OSError("a header that is not implemented")
            error.response = {"Error": {"Code": "NotImplemented"}}
            raise error
        self.inner.pipe_file(path, data, mode=options["mode"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def noting(tmp_path: Path, *, is_conditional: bool = True) -> tuple[Noting, ObjectArchive]:
    fs = Noting(is_conditional)
    archive = ObjectArchive("memory", Objects(uuid.uuid4().hex, lambda: fs), tmp_path / "spool")
    archive.make()
    fs.puts.clear()
    return fs, archive


def test_the_hash_goes_along_so_that_the_store_holds_it_against_what_came(tmp_path: Path) -> None:
    fs, archive = noting(tmp_path)
    archive.write(STUDY, UID, b"DICM")
    (options,) = fs.puts
    sent = base64.b64decode(options["ChecksumSHA256"])
    assert sent == hashlib.sha256(b"DICM").digest()
    assert options["mode"] == "create"


def test_a_store_that_knows_no_conditions_is_written_to_without(tmp_path: Path) -> None:
    fs, archive = noting(tmp_path, is_conditional=False)
    for n in (1, 2):
        assert archive.read(archive.write(STUDY, f"{UID}.{n}", b"x").path) == b"x"
    assert {each["mode"] for each in fs.puts} == {"overwrite"}


@pytest.mark.parametrize("drafted", [False, True])
def test_hash_and_condition_are_in_the_headers(tmp_path: Path, drafted: bool) -> None:
    puts = list[dict[str, str]]()
    with failing(500, "InternalError", puts) as endpoint:
        archive = at(endpoint, tmp_path)
        archive._marked_at = time.monotonic()
        draft = archive.draft(LARGE)
        with pytest.raises(OSError, match="store"):
            archive.keep(STUDY, UID, draft) if drafted else archive.write(STUDY, UID, LARGE)
        draft.discard()
    sent = base64.b64decode(puts[0]["x-amz-checksum-sha256"])
    assert sent == hashlib.sha256(LARGE).digest()
    assert puts[0]["if-none-match"] == "*"


def test_an_object_beyond_what_one_request_takes_is_refused(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.objects.MOST_BYTES", 10)
    with pytest.raises(OSError, match="too large"):
        archive.write(STUDY, UID, b"x" * 11)


def test_a_large_instance_is_one_request_and_leaves_no_parts(
    archive: ObjectArchive, store: S3
) -> None:
    draft = archive.draft(LARGE[:9])
    draft.write(LARGE[9:])
    stored = archive.keep(STUDY, UID, draft)
    draft.discard()
    assert archive.read(stored.path) == LARGE
    assert "Uploads" not in store.client().list_multipart_uploads(Bucket=BUCKET)


def test_a_draft_has_no_name_so_that_it_goes_with_its_process(archive: ObjectArchive) -> None:
    draft = archive.draft(LARGE)
    assert list(archive.spool.iterdir()) == []
    assert archive.spool.stat().st_mode & 0o077 == 0
    draft.discard()


# --- what is read ----------------------------------------------------------------------------


def test_what_is_written_anew_while_it_is_read_is_no_mixture(archive: ObjectArchive) -> None:
    path = archive.write(STUDY, UID, LARGE).path
    with archive.open(path) as file:
        file.read(1000)
        other = LARGE[::-1]
        archive.objects.put(path, other, hashlib.sha256(other).hexdigest(), anew=False)
        with pytest.raises(StoreAway, match="written anew"):
            file.read()
    assert archive.open(path).read() == other


def test_a_file_that_is_removed_while_it_is_read_is_gone(archive: ObjectArchive) -> None:
    path = archive.write(STUDY, UID, LARGE).path
    with archive.open(path) as file:
        file.read(1000)
        archive.objects.remove(path)
        with pytest.raises(FileNotFoundError):
            file.read()


def test_an_image_takes_two_requests_and_a_whole_file_one(
    store: S3, root: str, tmp_path: Path
) -> None:
    asked = list[str]()
    with gate(store) as through:
        archive = at(through.endpoint, tmp_path, root)
        archive.make()
        path = archive.write(STUDY, UID, LARGE).path
        through.on_request = lambda method, _: asked.append(method)
        with archive.open(path) as file:
            assert file.read(5000) + file.read() == LARGE
        assert asked == ["GET"] * 2
        asked.clear()
        assert archive.read(path) == LARGE
        assert asked == ["GET"]


# --- what is listed --------------------------------------------------------------------------


def test_more_objects_than_a_page_are_all_found(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.objects._PAGE", 3)
    stored = {archive.write(STUDY, f"{UID}.{n}", b"x").path for n in range(1, 8)}
    assert set(paths(archive)) == stored


def test_archives_beside_each_other_in_a_bucket_do_not_see_each_other(
    archive: ObjectArchive, store: S3, root: str, tmp_path: Path
) -> None:
    other = at(store.endpoint, tmp_path, f"{root}-2")
    other.make()
    other.write(STUDY, UID, b"x")
    assert paths(archive) == []


# --- what is removed while it comes again ----------------------------------------------------


def test_who_stores_again_what_was_just_removed_sees_that_it_is_gone(
    archive: ObjectArchive,
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    (found,) = walk(archive)
    archive.write(STUDY, UID, b"x")  # it is there: nothing is written, and no row names it yet
    assert remove_unnamed(archive, found, time.time() + LATER, nobody)
    assert not archive.stays(stored.path)
    archive.write(STUDY, UID, b"x")
    assert archive.stays(stored.path)


def test_what_is_old_is_written_anew_so_that_it_is_left_alone(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    (before,) = walk(archive)
    monkeypatch.setattr(object_archive, "YOUNG_S", -60.0)
    time.sleep(1.1)  # the store tells whole seconds
    archive.write(STUDY, UID, b"x")
    (after,) = walk(archive)
    assert after.written_at > before.written_at
    assert not remove_unnamed(archive, before, after.written_at, nobody)
    assert archive.has(stored.path)


@pytest.mark.parametrize("named", [True, False])
def test_an_object_that_was_left_aside_by_who_died_comes_back_if_it_is_named(
    archive: ObjectArchive, named: bool
) -> None:
    stored = archive.write(STUDY, UID, b"x")
    name = stored.path.rpartition("/")[2]
    archive.objects.copy(stored.path, f"{STUDY}/.{name}.aside")
    archive.objects.remove(stored.path)
    (found,) = walk(archive)
    assert (found.named, found.sop_instance_uid) == (stored.path, UID)
    assert remove_unnamed(archive, found, time.time() - 60, lambda _: named) is not named
    assert paths(archive) == ([stored.path] if named else [])


def test_damaged_bytes_are_replaced_by_those_that_should_be_there(archive: ObjectArchive) -> None:
    stored = archive.write(STUDY, UID, b"whole")
    archive.objects.remove(stored.path)
    archive.objects.put(stored.path, b"other", hashlib.sha256(b"other").hexdigest(), anew=True)
    archive.write(STUDY, UID, b"whole")
    assert archive.read(stored.path) == b"whole"


def test_a_mark_is_asked_for_once_in_a_while(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(STUDY, f"{UID}.1", b"x")
    archive.objects.remove(MARK)
    archive.write(STUDY, f"{UID}.2", b"x")
    monkeypatch.setattr(object_archive, "MARK_GOOD_S", 0.0)
    with pytest.raises(OSError, match=MARK):
        archive.write(STUDY, f"{UID}.3", b"x")
