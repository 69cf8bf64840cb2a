"""What is said of a data set before training, and what is left out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model import data, survey
from model.data import Example
from model.preprocess import Preprocessing

SPEC = Preprocessing(size=48, via=48)


@pytest.fixture
def parts(generated_set) -> tuple[list[Example], list[Example]]:
    examples = data.find_examples(generated_set)
    held = {"IM0", "person0", "person1"}
    return (
        [e for e in examples if e.patient not in held],
        [e for e in examples if e.patient in held],
    )


def test_balance_patients_and_small_classes_are_said(parts):
    told = []
    survey.describe(*parts, told.append)
    assert told[0] == (
        "training:   42 images (bacterial 10, normal 22, viral 10), 21 patients by name"
    )
    assert told[1].startswith("validation: 6 images")
    assert "only 10 images of class bacterial: figures about it will mean little" in told
    assert len(told) == 5


def test_patients_on_both_sides_are_said(parts):
    told = []
    survey.describe([*parts[0], *parts[1][:1]], parts[1], told.append)
    assert any(line.startswith("1 patient in both training and validation") for line in told)


def test_images_whose_name_says_no_patient_are_said(parts, tmp_path):
    told = []
    nameless = [Example(tmp_path / f"{n}.png", "normal", str(n)) for n in range(9)]
    survey.describe([*parts[0], *nameless], parts[1], told.append)
    assert "9 images of no known patient (0.png, 1.png, 2.png, …):" in told


def test_a_duplicate_is_found_byte_for_byte_and_encoded_again(parts, tmp_path):
    told = []
    train, validation = parts
    copy, smooth, again = (tmp_path / name for name in ("copy.jpeg", "smooth.png", "again.jpeg"))
    shutil.copy(validation[0].path, copy)
    with Image.open(validation[1].path) as picture:  # noise of single pixels does not survive JPEG
        blurred = picture.filter(ImageFilter.GaussianBlur(1)).resize((96, 96))
        blurred.save(smooth)
        blurred.resize((128, 128)).save(again, quality=75)
    twins = [Example(p, "normal", "new") for p in (copy, again)]
    validation = [*validation, Example(smooth, "normal", "old")]
    first, held = survey.load_parts([*train, *twins], validation, SPEC, say=told.append)
    assert [e.path for e in first.examples] == [e.path for e in train]
    assert len(first.images) == len(train)
    assert len(held.images) == len(validation)
    assert len(told) == 1
    assert told[0].startswith("left out of training: 2 duplicates of validation images (copy.jpeg")


def test_no_test_image_is_trained_on(parts):
    told = []
    train, validation = parts
    first, _ = survey.load_parts(train, validation, SPEC, [train[3].path], told.append)
    assert train[3] not in first.examples
    assert len(first.examples) == len(train) - 1
    assert "1 duplicate of test images" in told[0]


def test_an_image_in_both_classes_is_said(parts, tmp_path):
    told = []
    train, validation = parts
    shutil.copy(train[0].path, tmp_path / "both.jpeg")
    survey.load_parts(
        [*train, Example(tmp_path / "both.jpeg", "viral", "x")], validation, SPEC, say=told.append
    )
    assert "1 image in both classes" in told[0]


def test_unreadable_files_are_one_line(parts, tmp_path):
    told = []
    train, validation = parts
    bad = [tmp_path / f"{n}.jpeg" for n in range(20)]
    for path in bad:
        path.write_bytes(b"\xff\xd8\xff no JPEG")
    wrong = [Example(path, "normal", path.stem) for path in bad]
    first, _ = survey.load_parts([*train, *wrong], validation, SPEC, say=told.append)
    assert len(first.examples) == len(train)
    assert told == [
        "left out: 20 files that cannot be read (0.jpeg: no image; 1.jpeg: no image; "
        "2.jpeg: no image; …)"
    ]


def test_different_images_are_no_duplicates():
    generator = np.random.default_rng(0)
    images = generator.random((5, 64, 64)).astype(np.float16)
    assert survey.nearest(images[:2], images[2:]).tolist() == [-1, -1]
    assert survey.nearest(images, images[3:]).tolist() == [-1, -1, -1, 0, 1]
    assert survey.nearest(images, images[:0]).tolist() == [-1] * 5
