"""Finding, labelling and loading images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from model import data
from model.preprocess import Preprocessing

SPEC = Preprocessing(size=32)


def test_one_corrupt_image_among_many_is_left_out_and_named(generated_set, tmp_path):
    bad = tmp_path / "person1_virus_1.jpeg"
    bad.write_bytes(b"\xff\xd8\xff not a JPEG")
    examples = [*data.find_examples(generated_set)[:5], data.Example(bad, "viral", "person1")]
    loaded = data.load(examples, SPEC)
    assert len(loaded.examples) == len(loaded.images) == 5
    assert [path for path, _ in loaded.unreadable] == [bad]


def test_an_empty_class_is_named(tmp_path):
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "PNEUMONIA").mkdir()
    with pytest.raises(data.DataError, match="class NORMAL is empty"):
        data.find_examples(tmp_path)


def folders(root: Path, source: Path, **names: str) -> Path:
    """Lay out label folders of the given names, each a link to one of the generated set's."""
    for name, label in names.items():
        (root / name).symlink_to(source / label, target_is_directory=True)
    return root


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Normal", "normal"),
        ("No_findings", "normal"),
        ("No Finding", "normal"),
        ("healthy", "normal"),
        ("PNEUMONIA", "pneumonia"),
        ("Viral Pneumonia", "viral"),
        ("COVID-19", "viral"),
        ("bacteria", "bacterial"),
        ("lateral", None),
    ],
)
def test_a_label_is_read_from_the_folder_name(name, label):
    assert data.known_label(name) == label


def test_folders_beside_the_normals_are_the_ill_and_it_is_said(generated_set, tmp_path):
    told = []
    folders(tmp_path, generated_set, normal="NORMAL", lobar="PNEUMONIA")
    examples = data.find_examples(tmp_path, told.append)
    assert len(examples) == 48
    assert sum(e.pneumonia for e in examples) == 24
    assert "lobar: counted as pneumonia" in told[0]


@pytest.mark.parametrize(
    "names",
    [
        {"NORMAL": "NORMAL", "PNEUMONIA": "PNEUMONIA", "rejected": "PNEUMONIA"},
        {"A": "NORMAL", "B": "PNEUMONIA"},
        {"PNEUMONIA": "PNEUMONIA", "others": "NORMAL"},
    ],
)
def test_a_folder_that_may_hold_anything_is_refused_by_name(generated_set, tmp_path, names):
    folders(tmp_path, generated_set, **names)
    with pytest.raises(data.DataError, match="normal or pneumonia\\? call it") as refusal:
        data.find_examples(tmp_path)
    unknown = set(names) - {"NORMAL", "PNEUMONIA"}
    assert all(name in str(refusal.value) for name in unknown)


def test_what_is_left_out_of_a_folder_is_said(generated_set, tmp_path):
    told = []
    shutil.copytree(generated_set, tmp_path / "set")
    (tmp_path / "set" / "loose.png").write_bytes(b"")
    for name in ("scan.tif", "notes.txt", ".hidden.jpeg", "Thumbs.db"):
        (tmp_path / "set" / "NORMAL" / name).write_bytes(b"no image")
    (tmp_path / "set" / "__MACOSX" / "NORMAL").mkdir(parents=True)
    (tmp_path / "set" / "__MACOSX" / "NORMAL" / "._IM-1-1.jpeg").write_bytes(b"")
    (tmp_path / "set" / "logs").mkdir()
    assert len(data.find_examples(tmp_path / "set", told.append)) == 48
    assert len(told) == 2
    assert "1 image in" in told[0]
    assert "2 files, no JPEG, PNG or DICOM (1 .tif, 1 .txt)" in told[1]


def test_a_folder_that_may_not_be_read_is_one_line(generated_set, tmp_path):
    shutil.copytree(generated_set, tmp_path / "set")
    (tmp_path / "set" / "NORMAL").chmod(0)
    before = os.geteuid()
    if before == 0:  # root reads everything
        os.seteuid(65534)
    try:
        for read in (data.find_examples, lambda folder: data.part(folder, "test")):
            with pytest.raises(data.DataError, match="cannot be read: Permission denied"):
                read(tmp_path / "set")
            (tmp_path / "set").chmod(0) if before else None
    finally:
        os.seteuid(before)
        (tmp_path / "set").chmod(0o700)


def test_nothing_readable_at_all_is_one_line(tmp_path):
    bad = tmp_path / "bad.jpeg"
    bad.write_bytes(b"not a JPEG")
    with pytest.raises(data.DataError, match="none of 2 images could be read"):
        data.load([data.Example(bad, "normal", "1")] * 2, SPEC)


def test_pneumonia_of_unstated_kind_gives_two_classes(tmp_path):
    examples = [data.Example(tmp_path, label, label) for label in ("normal", "pneumonia", "viral")]
    assert data.class_labels(examples) == ("normal", "pneumonia")
    assert data.class_index(examples, ("normal", "pneumonia")).tolist() == [0, 1, 1]


def test_the_fingerprint_changes_with_the_data(generated_set):
    examples = data.find_examples(generated_set)
    assert data.fingerprint(examples) == data.fingerprint(examples[::-1])
    assert data.fingerprint(examples) != data.fingerprint(examples[1:])
