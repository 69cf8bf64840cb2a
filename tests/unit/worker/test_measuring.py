"""How large a bucket is: it is listed once a day, and what comes in meanwhile is added."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from tests.fakes import new_uid
from tests.keeping import Attic
from tests.light_report import light_reports
from worker import measuring
from worker.measuring import GIGABYTE, LISTED_EVERY, MEASURED_EVERY, Measure, measured
from worker.tables import Instance

Make = Callable[..., Attic]


@pytest.fixture
def listings() -> list[str]:
    return []


@pytest.fixture
def make(
    tmp_path: Path,
    sqlite_sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    listings: list[str],
) -> Make:
    """Make wards of one bucket, whose listings are noted."""
    root = uuid.uuid4().hex
    below = Objects.below

    def noting(objects: Objects, folder: str = ""):
        listings.append(folder)
        return below(objects, folder)

    def in_memory(_: Path) -> ObjectArchive:
        objects = Objects(root, lambda: fsspec.filesystem("memory"))
        made = ObjectArchive("memory", objects, tmp_path / "spool")
        made.make()
        return made

    monkeypatch.setattr("tests.ward.Archive", in_memory)
    monkeypatch.setattr(Objects, "below", noting)
    return lambda **environ: Attic(tmp_path, sqlite_sessions, **environ)


def test_a_bucket_is_listed_once_a_day_and_what_comes_meanwhile_counts(
    make: Make, listings: list[str]
) -> None:
    with light_reports():
        ward = make()
        first = ward.tell()
        image = ward.all(Instance)[0].size_bytes
        limit = measured(ward.desk) + image / 2
        listings.clear()
        limited = make(CXR_ARCHIVE_MAX_GB=f"{limit / GIGABYTE:.12f}")
        limited.turn()
        assert limited.removals() == []
        limited.clock.forward(MEASURED_EVERY.total_seconds() * 5)
        limited.tell()
        limited.turn()
        assert limited.removals() == [("IMAGES", "SPACE", 1)]
        kept = [row.path for row in limited.all(Instance) if row.removed_at is None]
        assert len(kept) == 1
        assert not kept[0].startswith(first)
        assert listings == [""]
        limited.clock.forward(LISTED_EVERY.total_seconds())
        limited.turn()
        assert listings == ["", ""]


def grown(ward: Attic, measure: Measure) -> int:
    """Tell how large it is held to be."""
    measure.go_on(ward.desk)
    return measure.excess(ward.desk) + int(GIGABYTE)


@pytest.fixture
def ward(make: Make, monkeypatch: pytest.MonkeyPatch) -> Attic:
    monkeypatch.setattr(measuring, "WALKED_AT_ONCE", 2)
    made = make(CXR_ARCHIVE_MAX_GB="1")
    for _ in range(3):
        receive(made)
    return made


def receive(ward: Attic) -> None:
    study = new_uid()
    assert ward.store(study, f"{study}.1") == 0


def test_what_comes_while_a_bucket_is_listed_does_not_count_twice(ward: Attic) -> None:
    measure = Measure()
    measure.go_on(ward.desk)
    assert measure.found is None
    receive(ward)
    while measure.found is None:
        measure.go_on(ward.desk)
    assert grown(ward, measure) <= measured(ward.desk)


def test_what_comes_afterwards_is_counted_once_however_much_it_is(ward: Attic) -> None:
    measure = Measure()
    while measure.found is None:
        measure.go_on(ward.desk)
    for _ in range(5):
        receive(ward)
    for _ in range(4):
        size = grown(ward, measure)
    assert size == measured(ward.desk)
