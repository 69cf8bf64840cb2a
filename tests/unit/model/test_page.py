"""The page of an evaluation, from made-up answers: what a clinician reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from model import figures, judgement, page
from model.calibration import OperatingPoint
from model.data import Example, Loaded
from model.judgement import Judgement
from model.predict import Prediction
from model.subgroups import ImageFacts

POINT = OperatingPoint(0.5, 0.4, 0.6, 0.95)
INFO = SimpleNamespace(
    name="cxr-resnet18", version="9.9.9", digest="0123456789abcdef", threshold=0.5,
    undetermined=(0.4, 0.6),
)  # fmt: skip

# Truth, probability of pneumonia (None where refused); each is one image of a patient.
ANSWERS = [
    ("normal", 0.1), ("normal", 0.2), ("normal", 0.45), ("normal", 0.7), ("normal", 0.05),
    ("bacterial", 0.9), ("bacterial", 0.55), ("viral", 0.8), ("viral", 0.3), ("viral", None),
]  # fmt: skip


def prediction(probability: float | None) -> Prediction:
    if probability is None:
        return Prediction(reason="ROTATED")
    return Prediction(probability, probability, 1 - probability, POINT.finding(probability))


def told(answers=ANSWERS, population="withhold", flags=MappingProxyType({})) -> dict:
    examples = [Example(Path(f"{i}.jpeg"), la, str(i)) for i, (la, _) in enumerate(answers)]
    judged = Judgement(
        SimpleNamespace(info=INFO, point=POINT),
        Loaded(examples, np.zeros((len(answers), 1))),
        [ImageFacts(100 + 50 * (i % 2), 120) for i in range(len(answers))],
        [replace(prediction(p), flags=flags.get(i, ())) for i, (_, p) in enumerate(answers)],
        population,
    )
    extra = {"data": "set/test", "mistakes": [], "unreadable": ["x.jpeg: no image"]}
    extra["notes"] = ["left out: 3 files, no JPEG, PNG or DICOM (3 .tif)"]
    return {**judgement.report(judged), **extra}


def test_it_begins_with_what_was_found_and_missed():
    lines = page.render(told()).splitlines()
    short = lines[lines.index("## In short") :]
    assert short[2] == (
        "- 10 images of 10 patients, 5 with pneumonia by their labels: 9 were answered, "
        "1 were not assessed."
    )
    assert short[3].startswith("- **Sensitivity 75.0 % (30.1 to 95.4)**: 3 of 4 pneumonias")
    assert short[4].endswith("4 of 5 normals were called so, 1 were false alarms.")
    assert short[6] == "- 22.2 % of the answers were undetermined: left to a person."


def test_it_tells_what_was_not_assessed_and_why_in_words():
    text = page.render(told())
    assert "| ROTATED | the image is rotated | 1 |" in text
    assert "| not assessed: ROTATED | 0 | 0 | 1 |" in text
    assert "counted as missed, 3 of 5 (60.0 %) were called pneumonia" in text


@pytest.mark.parametrize(
    ("population", "words"),
    [("withhold", "no answer"), ("flag", "with a flag"), ("ignore", "like any other")],
)
def test_it_tells_how_patients_outside_the_population_were_treated(population, words):
    assert words in page.render(told(population=population))


def test_it_tells_which_answers_came_with_a_flag_and_how_good_they_are():
    report = told(flags={0: ("OUTSIDE_POPULATION",), 5: ("OUTSIDE_POPULATION",)})
    text = page.render(report)
    assert "2 answers came with the flag OUTSIDE_POPULATION: the patient is outside" in text
    assert "| flag: OUTSIDE_POPULATION | 2 | 0 |" in text
    assert "| flag: none | 7 | 0 |" in text


def test_it_tells_the_figures_with_and_without_the_undetermined():
    text = page.render(told())
    assert "| Specificity | 80.0 % (37.6 to 96.4) |" in text
    assert "| Specificity without undetermined | 75.0 % (30.1 to 95.4) |" in text
    assert "| Sensitivity without undetermined | 66.7 % (20.8 to 93.9) |" in text


def test_it_tells_what_a_call_is_worth_where_pneumonia_is_rarer():
    # Of 1000 children 200 are ill, 150 of them called; of 800 well ones 160 are.
    assert "| 20 % | 310 | 48.4 % | 690 | 92.8 % | 50 |" in page.render(told())


def test_every_drawn_figure_is_shown_with_a_caption():
    text = page.render(told())
    assert set(page.CAPTIONS) == set(figures.DRAWN)
    assert all(f"]({name}.png)" in text for name in figures.DRAWN)


def test_what_was_left_out_is_told():
    text = page.render(told())
    assert "- files that could not be read: 1 (x.jpeg: no image)" in text
    assert "- left out: 3 files, no JPEG, PNG or DICOM (3 .tif)" in text


def test_a_set_in_which_nothing_was_answered_is_told_without_figures():
    text = page.render(told([("normal", None), ("viral", None)]))
    assert "Images of both normal and pneumonia are needed" in text
    assert "2 were not assessed" in text
    assert "nan" not in text


def test_perfect_answers_have_no_gaps():
    text = page.render(told([("normal", 0.01), ("viral", 0.99)] * 20))
    assert "Sensitivity 100.0 % (83.9 to 100.0)" in text
    assert "Every image was answered." in text
    assert "nan" not in text


def test_a_model_that_never_calls_a_pneumonia_has_no_ppv():
    text = page.render(told([("normal", 0.01), ("viral", 0.02)] * 5))
    assert "| PPV | - |" in text
    assert "| 20 % | 0 | - | 1000 | 80.0 % | 200 |" in text
