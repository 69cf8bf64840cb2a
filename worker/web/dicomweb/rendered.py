"""WADO-RS of rendered instances and frames: pictures that a browser can show.

References
----------
DICOM PS3.18 10.4.1.1.4, 8.3.5
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fastapi import APIRouter, HTTPException, Request, Response
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.attributes import number, text
from worker.reading import open_stored, pixels_of
from worker.web import audited
from worker.web.api.bearer import Caller
from worker.web.dicomweb import accept
from worker.web.dicomweb.callers import Guarded
from worker.web.dicomweb.frames import frame_numbers, require_frames
from worker.web.dicomweb.objects import Stored, find_one
from worker.web.dicomweb.retrieve import EXPLICIT, INSTANCE, OfInstance
from worker.web.gate import Given
from worker.web.images import decoding
from worker.web.services import Services

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

router = APIRouter(route_class=Guarded)

_JPEG, _PNG = "image/jpeg", "image/png"
_THUMBNAIL: Final = 256
_LARGEST: Final = 4096
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


@dataclass(frozen=True, slots=True)
class _View:
    """How an image is shown.

    Attributes
    ----------
    window
        Centre, width and function; None for what the instance says.
    viewport
        Width and height of the picture at most, and then of the part of the image that is shown,
        as left, top, width and height; () for all of it, in its own size.
    """

    window: tuple[float, float, str] | None = None
    viewport: tuple[float, ...] = ()
    quality: int = 90


@router.get(INSTANCE + "/rendered")
def instance(request: Request, services: Given, caller: Caller, uids: OfInstance) -> Response:
    """Give an instance as a picture."""
    return _picture(request, services, caller, uids, _view(request))


@router.get(INSTANCE + "/frames/{numbers}/rendered")
def frame(
    request: Request, services: Given, caller: Caller, uids: OfInstance, numbers: str
) -> Response:
    """Give a frame as a picture."""
    require_frames(frame_numbers(numbers), 1)  # of more than one, pixels are not made here
    return _picture(request, services, caller, uids, _view(request))


@router.get(INSTANCE + "/thumbnail")
def thumbnail(request: Request, services: Given, caller: Caller, uids: OfInstance) -> Response:
    """Give an instance as a small picture."""
    view = _View(viewport=(_THUMBNAIL, _THUMBNAIL))
    return _picture(request, services, caller, uids, view)


def _picture(
    request: Request, services: Services, caller: Caller, uids: Sequence[str], view: _View
) -> Response:
    kind = accept.require(request, _JPEG, _PNG)
    stored = find_one(services, *uids)
    audited.accessed(services, request, caller, stored.study)
    buffer = BytesIO()
    with decoding():
        image = _sized(_image(services, stored, view), view.viewport)
        if kind == _PNG:
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "JPEG", quality=view.quality)
    return Response(buffer.getvalue(), media_type=kind)


# --- what is asked for -----------------------------------------------------------------------


def _view(request: Request) -> _View:
    """Read the parameters of rendering (8.3.5.1).

    Raises
    ------
    HTTPException
        400.
    """
    asked = request.query_params
    quality = asked.get("quality", "90")
    if not re.fullmatch("[0-9]{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise HTTPException(400, "quality is a whole number from 1 to 100.")
    return _View(_window(asked.get("window")), _viewport(asked.get("viewport")), int(quality))


def _window(given: str | None) -> tuple[float, float, str] | None:
    if given is None:
        return None
    words = "window is centre,width,function: two numbers, and linear, linear-exact or sigmoid."
    try:
        centre, width, function = given.split(",")
        found = _finite(centre), _finite(width), _FUNCTIONS[function.strip().lower()]
    except (KeyError, ValueError) as error:
        raise HTTPException(400, words) from error
    if (found[1] < 1 and found[2] == "LINEAR") or found[1] <= 0:
        raise HTTPException(400, "The width of a window is 1 or more; with others above 0.")
    return found


def _viewport(given: str | None) -> tuple[float, ...]:
    if given is None:
        return ()
    words = (
        f"viewport is width,height, up to {_LARGEST}, and perhaps left,top,width,height within "
        "the image."
    )
    try:
        found = tuple(map(_finite, given.split(",")))
    except ValueError as error:
        raise HTTPException(400, words) from error
    sizes = (*found[:2], *found[4:])
    if len(found) not in (2, 6) or min(sizes) < 1 or max(found[:2]) > _LARGEST or min(found) < 0:
        raise HTTPException(400, words)
    return found


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return value


# --- the picture -----------------------------------------------------------------------------


def _image(services: Services, stored: Stored, view: _View) -> Image.Image:
    from PIL import Image

    desk = services.desk
    with open_stored(desk.archive, stored.path) as file:
        ds = dcmread(file)
        if _is_plain_colour(ds):
            size = int(ds.Columns), int(ds.Rows)
            return Image.frombytes("RGB", size, ds.PixelData[: size[0] * size[1] * 3])
        source: BinaryIO = file
        if view.window is not None:
            source = _with_window(ds, *view.window)
        pixels = pixels_of(desk.decoder, ds, source, stored.sop_instance_uid)
    return Image.fromarray(_eight_bits(pixels))


def _eight_bits(pixels: NDArray[np.float32]) -> Any:
    import numpy as np

    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)


def _is_plain_colour(ds: Dataset) -> bool:
    """Tell whether the pixels are a picture already, as in our Secondary Captures."""
    return (
        ds.file_meta.TransferSyntaxUID == EXPLICIT
        and text(ds, "PhotometricInterpretation") == "RGB"
        and number(ds, "BitsAllocated", 0) == 8
        and number(ds, "SamplesPerPixel", 0) == 3
        and number(ds, "PlanarConfiguration", 0) == 0
        and number(ds, "NumberOfFrames", 1) == 1
        and "PixelData" in ds
        and 0 < ds.Rows * ds.Columns * 3 <= len(ds.PixelData)
    )


def _with_window(ds: Dataset, centre: float, width: float, function: str) -> BinaryIO:
    """Set a window in place of what the instance has, and give its file anew."""
    ds.pop("VOILUTSequence", None)
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    ds.pop("WindowCenterWidthExplanation", None)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def _sized(image: Image.Image, viewport: tuple[float, ...]) -> Image.Image:
    """Return the part of an image that is asked for, fitted into the size that is asked for."""
    if not viewport:
        return image
    width, height, *part = viewport
    if part:
        left, top, across, down = part
        box = (
            round(left), round(top), round(min(image.width, left + across)),
            round(min(image.height, top + down)),
        )  # fmt: skip
        if box[0] >= box[2] or box[1] >= box[3]:
            raise HTTPException(400, "That part is outside of the image.")
        image = image.crop(box)
    scale = min(width / image.width, height / image.height)
    from PIL import Image as Pillow

    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Pillow.Resampling.BOX if scale < 1 else Pillow.Resampling.BICUBIC)
