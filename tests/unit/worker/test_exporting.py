"""From readers' verdicts to a folder that the training reads: who is in it, as what, and where."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from model import data, splits
from model.images import read_image
from tests.fakes import NOON, new_uid
from tests.unit.model.tiny import TINY_OPTIONS, chest_like, make_tiny
from tests.ward import Ward, chest
from worker import exporting, ledger, pseudonyms
from worker.consensus import CONTRADICTED, TOO_FEW, UNSURE, agreed
from worker.exporting import REMOVED, UNREADABLE, FolderRefused
from worker.states import Finding, Label, Verdict
from worker.tables import Instance, Study

NORMAL, PNEUMONIA, BACTERIAL, VIRAL = Label


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions)


def receive(ward: Ward, patient: str, pixels: Any = None) -> str:
    """Receive an image and have it answered; give its SOP Instance UID."""
    study = new_uid()
    ds = chest(study, PatientID=patient, **({} if pixels is None else {"pixels": pixels}))
    ward.receive(ds)
    ward.classify()
    return str(ds.SOPInstanceUID)


def say(ward: Ward, uid: str, label: Label | None, person: str = "anna") -> None:
    (instance,) = [row for row in ward.all(Instance) if row.sop_instance_uid == uid]
    study = next(r.study_instance_uid for r in ward.all(Study) if r.id == instance.study_id)
    verdict = Verdict.STATED if label else Verdict.UNSURE
    finding = next(r for r in ward.findings() if r.instance_id == instance.id)
    new = ledger.NewVerdict(
        uid, finding.model_id, finding.finding and Finding(finding.finding), verdict, label, "",
        person,
    )  # fmt: skip
    with ward.sessions() as session, session.begin():
        assert ledger.save_verdict(session, study, new, ward.clock())


def export(ward: Ward, folder: Path, readers: int = 1, **options: Any) -> exporting.Export:
    planned = exporting.plan(ward.desk, options.pop("since", NOON), readers)
    exporting.require_empty(folder)
    return exporting.write(ward.desk, planned, folder, **options)


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpeg"))


# --- what readers share ----------------------------------------------------------------------


def rows(*said: tuple[str, Label | None]) -> list[Any]:
    return [SimpleNamespace(instance_id=1, person=who, label=label) for who, label in said]


@pytest.mark.parametrize(
    ("said", "readers", "label"),
    [
        ([("a", NORMAL)], 1, NORMAL),
        ([("a", PNEUMONIA), ("a", NORMAL)], 1, NORMAL),
        ([("a", PNEUMONIA), ("b", VIRAL)], 2, VIRAL),
        ([("a", BACTERIAL), ("b", VIRAL)], 2, PNEUMONIA),
        ([("a", NORMAL), ("b", None)], 1, NORMAL),
        ([("a", NORMAL), ("b", PNEUMONIA)], 1, CONTRADICTED),
        ([("a", NORMAL), ("b", None)], 2, TOO_FEW),
        ([("a", NORMAL), ("a", NORMAL)], 2, TOO_FEW),
        ([("a", NORMAL), ("a", None)], 1, UNSURE),
    ],
)
def test_an_image_is_what_the_last_words_of_its_readers_share(
    said: list[tuple[str, Label | None]], readers: int, label: Label | str
) -> None:
    found, left_out = agreed(rows(*said), readers)
    assert [each.label for each in found] + list(left_out) == [label]


# --- whose they are --------------------------------------------------------------------------


def test_a_patient_falls_into_the_same_part_in_every_export(tmp_path: Path) -> None:
    key = pseudonyms.key_of(tmp_path)
    assert pseudonyms.key_of(tmp_path) == key
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["key"]
    assert (tmp_path / "export" / "key").stat().st_mode & 0o777 == 0o600
    parts = [pseudonyms.part_of(key, f"P{number}") for number in range(2000)]
    shares = [parts.count(part) / 2000 for part in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.05)
    other = [pseudonyms.part_of(b"another", f"P{number}") for number in range(2000)]
    assert parts != other


def test_numbers_of_patients_say_nothing_of_them() -> None:
    patients = [f"P{number:03d}" for number in range(200)]
    one, two = (pseudonyms.numbered(patients) for _ in range(2))
    assert sorted(one.values()) == list(range(1, 201))
    assert one != two


# --- the folder ------------------------------------------------------------------------------


def test_an_image_is_written_in_full_size_as_the_model_is_served_it(
    ward: Ward, tmp_path: Path
) -> None:
    drawn = np.asarray(chest_like(np.random.default_rng(1), ill=True, side=64), np.uint16) * 16
    uid = receive(ward, "PLANTED-ID", drawn)
    say(ward, uid, BACTERIAL)
    export(ward, tmp_path / "out")
    (path,) = images(tmp_path / "out")
    assert path.parent.name == "BACTERIAL"
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (64, 64))
    (instance,) = ward.all(Instance)
    served = read_image(ward.archive.absolute(instance.path))
    assert np.abs(read_image(path) - served).mean() < 0.02


def test_neither_names_nor_files_tell_who_a_patient_is(ward: Ward, tmp_path: Path) -> None:
    uid = receive(ward, "PLANTED-ID")
    say(ward, uid, NORMAL)
    out = tmp_path / "out"
    export(ward, out)
    told = "".join(str(path) for path in out.rglob("*")).encode()
    told += b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    (study,) = ward.all(Study)
    for word in ("PLANTED-ID", uid, study.study_instance_uid, "ACC1", "Child"):
        assert word.encode() not in told
    assert (out / "manifest.csv").read_text().splitlines()[0] == "file,label"
    assert out.stat().st_mode & 0o077 == 0


def test_uids_are_named_where_somebody_asks_for_them(ward: Ward, tmp_path: Path) -> None:
    uid = receive(ward, "P")
    say(ward, uid, NORMAL)
    export(ward, tmp_path / "out", with_uids=True)
    with (tmp_path / "out" / "manifest.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["sop_instance_uid"]) == ("NORMAL", uid)
    assert (tmp_path / "out" / row["file"]).is_file()


def test_what_readers_do_not_share_or_is_gone_is_left_out_and_counted(
    ward: Ward, tmp_path: Path
) -> None:
    uids = [receive(ward, f"P{number}") for number in range(5)]
    for uid in uids:
        say(ward, uid, NORMAL)
    say(ward, uids[0], PNEUMONIA, "bert")
    say(ward, uids[1], None)
    with ward.sessions() as session, session.begin():
        removed = update(Instance).where(Instance.sop_instance_uid == uids[2])
        session.execute(removed.values(removed_at=NOON, path=""))
    for row in ward.all(Instance):
        if row.sop_instance_uid == uids[3]:
            data = ward.archive.absolute(row.path)
            data.write_bytes(data.read_bytes()[:-500])
    done = export(ward, tmp_path / "out")
    assert dict(done.left_out) == {CONTRADICTED: 1, UNSURE: 1, REMOVED: 1, UNREADABLE: 1}
    assert done.written.total() == len(images(tmp_path / "out")) == 1


def test_only_images_judged_since_a_time_are_written_by_all_that_was_said(
    ward: Ward, tmp_path: Path
) -> None:
    old, young, both = (receive(ward, f"P{number}") for number in range(3))
    say(ward, old, NORMAL)
    say(ward, both, NORMAL)
    since = ward.clock.forward(60)
    say(ward, young, NORMAL)
    say(ward, both, PNEUMONIA, "bert")
    done = export(ward, tmp_path / "out", since=since)
    assert (done.written.total(), done.left_out[CONTRADICTED]) == (1, 1)


def test_a_folder_that_holds_something_is_refused(ward: Ward, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(FolderRefused):
            exporting.require_empty(folder)
    exporting.require_empty(tmp_path / "new" / "folder")
    exporting.require_empty(tmp_path / "new" / "folder")


def test_images_without_a_patient_id_are_of_as_many_patients_as_studies(
    ward: Ward, tmp_path: Path
) -> None:
    for _ in range(3):
        say(ward, receive(ward, ""), NORMAL)
    export(ward, tmp_path / "out")
    assert len({path.stem.partition("_")[0] for path in images(tmp_path / "out")}) == 3


# --- the closed loop -------------------------------------------------------------------------


@pytest.fixture
def judged_set(ward: Ward, tmp_path: Path) -> Path:
    """An export of 16 patients, of each a normal image and one with a pneumonia."""
    key = ward.settings.home / "export" / "key"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"the same parts in every run")
    generator = np.random.default_rng(0)
    for number in range(16):
        for label in (NORMAL, BACTERIAL if number % 2 else VIRAL):
            drawn = chest_like(generator, ill=label is not NORMAL)
            say(ward, receive(ward, f"P{number}", np.asarray(drawn)), label)
    out = tmp_path / "out"
    assert export(ward, out).written.total() == 32
    return out


def test_a_training_finds_the_kinds_and_no_patient_on_two_sides(judged_set: Path) -> None:
    parts = [data.find_examples(part) for part in judged_set.iterdir() if part.is_dir()]
    patients = [{each.patient for each in found} for found in parts]
    assert len(patients) > 1
    assert len(set.union(*patients)) == sum(map(len, patients)) == 16
    train, validation = splits.find_splits(judged_set, 0.3, 0)
    assert data.class_labels(train) == ("normal", "bacterial", "viral")
    assert not {e.patient for e in train} & {e.patient for e in validation}


def test_what_readers_say_becomes_a_model(
    judged_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model import train
    from model.predict import Classifier

    make_tiny(monkeypatch)
    out = tmp_path / "run"
    words = ["--data", str(judged_set), "--out", str(out), "--epochs", "1", *TINY_OPTIONS]
    assert train.main(words) == 0
    classifier = Classifier.load(out / "artifact")
    assert classifier.info.labels == ("normal", "bacterial", "viral")
    assert len(classifier.predict(np.zeros((2, 32, 32)), "ignore")) == 2
