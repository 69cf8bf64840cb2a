"""The same image as a file and as DICOM of every kind gets the same answer.

"The same" is what is displayed: a stored image whose LUTs and window display the grey values of
the JPEG, as a PACS exports it, is that JPEG (DICOM PS3.4 N.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.contexts import decodable_transfer_syntaxes
from dicom_node.pixels import to_pixels
from dicom_node.wrap import wrap_image
from model.calibration import softmax
from model.data import NORMAL
from model.images import read_image
from model.predict import Classifier
from model.preprocess import Preprocessing, prepare
from model.splits import find_splits
from tests.datasets import part10, read_back
from tests.unit.model import encodings
from tests.unit.model.encodings import BITS, GREY_SCALES, Way, stored
from tests.unit.model.tiny import chest_like

SPEC = Preprocessing()
LOSSLESS, LOSSY = 0.01, 0.03  # furthest that a probability may be off
HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K = (f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
HTJ2K_FOLDER = Path(__file__).parent / "htj2k"  # coded by OpenJPH: no encoder is installed here


@pytest.fixture(scope="module")
def shipped(released) -> Classifier:
    return Classifier.load(released)


def probabilities(classifier: Classifier, prepared: Any) -> NDArray[np.float64]:
    """Probability of pneumonia, whatever the pixel gate thinks of the images."""
    logits, _ = classifier.forward(np.stack(list(prepared)))
    normal = classifier.info.labels.index(NORMAL)
    return np.asarray(1 - softmax(logits, classifier.info.temperature)[:, normal])


def of_files(classifier: Classifier, paths: list[Path]) -> NDArray[np.float64]:
    return probabilities(classifier, [classifier.prepare(read_image(path)) for path in paths])


def near_the_threshold(classifier: Classifier, paths: list[Path], count: int) -> list[Path]:
    distance = np.abs(of_files(classifier, paths) - classifier.info.threshold)
    return [paths[i] for i in np.argsort(distance)[:count]]


@pytest.fixture(scope="module")
def pictures(shipped, request, tmp_path_factory) -> list[Path]:
    """JPEG files: generated ones, and real ones where they are here; some near the threshold."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(6)
    for number in range(2):
        drawn = chest_like(generator, ill=bool(number), side=300)
        drawn.crop((0, 0, 300, 260)).save(folder / f"{number}.jpeg", quality=95)
    paths = sorted(folder.iterdir())
    try:
        data = request.getfixturevalue("real_data")
    except pytest.skip.Exception:
        return paths
    _, held_out = find_splits(data / "chest_xray_224", 0.15, 1)
    normal, ill = ([e.path for e in held_out if e.pneumonia == kind] for kind in (False, True))
    some = [*normal[::9], *ill[::24]]
    full_size = min((data / "chest_xray_original").glob("*/*.jpeg"), key=lambda p: p.stat().st_size)
    return [*paths, normal[0], ill[0], full_size, *near_the_threshold(shipped, some, 4)]


def difference(
    classifier: Classifier, pictures: list[Path], ways: Mapping[str, Way]
) -> dict[str, float]:
    """Return how far, at most, each way's probability is from the JPEG's; all in one batch."""
    grey = [np.asarray(Image.open(path).convert("L")) for path in pictures]
    served = [
        classifier.prepare(to_pixels(read_back(way(picture))))
        for way in ways.values()
        for picture in grey
    ]
    there = probabilities(classifier, served).reshape(len(ways), len(grey))
    furthest = np.abs(there - of_files(classifier, pictures)).max(axis=1)
    return dict(zip(ways, furthest.tolist(), strict=True))


WAYS = {
    "bits": (BITS, LOSSLESS),
    "grey scales": (GREY_SCALES, LOSSLESS),
    "lossless": (encodings.LOSSLESS_BY_PYDICOM, LOSSLESS),
    "lossless by DCMTK": (encodings.LOSSLESS_BY_DCMTK, LOSSLESS),
    "lossy": (encodings.LOSSY_BY_PYDICOM, LOSSY),
    "lossy by DCMTK": (encodings.LOSSY_BY_DCMTK, LOSSY),
}


@pytest.mark.parametrize("kind", WAYS)
def test_however_it_is_stored_an_image_has_the_same_probability(kind, shipped, pictures):
    ways, tolerance = WAYS[kind]
    off = difference(shipped, pictures, ways)
    print(f"{kind}: at most {max(off.values()):.4f}")
    assert {way: d for way, d in off.items() if d > tolerance} == {}


@pytest.mark.parametrize(
    ("syntax", "name", "tolerance"),
    [
        (HTJ2K_LOSSLESS, "lossless.j2c", LOSSLESS),
        (HTJ2K_LOSSLESS_RPCL, "lossless.j2c", LOSSLESS),
        (HTJ2K, "lossy.j2c", LOSSY),
    ],
)
def test_in_high_throughput_jpeg_2000_an_image_has_the_same_probability(
    syntax, name, tolerance, shipped
):
    grey = np.asarray(Image.open(HTJ2K_FOLDER / "chest.png"))
    ds = stored(grey, 8, allocated=8)
    coded = encodings.encapsulated(ds, (HTJ2K_FOLDER / name).read_bytes(), syntax)
    served = shipped.prepare(to_pixels(read_back(coded)))
    there, here = probabilities(shipped, [served, shipped.prepare(grey)])
    assert there == pytest.approx(here, abs=tolerance)


def test_every_transfer_syntax_that_is_taken_is_tried_here():
    tried = {HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K}
    for ways, _ in list(WAYS.values())[2:]:
        tried |= {way.split(",")[0] for way in ways}
    assert tried == set(decodable_transfer_syntaxes())


