"""Files that the archive has and no row names are taken in as if they had just come."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.keeping import DAY, Attic, age, forget, kept_as_promised
from tests.senders import bytes_of
from worker import adopting
from worker.adopting import Fate
from worker.reading import ArchiveAway
from worker.tables import FindingRow, Instance, Removal, Report, Study


@pytest.fixture
def ward(tmp_path: Path, sessions: sessionmaker[Session]) -> Attic:
    return Attic(tmp_path, sessions, CXR_KEEP_IMAGES_DAYS="1")


def adopt(ward: Attic, *, apply: bool = True) -> list[tuple[str, Fate]]:
    return [
        (each.found.path, each.fate)
        for each in adopting.adopt(ward.desk, write_down=ward.write_down if apply else None)
    ]


def fates(ward: Attic, *, apply: bool = True) -> list[Fate]:
    return sorted(fate for _, fate in adopt(ward, apply=apply))


def test_what_a_database_has_forgotten_is_taken_in_and_reported_in_one_report(ward: Attic) -> None:
    study = ward.tell(3)
    (before,) = ward.all(Report)
    forget(ward)
    age(ward)
    assert fates(ward) == [Fate.ADOPTED] * 3 + [Fate.OURS]
    ward.work(30)
    (after,) = ward.all(Report)
    # The same name: a PACS that has it keeps it once.
    assert (after.sop_instance_uid, after.revision) == (before.sop_instance_uid, 1)
    (row,) = ward.all(Study)
    assert (row.study_instance_uid, row.state) == (study, "DELIVERED")
    assert len(ward.all(FindingRow)) == 3


def test_what_was_taken_in_is_not_taken_in_again(ward: Attic) -> None:
    ward.tell(2)
    forget(ward)
    age(ward)
    adopt(ward)
    assert Fate.ADOPTED not in fates(ward)
    ward.work(30)
    assert Fate.ADOPTED not in fates(ward)


def test_without_apply_it_is_only_told(ward: Attic) -> None:
    ward.tell(2)
    forget(ward)
    age(ward)
    assert fates(ward, apply=False) == [Fate.ADOPTED] * 2 + [Fate.OURS]
    assert ward.all(Instance) == []


def test_an_image_that_came_after_the_back_up_makes_a_revision(ward: Attic) -> None:
    study = ward.tell(1)
    uid = f"{study}.99"
    ward.archive.write(study, uid, bytes_of(study, uid))
    age(ward)
    assert fates(ward) == [Fate.ADOPTED]
    ward.work(30)
    assert [row.revision for row in ward.all(Report)] == [1, 2]
    kept_as_promised(ward)


def test_an_instance_is_entered_with_all_that_reception_enters(ward: Attic) -> None:
    ward.tell(1)
    (before,) = ward.all(Instance)
    forget(ward)
    age(ward)
    adopt(ward)
    (after,) = ward.all(Instance)
    same = ("sop_instance_uid", "sop_class_uid", "series_instance_uid", "transfer_syntax_uid",
            "modality", "path", "size_bytes", "sha256")  # fmt: skip
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_a_file_that_a_node_may_just_be_writing_is_left_to_it(ward: Attic) -> None:
    ward.tell(1)
    forget(ward)
    assert {fate for _, fate in adopt(ward)} == {adopting.Fate.YOUNG}


def test_what_is_not_what_it_is_called_is_left(ward: Attic) -> None:
    study = ward.tell(1)
    (path,) = [row.path for row in ward.all(Instance)]
    forget(ward)
    whole = ward.archive.absolute(path)
    whole.write_bytes(whole.read_bytes()[:-2])
    ward.archive.write(study, f"{study}.8", b"no data set")
    age(ward)
    assert fates(ward) == sorted([Fate.NOT_WHOLE, Fate.NOT_WHOLE, Fate.OURS])
    assert ward.all(Instance) == []


def test_other_bytes_of_a_known_instance_are_left(ward: Attic) -> None:
    study = ward.tell(1)
    uid = f"{study}.1"
    ward.archive.write(study, uid, bytes_of(study, uid, version=7))
    age(ward)
    assert fates(ward) == [Fate.OTHER_BYTES]
    assert len(ward.all(Instance)) == 1


def test_what_was_removed_on_purpose_does_not_come_back_with_an_old_copy(ward: Attic) -> None:
    study = ward.tell(1)
    (path,) = [row.path for row in ward.all(Instance)]
    data = ward.archive.read(path)
    ward.clock.forward(2 * DAY)
    ward.turn()
    (removal,) = ward.all(Removal)
    assert removal.kind == "IMAGES"
    ward.archive.write(study, f"{study}.1", data)
    age(ward, time.time() - removal.begun_at.timestamp() + 60)
    assert fates(ward) == [Fate.REMOVED]


def test_what_is_in_quarantine_is_left(ward: Attic) -> None:
    ward.tell(1)
    (path,) = [row.path for row in ward.all(Instance)]
    forget(ward)
    ward.archive.quarantine(path)
    age(ward)
    assert fates(ward) == [Fate.OURS]


def test_an_archive_that_is_away_is_told(ward: Attic) -> None:
    ward.archive.root.rename(ward.archive.root.with_name("away"))
    with pytest.raises(ArchiveAway):
        adopt(ward)
