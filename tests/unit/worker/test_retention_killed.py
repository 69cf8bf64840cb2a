"""Whoever removes something is killed at each of its moments: nothing is lost, nothing is left."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node import clearance
from tests import ledgers
from tests.crashes import Moments, killed_at
from tests.fakes import new_uid
from tests.keeping import DAY, Attic, kept_as_promised
from tests.light_report import light_reports
from worker import erasing, removing
from worker.tables import Instance, Removal, Study

pytestmark = pytest.mark.timeout(1200)

ALL = {"CXR_KEEP_IMAGES_DAYS": "2", "CXR_KEEP_REPORTS_DAYS": "3", "CXR_KEEP_RESULTS_DAYS": "4"}


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Attic]:
    # A process dies here, and no power fails.
    with light_reports(), patch.object(os, "fsync", lambda _: None):
        yield Attic(tmp_path, sessions, **ALL)


def grow_old(ward: Attic) -> None:
    for _ in range(2):
        ward.clock.forward(2.5 * DAY)
        ward.keeper.turn()


def erase(ward: Attic) -> None:
    studies = erasing.find(ward.desk, patient_id="PID1")
    for _ in erasing.erase(
        ward.desk, studies, "somebody", "asked for it", ward.write_down, even_if_owed=True
    ):
        pass


def promised_are_there(ward: Attic, moments: Moments) -> None:
    missing = ward.promised() - ward.files()
    assert not missing, f"after {moments.where}"


def file_by_file(moments: Moments) -> AbstractContextManager[Any]:
    """Remove files as the archive does, with a moment before and after each."""

    def remove(archive: Any, paths: Any, within_s: float | None = None) -> None:
        for path in paths:
            moments.pass_by(f"about to remove {path}")
            clearance.remove(archive, [path], within_s)
            moments.pass_by(f"has removed {path}")

    return patch.object(removing, "remove", remove)


@pytest.mark.parametrize("what", [grow_old, erase])
def test_killed_at_any_moment_it_is_finished_by_whoever_comes_next(
    ward: Attic, what: Callable[[Attic], None]
) -> None:
    for count in itertools.count():
        ledgers.empty(ward.sessions)
        ward.keeper = type(ward.keeper)(ward.desk)
        ward.tell(2)
        with killed_at(ward, count) as moments, file_by_file(moments):
            what(ward)
        promised_are_there(ward, moments)
        what(ward)
        ward.turn()
        assert ward.files() == set(), f"after {moments.where}"
        assert ward.all(Study) == [], f"after {moments.where}"
        assert all(row.finished_at for row in ward.all(Removal))
        if moments.where is None:
            break
    assert count > 20


@pytest.mark.parametrize("what", [grow_old, erase])
def test_what_comes_again_at_any_moment_of_a_removal_is_kept(
    ward: Attic, what: Callable[[Attic], None]
) -> None:
    """The sender repeats an instance after whoever removed it was killed, and before the next."""
    for count in itertools.count():
        ledgers.empty(ward.sessions)
        ward.keeper = type(ward.keeper)(ward.desk)
        study = ward.tell(2, new_uid())
        with killed_at(ward, count) as moments, file_by_file(moments):
            what(ward)
        assert ward.store(study, f"{study}.1") == 0
        promised_are_there(ward, moments)
        ward.keeper.finish_begun()
        ward.work(30)
        rows = {row.sop_instance_uid: row for row in ward.all(Instance)}
        kept = rows[f"{study}.1"]
        assert kept.removed_at is None, f"after {moments.where}"
        assert ward.archive.has(kept.path), f"after {moments.where}"
        assert ward.all(Study)[0].state == "DELIVERED", f"after {moments.where}"
        kept_as_promised(ward)
        for path in ward.files():
            ward.archive.absolute(path).unlink()
        if moments.where is None:
            break
    assert count > 20
