"""While a study's row is held, nobody waits for a bucket longer than for a few seconds."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.clearance import walk
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.status import Status
from tests.keeping import DAY, Attic, Transactions, kept_as_promised
from worker import adopting, erasing, ledger, removing, retention
from worker.tables import Instance, Removal, Report

ALL = {"CXR_KEEP_IMAGES_DAYS": "1", "CXR_KEEP_REPORTS_DAYS": "1", "CXR_KEEP_RESULTS_DAYS": "1"}


class Asked:
    """A store in memory that notes what it is asked for while a transaction is open."""

    def __init__(self, transactions: Transactions) -> None:
        self.fs = fsspec.filesystem("memory")
        self.transactions = transactions
        self.held, self.names = set[str](), list[str]()
        self.away: Callable[[str], bool] = lambda _: False

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self.fs, name)

        def ask(*args: Any, **options: Any) -> Any:
            self.names.append(name)
            if self.transactions.open:
                self.held.add(name)
            if self.away(name):
                raise OSError("the store is silent")
            return asked(*args, **options)

        return ask if callable(asked) and name in {"info", "cat_file", "pipe_file", "cp_file",
                                                   "rm_file", "find"} else asked  # fmt: skip


class Bucket(Attic):
    """A ward whose archive is a bucket."""

    def files(self) -> set[str]:
        return {found.path for found in walk(self.archive)}


@pytest.fixture
def store(sqlite_sessions: sessionmaker[Session]) -> Asked:
    return Asked(Transactions(sqlite_sessions))


@pytest.fixture
def ward(
    tmp_path: Path,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    store: Asked,
) -> Bucket:
    def in_memory(_: Path) -> ObjectArchive:
        made = ObjectArchive("m", Objects(uuid.uuid4().hex, lambda: store), tmp_path / "spool")
        made.make()
        return made

    monkeypatch.setattr("tests.ward.Archive", in_memory)
    return Bucket(tmp_path, sqlite_sessions, **ALL)


def erase(ward: Bucket) -> list[str]:
    studies = erasing.find(ward.desk, patient_id="PID1")
    told = erasing.erase(
        ward.desk, studies, "somebody", "asked for", ward.write_down, even_if_owed=True
    )
    return [why for _, _, why in told]


def grow_old(ward: Bucket) -> None:
    ward.clock.forward(2 * DAY)
    ward.turn()


@pytest.mark.parametrize("happens", [erase, grow_old])
def test_the_store_is_asked_for_nothing_but_removal_while_a_row_is_held(
    ward: Bucket, store: Asked, happens: Callable[[Bucket], object]
) -> None:
    ward.tell(3)
    store.held.clear()
    happens(ward)
    assert ward.files() == set()
    assert store.held == {"rm_file"}


def test_the_store_is_not_asked_for_what_comes_again_before_that_is_committed(
    ward: Bucket, store: Asked
) -> None:
    study = ward.tell(2)
    ward.clock.forward(2 * DAY)
    with ward.sessions() as session, session.begin():
        ledger.begin_erasure(session, 1, "somebody", "asked for", ward.clock(), lambda _: 0)
    store.held.clear()
    assert ward.store(study, f"{study}.1") == Status.OUT_OF_RESOURCES
    assert store.held == set()
    ward.keeper.finish_begun()
    store.held.clear()
    assert ward.store(study, f"{study}.1") == 0
    assert store.held == set()
    ward.work(30)
    kept_as_promised(ward)


def test_files_go_one_by_one_where_that_takes_long(
    ward: Bucket, store: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.tell(3)
    gone = list[int]()
    save_gone = ledger.save_gone

    def note(session: Session, removal: Removal, paths: list[str]) -> None:
        gone.append(len(paths))
        save_gone(session, removal, paths)

    monkeypatch.setattr(removing, "HELD_S", -1.0)
    monkeypatch.setattr(ledger, "save_gone", note)
    assert erase(ward) == [""]
    assert gone == [1, 1, 1, 1]
    assert ward.files() == set()


def test_what_went_before_the_store_fell_silent_is_noted_and_the_rest_goes_later(
    ward: Bucket, store: Asked
) -> None:
    ward.tell(3)
    store.names.clear()
    store.away = lambda name: name == "rm_file" and store.names.count("rm_file") > 2
    (why,) = erase(ward)
    assert "cannot be used" in why
    assert sorted(row.path == "" for row in ward.all(Instance)) == [False, True, True]
    store.away = lambda _: False
    ward.turn()
    assert ward.files() == set()
    assert all(row.finished_at for row in ward.all(Removal))


def test_a_silent_store_is_asked_for_one_size_and_never_while_a_row_is_held(
    ward: Bucket, store: Asked
) -> None:
    study = ward.tell()
    assert ward.store(study, f"{study}.2") == 0
    ward.work(30)
    assert len(ward.all(Report)) == 2
    store.names.clear()
    store.held.clear()
    store.away = lambda _: True
    assert removing.sizes(ward.desk, 1)([row.path for row in ward.all(Report)]) == 0
    assert store.names == ["info"]
    (why,) = erase(ward)
    assert "cannot be used" in why
    assert store.held == set()


def test_the_store_is_not_asked_while_what_it_has_is_taken_in(
    ward: Bucket, store: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ward.tell()
    data = ward.archive.read(ward.all(Instance)[0].path)
    ward.clock.forward(2 * DAY)
    images = next(rule for rule in retention.rules(ward.desk) if rule.kind == "IMAGES")
    assert retention.take(ward.desk, images, 1, "somebody") is not None
    ward.archive.write(study, f"{study}.1", data)
    monkeypatch.setattr(adopting, "YOUNG_S", -60.0)
    store.held.clear()
    (taken,) = adopting.adopt(ward.desk, write_down=ward.write_down, also_removed=True)
    assert taken.fate is adopting.Fate.ADOPTED
    assert store.held == set()
