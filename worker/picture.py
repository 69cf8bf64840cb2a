"""An image with its result and its heat map as one picture.

It is what a Secondary Capture shows in a PACS and what the demo leaves as a PNG. A reader must
never take it for the radiograph, so it says what it is in words and in colour. No pixel of it
names the patient, apart from what is burned into the image itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dicom_node import codes
from dicom_node.findings import InstanceFinding
from dicom_node.sentence import answer_of, percent, reason_sentence

Picture = NDArray[np.uint8]  # (rows, columns, 3), RGB
Floats = NDArray[np.float32]

# The longer side of the image in a picture, pixels: not finer than a diagnostic screen shows it,
# and not so small that the words could not be read beside it.
LONGEST: Final = 2048
SHORTEST: Final = 640

NOTICE: Final = "For research use. Not for diagnosis."
LEGEND: Final = "What spoke for pneumonia (not its extent):"

# Told apart by brightness too, for whoever does not see the hue; the word says it in any case.
COLOURS: Final = {"PRESENT": "#ff9a3c", "UNDETERMINED": "#ffe08a", "ABSENT": "#8ecbff"}
NOT_ASSESSED: Final = "#cccccc"

# Inferno (S. van der Walt, N. Smith, matplotlib, CC0): its lightness rises evenly, so that the
# order of its colours is the same to the colour-blind and on a grey screen.
SCALE: Final = np.array(
    [
        (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
        (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip
# Opacity grows from none where the map is weak; at its strongest the image still shows through.
WEAKEST: Final = 0.2
OPACITY: Final = 0.5
# On a grey screen a translucent spot may look like a shadow in the lung; a line round it does not.
OUTLINED: Final = 0.5
LINE, EDGE = (255, 224, 138), (20, 20, 20)  # bright within dark, to be seen on any image


class Line(NamedTuple):
    """A line of the banner."""

    text: str
    colour: str
    share: float  # of the picture's width that one em has, at most


def draw(
    pixels: Floats,
    finding: InstanceFinding,
    model: str,
    *,
    calibrated: bool = True,
    heat: Floats | None = None,
    longest: int = LONGEST,
) -> Picture:
    """Draw an image with its result above it, and its heat map over it.

    Parameters
    ----------
    pixels
        Shape (rows, columns), in [0, 1], air dark.
    finding
        What was found in the image, or why it was not assessed.
    model
        Name and version.
    calibrated
        Whether the score may be called a probability.
    heat
        The map, in [0, 1], of any size: the network sees the whole image stretched to a square, so
        the map is stretched back over the whole of it. None when there is none.
    longest
        The longer side of the drawn image, pixels, at most.

    Returns
    -------
    ndarray
        uint8, (rows, columns, 3), RGB.
    """
    image = _sized(pixels, longest)
    if heat is not None:
        image = _overlaid(image, heat)
    image = _framed(image)
    parts = [_banner(image.width, _lines(finding, model, calibrated)), image]
    if heat is not None:
        parts.append(_legend(image.width))
    return np.concatenate([np.asarray(part) for part in parts])


def encode_heat(heat: Floats) -> bytes:
    """Encode a map, in [0, 1], as an 8-bit grey PNG."""
    return to_png((np.clip(heat, 0, 1) * 255).round().astype(np.uint8))


def decode_heat(png: bytes) -> Floats:
    """Read a map back from `encode_heat`."""
    with Image.open(BytesIO(png)) as grey:
        return np.asarray(grey, np.float32) / np.float32(255)


def heat_layer(heat: Floats) -> NDArray[np.uint8]:
    """Return a map as colours to lay over its image, transparent where it is weak.

    Parameters
    ----------
    heat
        In [0, 1].

    Returns
    -------
    ndarray
        uint8, (rows, columns, 4), RGBA.
    """
    strength = np.clip(heat, 0, 1)
    opacity = 255 * np.clip((strength - WEAKEST) / (1 - WEAKEST), 0, 1)[..., None]
    return np.concatenate([_coloured(strength), opacity], -1).round().astype(np.uint8)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture, or one channel, as a PNG."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


# --- the image -------------------------------------------------------------------------------


def _sized(pixels: Floats, longest: int) -> Image.Image:
    """Return the image in grey, not larger than `longest`; a small one is made larger."""
    grey = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    side = max(grey.size)
    scale = min(longest, max(SHORTEST, side)) / side
    width, height = (max(1, round(length * scale)) for length in grey.size)
    return grey.resize((width, height), Image.Resampling.BICUBIC) if scale != 1 else grey


def _framed(image: Image.Image) -> Image.Image:
    """Return the image in the middle of a picture that is wide enough for the words."""
    framed = Image.new("RGB", (max(image.width, SHORTEST // 2), image.height))
    framed.paste(image, ((framed.width - image.width) // 2, 0))
    return framed


def _overlaid(image: Image.Image, heat: Floats) -> Image.Image:
    """Return the image with the map over it, the stronger the less translucent."""
    stretched = Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(stretched, np.float32), 0, 1)
    opacity = OPACITY * np.clip((strength - WEAKEST) / (1 - WEAKEST), 0, 1)[..., None]
    grey = np.asarray(image, np.float32)[..., None]
    mixed = (grey * (1 - opacity) + _coloured(strength) * opacity).round().astype(np.uint8)
    _outline(mixed, strength >= OUTLINED)
    return Image.fromarray(mixed)


def _outline(picture: Picture, inside: NDArray[np.bool_]) -> None:
    """Draw a line round the places that are inside."""
    width = 2 * max(1, round(max(inside.shape) / 1000)) + 1
    mask = Image.fromarray(inside.astype(np.uint8))
    grown, shrunk = (
        np.asarray(mask.filter(rank(width))).astype(bool)
        for rank in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    picture[grown & ~inside] = EDGE
    picture[inside & ~shrunk] = LINE


def _coloured(strength: Floats) -> Floats:
    """Return the colours of strengths in [0, 1]: one more axis, of three."""
    table = np.stack(
        [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(SCALE)), c) for c in SCALE.T], -1
    ).astype(np.float32)
    return table[(strength * 255).round().astype(np.intp)]


# --- the words -------------------------------------------------------------------------------


def headline(finding: InstanceFinding, *, calibrated: bool = True) -> str:
    """Say the result of one image in a line."""
    if not finding.assessed:
        return f"Not assessed: {reason_sentence(finding.reason or '')}"
    answer = codes.ANSWERS[answer_of(finding)].meaning.upper()
    word = "probability" if calibrated else "certainty"
    return f"Pneumonia: {answer}, {word} {percent(finding.pneumonia)} %"


def _lines(finding: InstanceFinding, model: str, calibrated: bool) -> Iterable[Line]:
    colour = COLOURS[answer_of(finding)] if finding.assessed else NOT_ASSESSED
    yield Line(headline(finding, calibrated=calibrated), colour, 1 / 24)
    for flag in finding.flags:
        yield Line(f"Note that {codes.FLAG_SENTENCES.get(flag, flag)}.", "#ffffff", 1 / 36)
    yield Line(f"{NOTICE} {model}", "#b0b0b0", 1 / 36)


def _banner(width: int, lines: Iterable[Line]) -> Image.Image:
    """Draw lines under each other on black, each as large as it may be and fits."""
    margin = width // 50
    fitted = [(line, _font(line.text, line.share * width, width - 2 * margin)) for line in lines]
    height = sum(round(font.size * 1.4) for _, font in fitted) + margin
    banner = Image.new("RGB", (width, height))
    pen, top = ImageDraw.Draw(banner), margin // 2
    for line, font in fitted:
        pen.text((margin, top), line.text, fill=line.colour, font=font)
        top += round(font.size * 1.4)
    return banner


def _legend(width: int) -> Image.Image:
    """Draw the colour scale as it looks over a middle grey, with its ends named."""
    margin, bar = width // 50, width // 4
    font = _font(f"{LEGEND}  weak   strong", width / 40, width - bar - 2 * margin)
    legend = Image.new("RGB", (width, round(font.size * 2)))
    pen, middle = ImageDraw.Draw(legend), legend.height // 2
    steps = np.linspace(0, 1, bar, dtype=np.float32)
    scale = _overlaid(Image.new("L", (bar, round(font.size)), 110), steps[None])
    left = margin
    for part in (LEGEND, "weak", scale, "strong"):
        if isinstance(part, str):
            pen.text((left, middle), part, fill="#b0b0b0", font=font, anchor="lm")
            left += round(font.getlength(part) + font.size / 2)
        else:
            legend.paste(part, (left, middle - part.height // 2))
            left += part.width + round(font.size / 2)
    return legend


def _font(text: str, size: float, width: float) -> ImageFont.FreeTypeFont:
    """Return the font that comes with Pillow, in this size or smaller, so that the text fits."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what it is when a size is given
    length = font.getlength(text)
    return font if length <= width else _font(text, size * width / length * 0.99, width)
