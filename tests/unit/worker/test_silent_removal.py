"""A bucket that reads and writes, and does not answer who removes: nobody waits for it long."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.clearance import walk
from dicom_node.object_archive import ObjectArchive
from dicom_node.object_clearance import NOTHING
from dicom_node.objects import StoreAway
from dicom_node.s3 import s3_objects
from tests.buckets import BUCKET, CREDENTIALS, Gate, gate, s3
from tests.keeping import Attic, Transactions
from worker import erasing, removing
from worker.tables import Instance, Removal, Study

SILENT = "does not answer in time"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Gate]:
    with s3() as store, gate(store) as made:
        store.make_bucket(BUCKET)
        yield made


@pytest.fixture
def ward(
    tmp_path: Path,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    bucket: Gate,
) -> Attic:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("dicom_node.s3._READ_S", 600)  # whoever waits for that waits too long
    monkeypatch.setattr("dicom_node.s3._TRIES", 1)
    monkeypatch.setattr(removing, "ANSWER_S", 1.0)

    def in_bucket(_: Path) -> ObjectArchive:
        root = f"{BUCKET}/{uuid.uuid4().hex}"
        made = ObjectArchive("s3", s3_objects(root, bucket.endpoint), tmp_path / "spool")
        made.make()
        return made

    monkeypatch.setattr("tests.ward.Archive", in_bucket)
    return Attic(tmp_path, sqlite_sessions)


def erase(ward: Attic) -> str:
    (row,) = ward.all(Study)
    (told,) = erasing.erase(
        ward.desk, [row], "anna", "asked for", ward.write_down, even_if_owed=True
    )
    _, _, why = told
    return why


@pytest.fixture(autouse=True)
def _keeping_back(ward: Attic, bucket: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ward.store("1.2.3", "1.2.3.4")
    bucket.opened.clear()
    bucket.kept_back = {"DELETE"}
    yield
    answer(bucket, monkeypatch)
    bucket.on_request = lambda *_: None


def answer(bucket: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "ANSWER_S", 60.0)  # this machine may be slow
    bucket.kept_back = set()
    bucket.opened.set()


def test_a_removal_that_is_not_answered_lets_go_of_the_row_and_is_done_later(
    ward: Attic, bucket: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SILENT in erase(ward)
    (row,) = ward.all(Instance)
    assert row.path, "it may be there still"
    with ward.sessions() as session, session.begin():  # nobody else has it
        session.execute(update(Study).values(accession_number="later"))
    answer(bucket, monkeypatch)
    assert ward.keeper.finish_begun() > 0
    assert [found.path for found in walk(ward.archive)] == []
    assert all(row.finished_at for row in ward.all(Removal))


def test_after_that_the_store_is_asked_to_remove_nothing_before_a_row_is_held(
    ward: Attic, bucket: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SILENT in erase(ward)
    transactions, asked = Transactions(ward.sessions), list[tuple[str, bool]]()

    def note(method: str, path: str) -> None:
        if method == "DELETE":
            asked.append((path.rpartition("/")[2], bool(transactions.open)))

    answer(bucket, monkeypatch)
    bucket.on_request = note
    assert ward.keeper.finish_begun() > 0
    (nothing, was_held), (_, is_held) = asked
    assert nothing == NOTHING
    assert (was_held, is_held) == (False, True)


def test_while_it_stays_silent_nothing_else_is_removed(
    ward: Attic, bucket: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SILENT in erase(ward)

    def stays_silent(path: str, within_s: float | None = None) -> None:
        assert path == NOTHING
        raise StoreAway(errno.EIO, "the object store cannot be used now")

    monkeypatch.setattr(ward.archive.objects, "remove", stays_silent)
    for _ in range(2):
        assert ward.keeper.finish_begun() == 0
