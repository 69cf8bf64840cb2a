"""An image that comes again while it is removed: Success is for what is there, or it comes later.

In each kind of archive, also in a bucket whose store does not say that an object was there before.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.clearance import remove, walk
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.records import Outcome, Received
from dicom_node.status import Status
from tests.fakes import new_uid
from tests.keeping import DAY, Attic, forget, kept_as_promised
from worker import adopting, erasing, reporting
from worker.tables import Instance, Report, Study

ALL = {"CXR_KEEP_IMAGES_DAYS": "1", "CXR_KEEP_REPORTS_DAYS": "1", "CXR_KEEP_RESULTS_DAYS": "1"}


class Careless:
    """A store that writes over what is there, though it was asked not to."""

    def __init__(self) -> None:
        self._fs = fsspec.filesystem("memory")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def pipe_file(self, path: str, data: bytes, **_: object) -> None:
        self._fs.pipe_file(path, data)


class Shelf(Attic):
    """A ward that lists its files whatever its archive is."""

    def files(self) -> set[str]:
        return {found.path for found in walk(self.archive)}


@pytest.fixture(params=["folder", "bucket", "careless bucket"])
def ward(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> Shelf:
    store = {"bucket": lambda: fsspec.filesystem("memory"), "careless bucket": Careless}

    def in_memory(_: Path) -> ObjectArchive:
        objects = Objects(uuid.uuid4().hex, store[request.param])
        made = ObjectArchive("memory", objects, tmp_path / "spool")
        made.make()
        return made

    monkeypatch.setattr("tests.ward.Archive", Archive if request.param == "folder" else in_memory)
    return Shelf(tmp_path, sqlite_sessions, **ALL)


def erase(ward: Shelf) -> None:
    for study in erasing.find(ward.desk, patient_id="PID1"):
        list(
            erasing.erase(
                ward.desk, [study], "somebody", "asked for", ward.write_down, even_if_owed=True
            )
        )


def grow_old(ward: Shelf) -> None:
    ward.clock.forward(2 * DAY)
    ward.turn()


def just_before_its_row(ward: Shelf, happens: Callable[[Shelf], None]) -> list[Outcome]:
    """Let something happen between an image's file and its row, once; give what came of each."""
    record, outcomes = ward.record, list[Outcome]()

    def after_it(received: Received) -> Outcome:
        if not outcomes:
            happens(ward)
            assert ward.files() == set()
        outcomes.append(record(received))
        return outcomes[-1]

    ward.record = after_it
    return outcomes


@pytest.mark.parametrize("happens", [erase, grow_old])
def test_what_is_removed_with_its_rows_as_it_comes_again_is_stored_once_more(
    ward: Shelf, happens: Callable[[Shelf], None]
) -> None:
    study = ward.tell()
    outcomes = just_before_its_row(ward, happens)
    assert ward.store(study, f"{study}.1") == Status.SUCCESS
    assert outcomes == [Outcome.VANISHED, Outcome.DUPLICATE]
    ward.work(30)
    kept_as_promised(ward)


def test_what_cannot_be_seen_to_stay_is_not_acknowledged(
    ward: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def away(_: object, __: str) -> bool:
        raise OSError(5, "Input/output error")

    study = ward.tell()
    with monkeypatch.context() as patch:
        patch.setattr(type(ward.archive), "has", away)
        assert ward.store(study, f"{study}.1") == Status.OUT_OF_RESOURCES
    assert "Traceback" not in caplog.text
    assert ward.store(study, f"{study}.1") == Status.SUCCESS


def test_a_report_that_is_removed_as_it_is_saved_is_written_once_more(
    ward: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lost = reporting.write_companions, list[str]()

    def write_and_lose(archive: Any, *others: Any) -> Any:
        made = write(archive, *others)
        if not lost:
            images = {row.path for row in ward.all(Instance)}
            lost.extend(ward.files() - images)
            remove(archive, lost)
        return made

    monkeypatch.setattr(reporting, "write_companions", write_and_lose)
    ward.tell()
    assert lost == [row.path for row in ward.all(Report)]
    kept_as_promised(ward)
    assert [row.state for row in ward.all(Study)] == ["DELIVERED"]


def test_a_report_is_saved_though_it_cannot_be_seen_whether_it_stays(
    ward: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: object, __: str) -> bool:
        raise OSError(5, "Input/output error")

    study = new_uid()
    assert ward.store(study, f"{study}.1") == Status.SUCCESS
    monkeypatch.setattr(type(ward.archive), "stays", away)
    ward.work(30)
    assert [row.state for row in ward.all(Study)] == ["DELIVERED"]
    assert "cannot be seen" in caplog.text
    assert "Traceback" not in caplog.text


def test_what_is_removed_as_it_is_taken_in_is_told_of(
    ward: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ward.tell()
    forget(ward)
    monkeypatch.setattr(adopting, "YOUNG_S", -60.0)
    monkeypatch.setattr(type(ward.archive), "stays", lambda *_: False)
    fates = [each.fate for each in adopting.adopt(ward.desk, write_down=ward.write_down)]
    assert sorted(fates) == [adopting.Fate.OURS, adopting.Fate.REMOVED]
    assert "removed just as it was taken in" in caplog.text
