"""What may not be judged is not, on the way that every instance takes: header first, then pixels.

The worker's own step is run on data sets as they come from the network, with the shipped model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForProcessing

from dicom_node.codes import NOT_ASSESSED_REASONS, VIEWS, code_item
from dicom_node.pixels import to_pixels
from model import artifact
from model.images import image_files, read_image
from model.predict import Classifier
from model.splits import find_splits
from tests.datasets import dx_image, image, pydicom_data
from tests.fakes import new_uid
from tests.unit.model.scenes import SCENES, draw
from tests.unit.model.tiny import chest_like
from tests.ward import Ward

# What the pixels may say of an image that is no chest; a population would let it pass.
NO_CHEST = {"NOT_CHEST", "ROTATED", "INVERTED", "BLANK"}


@pytest.fixture(scope="module")
def shipped(released) -> Classifier:
    return Classifier.load(released)


@pytest.fixture
def wards(tmp_path, sqlite_sessions):
    """A worker, with settings; the classifier is a fake that passes all unless it is given one."""

    def build(classifier: Any = None, **environ: str) -> Ward:
        ward = Ward(tmp_path, sqlite_sessions, **environ)
        if classifier is not None:
            ward.classifier = classifier
        return ward

    return build


def outcomes(ward: Ward, instances: Mapping[Any, Dataset]) -> dict[Any, Any]:
    """Send instances through the worker; return the finding of each."""
    for ds in instances.values():
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
        ward.receive(ds)
    while ward.classify():
        pass
    return dict(zip(instances, ward.findings(), strict=True))


def chest() -> NDArray[np.uint8]:
    return np.asarray(chest_like(np.random.default_rng(1), ill=False, side=128))


# --- the header --------------------------------------------------------------------------------

_LATERAL_CODE = {"ViewPosition": "", "ViewCodeSequence": [code_item(VIEWS["LL"])]}
HEADERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a child's frontal chest": ({}, None),
    "nothing but the age": ({"BodyPartExamined": "", "ViewPosition": "", "Modality": ""}, None),
    "another body part": ({"BodyPartExamined": "HAND"}, "NOT_CHEST"),
    "abdomen": ({"BodyPartExamined": "ABDOMEN"}, "NOT_CHEST"),
    "another modality": ({"Modality": "CT"}, "NOT_CHEST"),
    "mammography": ({"Modality": "MG"}, "NOT_CHEST"),
    "lateral view": ({"ViewPosition": "LL"}, "NOT_FRONTAL"),
    "right lateral view": ({"ViewPosition": "RL"}, "NOT_FRONTAL"),
    "lateral in words": ({"ViewPosition": "LATERAL"}, "NOT_FRONTAL"),
    "lateral by its code": (_LATERAL_CODE, "NOT_FRONTAL"),
    "lateral by orientation": (
        {"ViewPosition": None, "PatientOrientation": ["A", "F"]},
        "NOT_FRONTAL",
    ),
    "for processing": ({"PresentationIntentType": "FOR PROCESSING"}, "FOR_PROCESSING"),
    "storage for processing": (
        {"SOPClassUID": DigitalXRayImageStorageForProcessing},
        "FOR_PROCESSING",
    ),
    "infant": ({"PatientAge": "006M"}, "OUTSIDE_POPULATION"),
    "newborn": ({"PatientAge": "003D"}, "OUTSIDE_POPULATION"),
    "school child": ({"PatientAge": "009Y"}, "OUTSIDE_POPULATION"),
    "adult": ({"PatientAge": "045Y"}, "OUTSIDE_POPULATION"),
    "adult by birth date": (
        {"PatientAge": "", "PatientBirthDate": "19600101"},
        "OUTSIDE_POPULATION",
    ),
}


def test_the_header_withholds_with_its_reason_before_the_pixels_are_asked(wards):
    ward = wards()
    found = outcomes(ward, {n: dx_image(chest(), **facts) for n, (facts, _) in HEADERS.items()})
    assert {n: f.reason for n, f in found.items()} == {n: why for n, (_, why) in HEADERS.items()}
    assert sum(ward.classifier.batches) == sum(why is None for _, why in HEADERS.values())


AGES: dict[str, dict[str, Any]] = {
    "child": {"PatientAge": "003Y"},
    "infant": {"PatientAge": "011M"},
    "adult": {"PatientAge": "045Y"},
    "unknown": {"PatientAge": None, "PatientBirthDate": ""},
}
OUTSIDE, UNKNOWN = ["OUTSIDE_POPULATION"], ["AGE_UNKNOWN"]


@pytest.mark.parametrize(
    ("population", "expected"),
    [
        ("withhold", {"child": [], "infant": None, "adult": None, "unknown": UNKNOWN}),
        ("flag", {"child": [], "infant": OUTSIDE, "adult": OUTSIDE, "unknown": UNKNOWN}),
        ("ignore", {"child": [], "infant": [], "adult": [], "unknown": UNKNOWN}),
    ],
)
def test_a_known_age_outside_the_population_is_treated_as_set_and_an_unknown_one_flagged(
    wards, population, expected
):
    ward = wards(CXR_POPULATION=population)
    found = outcomes(ward, {age: image(chest(), **facts) for age, facts in AGES.items()})
    assert {a: f.flags if f.assessed else None for a, f in found.items()} == expected
    withheld = {f.reason for f in found.values() if not f.assessed}
    assert withheld == (set(OUTSIDE) if population == "withhold" else set())


# --- the pixels, where the header says that all is well ----------------------------------------


def blanks() -> dict[str, Dataset]:
    flat = np.full((200, 160), 512, np.uint16)
    speck = flat.copy()
    speck[3, 3] = 4000
    return {
        "black": image(flat * 0),
        "grey": image(flat, WindowCenter=600, WindowWidth=1200),
        "inverse": image(flat, PhotometricInterpretation="MONOCHROME1"),
        "padding only": image(flat, PixelPaddingValue=512),
        "one dead pixel": image(speck),
        "one pixel": image(flat[:1, :1]),
    }


def test_a_blank_image_is_called_blank(wards, shipped):
    found = outcomes(wards(shipped), blanks())
    assert {name: f.reason for name, f in found.items()} == dict.fromkeys(found, "BLANK")


def foreign() -> dict[str, Dataset]:
    """Real objects that are no chest, as their modality would have to lie about them."""
    names = ("CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm")
    paths = [Path(str(get_testdata_file(name, download=False))) for name in names]
    folder = pydicom_data()
    more = ("RG3_UNCR", "693_UNCR", "MR2_UNCR", "JPEG2000_UNC", "bad_sequence", "US1_UNCR")
    paths += [folder / f"{name}.dcm" for name in (*more, "OBXXXX1A", "explicit_VR-UN")]
    return {path.name: _disguised(to_pixels(dcmread(path))) for path in paths if path.is_file()}


def _disguised(pixels: NDArray[Any]) -> Dataset:
    return dx_image(np.rint(pixels * 4095).astype(np.uint16), BitsStored=12, HighBit=11)


def test_photographs_texts_and_slices_are_stopped_though_the_header_says_chest(wards, shipped):
    scenes = {(s.__name__, k): image(draw(s, k)) for s in SCENES for k in range(6)}
    objects = foreign()
    assert len(objects) >= 10
    cropped = {("cropped", k): _disguised(_detail(k)) for k in range(6)}
    found = outcomes(wards(shipped, CXR_POPULATION="ignore"), {**scenes, **objects, **cropped})
    passed = {name: f.reason for name, f in found.items() if f.reason not in NO_CHEST}
    assert len(passed) <= 0.01 * len(found), passed
    assert set(NOT_ASSESSED_REASONS) >= NO_CHEST


def _detail(seed: int) -> NDArray[np.float64]:
    """Crop a generated chest to next to nothing."""
    generator = np.random.default_rng(seed)
    whole = np.asarray(chest_like(generator, ill=True, side=300), np.float64) / 255
    y, x = generator.integers(0, 280, 2)
    return whole[y : y + 20, x : x + 20]


@pytest.mark.parametrize(
    ("population", "assessed", "flags"),
    [
        ("withhold", False, UNKNOWN),
        ("flag", True, [*UNKNOWN, *OUTSIDE]),
        ("ignore", True, UNKNOWN),
    ],
)
def test_a_real_adult_of_unknown_age_is_recognised_by_the_pixels(
    wards, shipped, population, assessed, flags
):
    ds = dcmread(pydicom_data() / "RG1_UNCR.dcm")
    ds.PatientAge = ds.PatientBirthDate = ""
    found = outcomes(wards(shipped, CXR_POPULATION=population), {"adult": ds})["adult"]
    assert found.assessed == assessed
    assert found.reason == (None if assessed else "OUTSIDE_POPULATION")
    assert found.flags == flags


# --- how often, on real radiographs ------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out(released, real_data) -> list[NDArray[np.float32]]:
    """Children that the shipped model was not trained on."""
    training = artifact.describe(released)["training"]
    folder = real_data / "chest_xray_224"
    _, examples = find_splits(folder, training["validation"], training["seed"])
    return [read_image(e.path) for e in examples[:: max(1, len(examples) // 250)]]


def reasons(classifier: Classifier, images: list[NDArray[Any]]) -> list[str | None]:
    answers = classifier.predict(np.stack([classifier.prepare(i) for i in images]))
    return [answer.reason for answer in answers]


def test_held_out_children_pass_and_adults_do_not(shipped, held_out, real_data):
    adults = [read_image(path) for path in image_files(real_data / "adult_chest_224")[::2]]
    children = np.mean([reason is None for reason in reasons(shipped, held_out)])
    refused = np.mean([reason is not None for reason in reasons(shipped, adults)])
    print(f"children passed {children:.3f}, adults stopped {refused:.3f}")
    assert children >= 0.98
    assert refused >= 0.90


CHANGES = {
    "90 degrees": (lambda p: np.rot90(p, 1), "ROTATED"),
    "180 degrees": (lambda p: np.rot90(p, 2), "ROTATED"),
    "270 degrees": (lambda p: np.rot90(p, 3), "ROTATED"),
    "inverted": (lambda p: 1 - p, "INVERTED"),
}


def test_real_chests_that_are_turned_or_inverted_are_stopped_and_called_so(shipped, held_out):
    some, passed = held_out[::4], []
    for name, (change, reason) in CHANGES.items():
        told = Counter(reasons(shipped, [change(pixels) for pixels in some]))
        print(f"{name}: {dict(told)}")
        assert told[reason] > 0.7 * len(some), name
        passed.append(told[None] / len(some))
    assert max(passed) <= 0.02


def test_details_of_real_chests_are_stopped(shipped, held_out):
    generator = np.random.default_rng(4)
    corners = generator.integers(0, 224 - 22, (len(held_out[::3]), 2))
    cropped = [p[y : y + 22, x : x + 22] for p, (y, x) in zip(held_out[::3], corners, strict=True)]
    told = Counter(reasons(shipped, cropped))
    assert told[None] <= 0.02 * told.total()
