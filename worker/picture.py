"""An image with its result as a PNG, for the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dicom_node.errors import InstanceError

WIDTH = 640
BANNER = 56
COLOURS = {"PRESENT": "#ff6b5e", "ABSENT": "#7ddc82", "UNDETERMINED": "#ffd166"}
NOTICE = "For research use. Not for diagnosis."


def draw(source: Path, instance: dict[str, Any], target: Path) -> None:
    """Draw an instance's image with a banner that says what was found.

    Parameters
    ----------
    source
        A DICOM file, or the JPEG or PNG it was wrapped from.
    instance
        As in the JSON of ``cxr-worker results``.
    target
        The PNG to write.
    """
    image = _image(source)
    height = max(1, round(image.height * WIDTH / image.width))
    canvas = Image.new("RGB", (WIDTH, height + BANNER), "black")
    canvas.paste(image.resize((WIDTH, height)), (0, BANNER))
    pen = ImageDraw.Draw(canvas)
    colour = COLOURS.get(instance["finding"] or "", "#cccccc")
    pen.text((12, 6), headline(instance), fill=colour, font=ImageFont.load_default(22))
    pen.text((12, 34), NOTICE, fill="#aaaaaa", font=ImageFont.load_default(14))
    canvas.save(target)


def headline(instance: dict[str, Any]) -> str:
    """Say the result of one instance in a line."""
    if not instance["assessed"]:
        return f"NOT ASSESSED: {instance['reason']}"
    probability = instance["probabilities"]["pneumonia"]
    return f"Pneumonia: {instance['finding']}, probability {probability:.1%}"


def _image(source: Path) -> Image.Image:
    from pydicom import dcmread

    from dicom_node.pixels import to_pixels
    from worker.sending import is_dicom

    if not is_dicom(source):
        with Image.open(source) as picture:
            return picture.convert("L")
    try:
        return Image.fromarray((to_pixels(dcmread(source)) * 255).astype("uint8"))
    except InstanceError:
        return Image.new("L", (WIDTH, WIDTH // 2))
