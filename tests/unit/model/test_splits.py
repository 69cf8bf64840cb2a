"""Who is trained on and who is held out."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from model import splits
from model.data import DataError
from tests.unit.model.tiny import write_set


def digest(examples) -> str:
    return hashlib.sha256("\n".join(sorted(e.path.name for e in examples)).encode()).hexdigest()


def test_no_patient_is_on_both_sides_of_a_split(generated_set):
    train, validation = splits.find_splits(generated_set, 0.25, seed=3)
    assert train
    assert validation
    assert not {e.patient for e in train} & {e.patient for e in validation}
    assert {e.label for e in validation} == {"normal", "bacterial", "viral"}


def test_the_same_seed_gives_the_same_split(generated_set):
    first, second = (splits.find_splits(generated_set, 0.25, seed=3) for _ in range(2))
    assert first == second
    assert splits.find_splits(generated_set, 0.25, seed=4) != first


def test_the_split_of_the_public_set_stays_what_released_models_were_judged_by(real_data):
    train, validation = splits.find_splits(real_data / "chest_xray_224", 0.15, seed=1)
    assert (len(train), len(validation)) == (4413, 803)
    assert digest(validation).startswith("67c34ac2a0d1b290")


def test_the_test_split_is_never_trained_on(generated_set, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).symlink_to(generated_set, target_is_directory=True)
    train, validation = splits.find_splits(tmp_path, 0.25, seed=1)
    assert all(e.path.is_relative_to(tmp_path / "train") for e in train + validation)
    assert len(splits.held_back(tmp_path)) == 48


@pytest.fixture
def nested(generated_set, tmp_path) -> Path:
    (tmp_path / "Train").symlink_to(generated_set, target_is_directory=True)
    return tmp_path


def test_a_val_of_ones_own_is_taken(nested):
    write_set(nested / "val", 13)
    train, validation = splits.find_splits(nested, 0.25, seed=1)
    assert (len(train), len(validation)) == (48, 52)
    assert all(e.path.is_relative_to(nested / "val") for e in validation)


def test_a_val_too_small_is_replaced_and_it_is_said(nested):
    told = []
    write_set(nested / "val", 4)
    train, validation = splits.find_splits(nested, 0.25, 1, told.append)
    assert len(train) + len(validation) == 48
    assert told == [
        "val/ has 16 images, too few (50 at least): validation is split from Train/ by patient"
    ]


def test_a_val_of_one_class_is_replaced(nested):
    told = []
    write_set(nested / "val", 26)
    shutil.rmtree(nested / "val" / "NORMAL")
    splits.find_splits(nested, 0.25, 1, told.append)
    assert told[0].startswith("val/ has images of one class only: ")


def test_a_broken_val_is_replaced(nested):
    told = []
    (nested / "val" / "NORMAL").mkdir(parents=True)
    splits.find_splits(nested, 0.25, 1, told.append)
    assert told[0].startswith("class NORMAL is empty")


def test_too_few_patients_to_split_are_refused(tmp_path):
    write_set(tmp_path / "set", 1)
    with pytest.raises(DataError, match="too few patients"):
        splits.find_splits(tmp_path / "set", 0.25, seed=1)
