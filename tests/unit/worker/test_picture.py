"""A picture is the image, recognisably, with what must be said round it."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dicom_node.findings import InstanceFinding
from worker import picture

MODEL = "cxr-resnet18 1.1.0"
PRESENT = InstanceFinding("1.2.3", True, finding="PRESENT", pneumonia=0.9731)
ABSENT = InstanceFinding("1.2.3", True, finding="ABSENT", pneumonia=0.02)


def grey(rows: int = 700, columns: int = 900, value: float = 0.5) -> np.ndarray:
    return np.full((rows, columns), value, np.float32)


def spot(size: int = 8) -> np.ndarray:
    """A map that is strong in its upper left quarter alone."""
    heat = np.zeros((size, size), np.float32)
    heat[: size // 2, : size // 2] = 1
    return heat


def image_of(drawn: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Cut the image out of a picture: below a banner, above the legend."""
    top = banner_rows(columns)
    return drawn[top : top + rows]


def banner_rows(columns: int) -> int:
    return len(picture.draw(grey(columns, columns), PRESENT, MODEL)) - columns


def is_coloured(pixels: np.ndarray) -> np.ndarray:
    return np.ptp(pixels.astype(int), axis=-1) > 20


@pytest.mark.parametrize(
    ("finding", "calibrated", "words"),
    [
        (PRESENT, True, "Pneumonia: PRESENT, probability 97.3 %"),
        (PRESENT, False, "Pneumonia: PRESENT, certainty 97.3 %"),
        (ABSENT, True, "Pneumonia: ABSENT, probability 2.0 %"),
        (
            InstanceFinding("1.2.3", False, reason="NOT_FRONTAL"),
            True,
            "Not assessed: the image is not a frontal view",
        ),
    ],
)
def test_the_result_is_said_in_words(
    finding: InstanceFinding, calibrated: bool, words: str
) -> None:
    assert picture.headline(finding, calibrated=calibrated) == words


def test_picture_is_rgb_with_a_banner_above_the_image() -> None:
    drawn = picture.draw(grey(), ABSENT, MODEL)
    assert drawn.dtype == np.uint8
    assert drawn.shape[1:] == (900, 3)
    banner = drawn[:-700]
    assert (banner > 0).any()
    assert (drawn[-700:] == 128).all()


def test_image_without_a_map_stays_grey_as_it_is() -> None:
    ramp = np.tile(np.linspace(0, 1, 900, dtype=np.float32), (700, 1))
    drawn = picture.draw(ramp, ABSENT, MODEL)[-700:]
    assert (drawn[..., 0] == drawn[..., 1]).all()
    assert np.abs(drawn[0, :, 0] / 255 - ramp[0]).max() < 0.003


def test_map_is_stretched_over_the_whole_image_and_nothing_else_is_coloured() -> None:
    drawn = picture.draw(grey(), PRESENT, MODEL, heat=spot())
    coloured = is_coloured(image_of(drawn, 700, 900))
    assert coloured[:250, :330].all()
    assert not coloured[450:].any()
    assert not coloured[:, 600:].any()


def test_image_shows_through_the_strongest_place() -> None:
    stripes = np.indices((640, 640))[1] // 40 % 2
    drawn = picture.draw(stripes.astype(np.float32), PRESENT, MODEL, heat=np.ones((4, 4), "f"))
    image = image_of(drawn, 640, 640).astype(int)
    assert image[20, 60].min() - image[20, 20].min() > 80


def test_a_map_in_which_nothing_speaks_for_the_answer_colours_nothing() -> None:
    drawn = picture.draw(grey(), PRESENT, MODEL, heat=np.zeros((4, 4), "f"))
    assert not is_coloured(image_of(drawn, 700, 900)).any()


def test_colours_grow_brighter_with_strength_for_whoever_sees_no_hue() -> None:
    luma = picture.SCALE @ np.array([0.299, 0.587, 0.114])
    assert all(darker < brighter for darker, brighter in pairwise(luma))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_on_a_grey_screen_a_line_tells_the_map_from_a_shadow(value: float) -> None:
    drawn = picture.draw(grey(value=value), PRESENT, MODEL, heat=spot())
    luma = image_of(drawn, 700, 900) @ np.array([0.299, 0.587, 0.114])
    steps = np.abs(np.diff(luma[100]))  # from left to right, out of the map
    assert steps.max() > 60
    assert (steps > 60).sum() <= 3


@pytest.mark.parametrize(
    ("rows", "columns", "size"),
    [
        (3000, 4000, (1536, 2048)),  # larger than a screen
        (900, 700, (900, 700)),  # as it is
        (64, 128, (320, 640)),  # too small for the words
        (1000, 10, (1000, 320)),  # too narrow for them
    ],
)
def test_size_is_one_that_a_viewer_shows_and_a_reader_reads(
    rows: int, columns: int, size: tuple[int, int]
) -> None:
    drawn = picture.draw(grey(rows, columns), ABSENT, MODEL)
    assert drawn.shape[1] == size[1]
    assert size[0] < len(drawn) < size[0] + size[1] / 4


def test_demo_may_ask_for_a_smaller_one() -> None:
    assert picture.draw(grey(1000, 2000), ABSENT, MODEL, longest=640).shape[1] == 640


def test_longest_sentence_fits_beside_the_narrowest_image() -> None:
    refused = InstanceFinding("1.2.3", False, reason="FOR_PROCESSING")
    drawn = picture.draw(grey(640, 20), refused, MODEL)
    assert not drawn[:-640, -4:].any()


def test_flags_are_said_in_the_banner() -> None:
    flagged = InstanceFinding(
        "1.2.3", True, finding="PRESENT", pneumonia=0.9, flags=("AGE_UNKNOWN",)
    )
    assert len(picture.draw(grey(), flagged, MODEL)) > len(picture.draw(grey(), PRESENT, MODEL))


def test_same_arguments_draw_the_same_picture() -> None:
    one, other = (picture.draw(grey(), PRESENT, MODEL, heat=spot()) for _ in range(2))
    assert (one == other).all()


def test_map_survives_its_png() -> None:
    heat = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    png = picture.encode_heat(heat)
    with Image.open(BytesIO(png)) as stored:
        assert (stored.mode, stored.size) == ("L", (16, 16))
    assert np.abs(picture.decode_heat(png) - heat).max() <= 0.5 / 255 + 1e-6
