"""An evaluation of JPEG and of DICOM, what it tells and what it draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import data, evaluate, figures
from model.judgement import judge, worst
from model.predict import Classifier


def wrapped_set(folder: Path, source: Path) -> Path:
    """Write the images of a set again as DICOM, each of a child of alternating sex and age."""
    from dicom_node.wrap import wrap_image

    for number, path in enumerate(sorted(source.rglob("*.jpeg"))):
        ds = wrap_image(path, patient_age=("003Y", "005Y", "040Y")[number % 3])
        ds.PatientSex = "FM"[number % 2]
        ds.PatientID = f"P{number // 2}"
        target = folder / path.parent.name / f"{path.stem}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target, enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def model(interrupted_run) -> Path:
    return interrupted_run[0] / "artifact"


@pytest.fixture(scope="module")
def ignoring_gate():
    """A tiny model's gate refuses nearly everything, and then there would be no figures."""
    from model.gate import PixelGate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PixelGate, "judge", lambda self, features: [None] * len(features))
        yield


@pytest.fixture(scope="module")
def mistaken_set(generated_set, tmp_path_factory) -> Path:
    """The generated set with two pairs of labels swapped, so that every model is wrong there."""
    folder = tmp_path_factory.mktemp("mistaken") / "set"
    shutil.copytree(generated_set, folder)
    pairs = zip(
        *(sorted((folder / n).iterdir())[::20] for n in ("NORMAL", "PNEUMONIA")), strict=True
    )
    for normal, ill in pairs:
        picture = normal.read_bytes()
        normal.write_bytes(ill.read_bytes())
        ill.write_bytes(picture)
    return folder


