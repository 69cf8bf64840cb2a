"""Who is whose: by file name, by folder, by header."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model import data
from model.patients import patient_of
from tests.datasets import image, part10


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person12_bacteria_34.jpeg", "person12"),
        ("person12_virus_35_1.jpeg", "person12"),
        ("IM-0007-0001.jpeg", "IM7"),
        ("NORMAL2-IM-0007-0001-0002.jpeg", "IM7"),
        ("00001529_004.jpeg", "nih1529"),
        ("a child.png", "a child"),
    ],
)
def test_the_patient_is_read_from_the_file_name(name, patient):
    assert patient_of(Path(name)) == patient


def test_dicom_says_its_patient_and_nothing_shows_who_it_is(tmp_path):
    for number, patient in enumerate(["SECRET7", "SECRET7", "SECRET8", ""]):
        target = tmp_path / "NORMAL" / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(part10(image(PatientID=patient)))
    examples = data.find_examples(tmp_path)
    one, two, three, four = (e.patient for e in examples)
    assert one == two != three
    assert four == "3"
    assert "SECRET" not in repr([(e, e.patient) for e in examples])


def test_a_folder_for_each_patient_tells_patients_apart(generated_set, tmp_path):
    source = sorted((generated_set / "NORMAL").iterdir())
    for number, path in enumerate(source[:6]):
        target = tmp_path / "NORMAL" / f"patient{number // 2}" / f"{number % 2}.jpeg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    examples = data.find_examples(tmp_path)
    assert [e.patient for e in examples] == [f"patient{n // 2}" for n in range(6)]


def test_one_patient_id_on_every_image_names_nobody_so_studies_count(tmp_path):
    told = []
    for number in range(4):
        target = tmp_path / "NORMAL" / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(part10(image(PatientID="ANON", StudyInstanceUID=f"2.25.{number // 2}")))
    examples = data.find_examples(tmp_path, told.append)
    assert len({e.patient for e in examples}) == 2
    assert "studies count as patients" in told[0]
