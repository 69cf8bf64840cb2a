"""The reckoning of the chaos run: it must find what is wrong, or its silence says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset

from tests import datasets
from tests.chaos.books import Books
from tests.chaos.images import digest_of
from tests.chaos.pacs import Store
from tests.chaos.plan import Image
from tests.chaos.reckoning import Evidence, Reckoning, reckon
from tests.chaos.senders import Acknowledged
from worker.states import DeliveryState, JobKind, JobState, StudyState
from worker.tables import Delivery, Instance, Job, Report, Study

PEER = "PACS@127.0.0.1:104"
STUDY, FIRST, SECOND = "2.25.1", "2.25.1.11", "2.25.1.12"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Scene:
    """One study of two images with one report, in which nothing is wrong."""

    evidence: Evidence

    @property
    def books(self) -> Books:
        return self.evidence.books

    @property
    def archive(self) -> Path:
        return self.evidence.archive

    @property
    def store(self) -> Store:
        return self.evidence.stores[PEER]

    def add_report(self, revision: int, *predecessors: str, about: tuple[str, ...]) -> Report:
        """Write a report, save it and let it arrive."""
        row = Report(
            id=revision, revision=revision, sop_instance_uid=f"2.25.2.{revision}",
            path=f"report-{revision}.dcm",
        )  # fmt: skip
        data = datasets.part10(_report(row, predecessors, about))
        (self.archive / row.path).write_bytes(data)
        self.store.keep(row.sop_instance_uid, data)
        self.books.reports.setdefault(STUDY, []).append(row)
        self.books.deliveries[row.id] = [Delivery(destination=PEER, state=DeliveryState.DELIVERED)]
        return row

    def reckon(self) -> Reckoning:
        return reckon(self.evidence)


def _report(row: Report, predecessors: tuple[str, ...], about: tuple[str, ...]) -> Dataset:
    return datasets.image(
        StudyInstanceUID=STUDY,
        SOPInstanceUID=row.sop_instance_uid,
        InstanceNumber=row.revision,
        PredecessorDocumentsSequence=_references(predecessors),
        CurrentRequestedProcedureEvidenceSequence=_references(about),
    )


def _references(uids: tuple[str, ...]) -> list[Dataset]:
    study, series, instances = Dataset(), Dataset(), []
    for uid in uids:
        instance = Dataset()
        instance.ReferencedSOPInstanceUID = uid
        instances.append(instance)
    series.ReferencedSOPSequence = instances
    study.ReferencedSeriesSequence = [series]
    return [study]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    archive = tmp_path / "archive"
    archive.mkdir()
    acknowledged, rows = [], {}
    for number, uid in enumerate((FIRST, SECOND)):
        path = archive / f"{uid}.dcm"
        path.write_bytes(datasets.part10(datasets.image(SOPInstanceUID=uid, InstanceNumber=number)))
        acknowledged.append(Acknowledged(uid, digest_of(path), "CT1", 1.0))
        rows[uid] = Instance(sop_instance_uid=uid, path=path.name, received_at=NOW)
    study = Study(study_instance_uid=STUDY, state=StudyState.DELIVERED)
    made = Scene(
        Evidence(
            [Image(uid, STUDY, 1, "plain", "") for uid in (FIRST, SECOND)],
            acknowledged,
            Books({STUDY: study}, rows, {FIRST: None, SECOND: None}, {}, {}, []),
            archive,
            {PEER: Store(tmp_path / "store")},
        )
    )
    made.add_report(1, about=(FIRST, SECOND))
    return made


def _is_clean(told: Reckoning) -> bool:
    wrong = told.lost + told.duplicated + told.owed + told.dead_letters
    return not wrong + told.isolated + told.unassessed


def test_nothing_is_wrong_where_nothing_is(scene: Scene) -> None:
    told = scene.reckon()
    assert _is_clean(told)
    assert (told.delivered, told.repeated) == ({"PACS": 1}, 0)


def test_the_same_report_again_is_repeated_and_not_duplicated(scene: Scene) -> None:
    scene.store.keep("2.25.2.1", scene.store.kept()[0].path.read_bytes())
    told = scene.reckon()
    assert _is_clean(told)
    assert told.repeated == 1


def test_a_revision_that_names_the_one_before_is_one_story(scene: Scene) -> None:
    scene.add_report(2, "2.25.2.1", about=(FIRST, SECOND))
    assert _is_clean(scene.reckon())


def _forget_instance(scene: Scene) -> None:
    del scene.books.instances[FIRST]


def _remove_file(scene: Scene) -> None:
    (scene.archive / f"{FIRST}.dcm").unlink()


def _change_file(scene: Scene) -> None:
    path = scene.archive / f"{FIRST}.dcm"
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")


def _forget_report(scene: Scene) -> None:
    scene.books.reports.clear()


def _take_from_store(scene: Scene) -> None:
    scene.store.kept()[0].path.unlink()


def _let_delivery_be_pending(scene: Scene) -> None:
    scene.books.deliveries[1][0].state = DeliveryState.PENDING


@pytest.mark.parametrize(
    "harm",
    [
        _forget_instance,
        _remove_file,
        _change_file,
        _forget_report,
        _take_from_store,
        _let_delivery_be_pending,
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_lost(
    scene: Scene, harm: Callable[[Scene], None]
) -> None:
    harm(scene)
    assert scene.reckon().lost


def _report_less(scene: Scene) -> None:
    scene.add_report(2, "2.25.2.1", about=(FIRST,))


def _report_without_predecessor(scene: Scene) -> None:
    scene.add_report(2, about=(FIRST, SECOND))


def _skip_a_revision(scene: Scene) -> None:
    scene.add_report(3, "2.25.2.1", about=(FIRST, SECOND))


def _send_other_bytes(scene: Scene) -> None:
    data = scene.store.kept()[0].path.read_bytes()
    scene.store.keep("2.25.2.1", data[:-2] + b"\1\1")


def _send_a_stranger(scene: Scene) -> None:
    row = Report(revision=1, sop_instance_uid="2.25.2.9")
    scene.store.keep("2.25.2.9", datasets.part10(_report(row, (), (FIRST, SECOND))))


@pytest.mark.parametrize(
    "harm",
    [
        _report_less,
        _report_without_predecessor,
        _skip_a_revision,
        _send_other_bytes,
        _send_a_stranger,
    ],
)
def test_two_stories_of_a_study_are_duplicated(scene: Scene, harm: Callable[[Scene], None]) -> None:
    harm(scene)
    assert scene.reckon().duplicated


def test_an_instance_that_nobody_was_told_of_is_another_story(scene: Scene) -> None:
    told = reckon(replace(scene.evidence, acknowledged=scene.evidence.acknowledged[:1]))
    assert told.duplicated
    assert told.owed == [f"instance {SECOND} was never stored"]


def test_work_that_is_left_is_owed_or_a_dead_letter(scene: Scene) -> None:
    for state in (JobState.DUE, JobState.DEAD):
        job = Job(kind=JobKind.REPORT, subject_id=1, destination="", state=state, due_at=NOW)
        scene.evidence.books.jobs.append(job)  # type: ignore[attr-defined]
    told = scene.reckon()
    assert len(told.owed) == len(told.dead_letters) == 1


def test_a_good_image_that_was_not_looked_at_is_isolated(scene: Scene) -> None:
    scene.books.reasons.update({FIRST: "WORKER_FAILURE", SECOND: "UNDECODABLE"})
    told = scene.reckon()
    assert len(told.isolated) == len(told.unassessed) == 1