@pytest.fixture(scope="module")
def evaluated(model, mistaken_set, ignoring_gate, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    evaluate.evaluate(model, mistaken_set, out)
    return out


def numbers(out: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((out / "report.json").read_text(), parse_constant=refuse)


def test_every_figure_the_page_shows_is_there_and_is_a_picture(evaluated):
    text = (evaluated / "report.md").read_text()
    shown = [f"{name}.png" for name in (*figures.DRAWN, "subgroups", "mistakes")]
    assert [name for name in shown if f"({name})" not in text] == []
    for name in shown:
        with Image.open(evaluated / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_the_numbers_of_the_report_agree_with_each_other(evaluated):
    told = numbers(evaluated)["all"]
    assert sum(told["confusion"].values()) == told["images"] == 48
    assert told["patients"] == 24
    for name in ("sensitivity", "specificity", "accuracy"):
        low, high = told[f"{name}_interval"]
        assert low <= told[name] <= high
    assert sum(sum(counts.values()) for counts in told["findings"].values()) == 48
    assert told["roc"][-1]["sensitivity"] == told["roc"][-1]["false_positive_rate"] == 1


def test_each_kind_of_pneumonia_is_compared_with_all_normals(evaluated):
    rows = {r["group"]: r for r in numbers(evaluated)["subgroups"] if r["family"] == "kind"}
    assert set(rows) == {"bacterial against normal", "viral against normal"}
    assert {r["images"] for r in rows.values()} == {24 + 12}
    assert {r["pneumonia"] for r in rows.values()} == {12}


def test_the_page_is_for_people(evaluated):
    text = (evaluated / "report.md").read_text()
    assert "Research use only" in text
    assert "nan" not in text
    for told in ("Sensitivity", "PPV", "NPV", "Worst mistakes"):
        assert told in text


def test_dicom_gives_the_same_answers_and_groups_by_its_header(
    model, mistaken_set, evaluated, ignoring_gate, tmp_path
):
    source = wrapped_set(tmp_path / "dicom", mistaken_set)
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--data", str(source), "--out", str(out)]
    assert evaluate.main([*arguments, "--population", "ignore"]) == 0
    told, before = numbers(out), numbers(evaluated)
    for figure in ("confusion", "findings", "auc", "sensitivity_interval"):
        assert told["all"][figure] == before["all"][figure], figure
    probabilities = [[row["threshold"] for row in n["all"]["roc"]] for n in (told, before)]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=0.005)
    groups = {(r["family"], r["group"]) for r in told["subgroups"]}
    assert {
        ("sex", "F"),
        ("sex", "M"),
        ("age, years", "2 to 3"),
        ("age, years", "4 to 5"),
    } <= groups
    assert told["all"]["patients"] == 24  # as the header says, not the file names


def test_an_age_outside_the_population_is_refused_as_the_worker_would(
    model, generated_set, ignoring_gate, tmp_path
):
    evaluate.evaluate(model, wrapped_set(tmp_path / "dicom", generated_set), tmp_path / "out")
    told = numbers(tmp_path / "out")
    assert told["refused"] == {"OUTSIDE_POPULATION": 16}
    refused = {r["group"]: r["not_assessed"] for r in told["subgroups"] if "age" in r["family"]}
    assert refused == {"2 to 3": 0, "4 to 5": 0, "6 and over": 16}


def test_a_test_folder_beside_train_is_what_is_evaluated(model, generated_set, tmp_path):
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "test").symlink_to(generated_set)
    text = evaluate.evaluate(model, tmp_path / "set", tmp_path / "out")
    assert text.splitlines()[0].endswith("on set/test")


def test_images_of_one_class_are_told_without_curves(model, generated_set, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "NORMAL").symlink_to(generated_set / "NORMAL")
    text = evaluate.evaluate(model, tmp_path / "set", tmp_path / "out")
    assert "both normal and pneumonia are needed" in text
    assert numbers(tmp_path / "out")["all"] is None


def test_the_worst_mistake_comes_first_and_right_answers_never(model, mistaken_set, ignoring_gate):
    classifier = Classifier.load(model)
    loaded = data.load(data.find_examples(mistaken_set), classifier.spec)
    judgement = judge(classifier, loaded)
    places = worst(judgement, 48)
    errors = np.abs(judgement.probability - judgement.truth)[places]
    called = judgement.probability >= classifier.point.threshold
    assert len(places) == (called != judgement.truth).sum()
    assert (np.diff(errors) <= 0).all()


def no_model(_model: Path, folder: Path) -> Path:
    return folder


def changed_byte(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder / "m")
    weights = bytearray((folder / "m" / "weights.bin").read_bytes())
    weights[1000] ^= 1
    (folder / "m" / "weights.bin").write_bytes(weights)
    return folder / "m"


def other_format(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder / "m")
    description = json.loads((folder / "m" / "model.json").read_text())
    (folder / "m" / "model.json").write_text(json.dumps({**description, "format": 99}))
    return folder / "m"


def a_file(_model: Path, folder: Path) -> Path:
    (folder / "model.h5").write_bytes(b"no artifact")
    return folder / "model.h5"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (no_model, "holds no model"),
        (changed_byte, "was changed after its release"),
        (other_format, "not a model of format"),
        (a_file, "holds no model"),
    ],
)
def test_a_wrong_artifact_is_one_line(model, generated_set, tmp_path, wrong, words, capsys):
    chosen = wrong(model, tmp_path)
    arguments = ["--model", str(chosen), "--data", str(generated_set), "--out", str(tmp_path / "o")]
    assert evaluate.main(arguments) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_images_that_all_are_damaged_are_one_line(model, tmp_path, capsys):
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.jpeg").write_bytes(b"no image")
    arguments = ["--model", str(model), "--data", str(tmp_path / "set"), "--out", str(tmp_path)]
    assert evaluate.main(arguments) == 2
    assert capsys.readouterr().err == "error: none of 2 images could be read (1.jpeg: no image)\n"


def test_no_patient_id_of_a_header_is_in_what_is_written(
    model, generated_set, ignoring_gate, tmp_path
):
    source = wrapped_set(tmp_path / "dicom", generated_set)
    evaluate.evaluate(model, source, tmp_path / "out", "ignore")
    report = (tmp_path / "out" / "report.json").read_text()
    assert '"P1"' not in report
    assert data.find_examples(source)[2].patient not in report


def test_an_evaluation_of_nothing_is_one_line(model, tmp_path, capsys):
    arguments = ["--model", str(model), "--data", str(tmp_path / "no"), "--out", str(tmp_path)]
    assert evaluate.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
