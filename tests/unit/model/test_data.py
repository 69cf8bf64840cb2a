"""Finding, reading and splitting images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import data
from model.preprocess import Preprocessing

SPEC = Preprocessing(size=32)


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
    assert data.patient_of(Path(name)) == patient


def test_no_patient_is_on_both_sides_of_a_split(generated_set):
    train, validation = data.find_splits(generated_set, 0.25, seed=3)
    assert train
    assert validation
    assert not {e.patient for e in train} & {e.patient for e in validation}
    assert {e.label for e in validation} == {"normal", "bacterial", "viral"}


def test_the_same_seed_gives_the_same_split(generated_set):
    first, second = (data.find_splits(generated_set, 0.25, seed=3) for _ in range(2))
    assert first == second
    assert data.find_splits(generated_set, 0.25, seed=4) != first


def test_the_test_split_is_never_read(generated_set, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).symlink_to(generated_set, target_is_directory=True)
    train, validation = data.find_splits(tmp_path, 0.25, seed=1)
    assert all(e.path.is_relative_to(tmp_path / "train") for e in train + validation)


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


def test_pneumonia_of_unstated_kind_gives_two_classes(tmp_path):
    examples = [data.Example(tmp_path, label, label) for label in ("normal", "pneumonia", "viral")]
    assert data.class_labels(examples) == ("normal", "pneumonia")
    assert data.class_index(examples, ("normal", "pneumonia")).tolist() == [0, 1, 1]


def test_the_same_file_on_both_sides_is_reported(generated_set, tmp_path):
    example = data.find_examples(generated_set)[0]
    copy = tmp_path / "copy.jpeg"
    copy.write_bytes(example.path.read_bytes())
    assert data.duplicates([example], [data.Example(copy, "normal", "x")]) == [(example.path, copy)]


def test_deep_and_shallow_files_are_read_alike(tmp_path):
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).round()
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(np.stack([grey.astype(np.uint8)] * 3, -1)).save(tmp_path / "rgb.png")
    eight, sixteen, colour = (data.read_image(tmp_path / f"{n}.png") for n in ("8", "16", "rgb"))
    assert np.abs(eight - sixteen).max() < 1e-6
    assert np.abs(eight - colour).max() < 1 / 255 + 1e-6


def test_the_fingerprint_changes_with_the_data(generated_set):
    examples = data.find_examples(generated_set)
    assert data.fingerprint(examples) == data.fingerprint(examples[::-1])
    assert data.fingerprint(examples) != data.fingerprint(examples[1:])