def test_a_window_that_narrows_the_range_is_honoured(shipped, pictures):
    """What it hides is hidden from the network too, as from whoever exports the JPEG."""
    for path in pictures:
        grey = np.asarray(Image.open(path).convert("L"))
        seen = encodings.clipped(grey, 60, 190)
        ds = stored(grey, 8, allocated=8, WindowCenter=125.5, WindowWidth=131)
        served = shipped.prepare(to_pixels(read_back(ds)))
        assert np.abs(served - shipped.prepare(seen)).max() < 0.005
        assert np.abs(served - shipped.prepare(grey)).max() > 0.1


@pytest.mark.parametrize("inverse", [False, True])
def test_padding_is_the_black_border_of_the_file(inverse, shipped, pictures):
    bordered = [encodings.with_border(np.asarray(Image.open(p).convert("L"))) for p in pictures]
    served = [to_pixels(read_back(encodings.padded(g, inverse=inverse))) for g in bordered]
    there = probabilities(shipped, map(shipped.prepare, served))
    here = probabilities(shipped, map(shipped.prepare, bordered))
    assert np.abs(there - here).max() < LOSSLESS


@pytest.mark.parametrize("suffix", ["jpeg", "png", "dcm"])
def test_a_file_of_each_format_is_trained_on_as_it_is_served(suffix, shipped, pictures, tmp_path):
    grey = np.asarray(Image.open(pictures[0]).convert("L"))
    path, ds = tmp_path / f"image.{suffix}", stored(grey, 12, inverse=True)
    if suffix == "dcm":
        path.write_bytes(part10(ds))
        assert np.array_equal(read_image(path), to_pixels(ds))
    else:
        Image.fromarray(grey).save(path)
        wrapped = to_pixels(read_back(wrap_image(path)))
        assert np.abs(read_image(path) - wrapped).max() < 1e-6


def test_a_jpeg_file_and_the_instance_that_holds_it_are_the_same_network_input(shipped, pictures):
    grey = [path for path in pictures if Image.open(path).mode == "L"]
    assert grey
    for path in grey:
        ds = stored(np.asarray(Image.open(path)), 8, allocated=8)
        served = read_back(encodings.encapsulated(ds, path.read_bytes(), str(JPEGBaseline8Bit)))
        at_once = shipped.prepare(to_pixels(served, shipped.via))
        assert np.array_equal(at_once, shipped.prepare(to_pixels(served)))
        assert np.abs(at_once - shipped.prepare(read_image(path))).max() < 1e-6


def test_full_size_originals_agree_with_their_small_twins(shipped, real_data):
    full = sorted((real_data / "chest_xray_original").glob("*/*.jpeg"))
    twins = [real_data / "chest_xray_224" / "train" / p.parent.name / p.name for p in full]
    wrapped = [shipped.prepare(to_pixels(read_back(wrap_image(path)))) for path in full]
    small = of_files(shipped, twins)
    for kind, large in (
        ("JPEG", of_files(shipped, full)),
        ("DICOM", probabilities(shipped, wrapped)),
    ):
        off = np.abs(large - small)
        print(f"{kind}: {(off < 0.05).sum()} of {len(off)} within 0.05; {off.max():.3f} at most")
        assert len(off) == 52
        assert (off < 0.05).mean() >= 0.95


# --- properties --------------------------------------------------------------------------------


@st.composite
def coarse_images(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Smooth images of any shape that use the whole range, but for a few grey values."""
    rows, columns, seed = draw(st.integers(16, 90)), draw(st.integers(16, 90)), draw(st.integers(0))
    small = np.random.default_rng(seed).random((7, 5)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(small).resize((columns, rows), Image.Resampling.BICUBIC))
    spread = np.interp(smooth, (smooth.min(), smooth.max()), (draw(st.integers(0, 60)), 255))
    return spread.round().astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    grey=coarse_images(),
    bits=st.sampled_from([8, 10, 12, 15, 16]),
    signed=st.booleans(),
    slope=st.floats(0.01, 100),
    intercept=st.floats(-5000, 5000),
    margin=st.floats(1, 4),
)
def test_any_linear_grey_scale_cancels(grey, bits, signed, slope, intercept, margin):
    """Bits, sign, rescale and a window that holds the whole range: none changes the input."""
    white = ((1 << bits) - 1) * slope
    least = intercept - ((1 << (bits - 1)) * slope if signed else 0)
    ds = stored(
        grey,
        bits,
        signed=signed,
        RescaleSlope=f"{slope:.10g}",
        RescaleIntercept=f"{intercept:.10g}",
        WindowCenter=f"{least + white / 2:.10g}",
        WindowWidth=f"{white * margin:.10g}",
        VOILUTFunction="LINEAR_EXACT",
    )
    exact = stored(grey, bits)
    assert np.abs(prepare(to_pixels(ds), SPEC) - prepare(to_pixels(exact), SPEC)).max() < 2e-3


@settings(max_examples=40, deadline=None)
@given(grey=coarse_images(), bits=st.sampled_from([8, 12, 16]), signed=st.booleans())
def test_monochrome1_is_exactly_the_inverse_of_monochrome2(grey, bits, signed):
    ds = stored(grey, bits, signed=signed)
    upright = to_pixels(ds)
    ds.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(to_pixels(ds), np.float32(1) - upright)
    turned = stored(grey, bits, signed=signed, inverse=True)
    assert np.abs(prepare(to_pixels(turned), SPEC) - prepare(upright, SPEC)).max() < 1e-5
