"""What header and pixels decide together, with a classifier that always gives one answer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from model.data import Example, Loaded
from model.judgement import judge
from model.predict import Prediction
from tests.datasets import image, part10

ANSWER = Prediction(0.2, finding="ABSENT", flags=("OUTSIDE_POPULATION",))


@pytest.fixture
def loaded(tmp_path) -> Loaded:
    """A child's chest, an adult's, one of unknown age, a hand, and a picture without a header."""
    from PIL import Image

    headers = [
        {"PatientAge": "003Y"},
        {"PatientAge": "040Y"},
        {"PatientAge": None, "PatientBirthDate": None},
        {"BodyPartExamined": "HAND"},
    ]
    paths = [tmp_path / f"{n}.dcm" for n in range(len(headers))]
    for path, header in zip(paths, headers, strict=True):
        path.write_bytes(part10(image(**header)))
    Image.new("L", (8, 8)).save(tmp_path / "picture.png")
    examples = [Example(p, "normal", p.stem) for p in (*paths, tmp_path / "picture.png")]
    return Loaded(examples, np.zeros((len(examples), 8, 8), np.float16))


@pytest.mark.parametrize(
    ("population", "reasons"),
    [
        ("withhold", [None, "OUTSIDE_POPULATION", None, "NOT_CHEST", None]),
        ("flag", [None, None, None, "NOT_CHEST", None]),
    ],
)
def test_the_header_refuses_before_the_pixels_are_heard(loaded, population, reasons):
    fake = SimpleNamespace(predict=lambda images, asked: [ANSWER] * len(images))
    predictions = judge(fake, loaded, population).predictions
    assert [p.reason for p in predictions] == reasons
    assert [p.pneumonia is None for p in predictions] == [r is not None for r in reasons]


def test_flags_of_header_and_pixels_are_joined_once_each(loaded):
    fake = SimpleNamespace(predict=lambda images, asked: [ANSWER] * len(images))
    flags = [p.flags for p in judge(fake, loaded, "flag").predictions]
    both = ("AGE_UNKNOWN", "OUTSIDE_POPULATION")
    one = ("OUTSIDE_POPULATION",)
    assert flags == [one, one, both, (), one]
