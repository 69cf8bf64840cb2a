"""Images of a study, as the browser draws them: the radiograph, and its heat map over it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import Row, bindparam, select

from dicom_node.decoder_child import DecoderAway
from dicom_node.errors import InstanceError
from worker.chart import Chart, Shown, chart
from worker.reading import ArchiveAway, FileGone, open_stored, pixels_of, read_to_decode
from worker.tables import FindingRow
from worker.web import audited
from worker.web.gate import Given, Whoever
from worker.web.services import Services

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

router = APIRouter()

# Of the longer side, in pixels: what a screen shows.
_LONGEST: Final = 2048
# Images that are read at once: each takes its pixels, several times, in memory.
_AT_ONCE: Final = threading.BoundedSemaphore(2)
_PATIENCE_S: Final = 20.0
# Said to a script that draws the samples itself.
_ROWS, _COLUMNS = "X-Rows", "X-Columns"


@router.get("/studies/{uid}/images/{sop_instance_uid}/picture.png")
def picture(
    request: Request, services: Given, who: Whoever, uid: str, sop_instance_uid: str
) -> Response:
    """Give an image as an 8-bit PNG, in the window that it names itself."""
    from worker.picture import to_png

    pixels = _pixels(services, request, who, uid, sop_instance_uid)
    return Response(to_png((pixels * 255).round().astype("uint8")), media_type="image/png")


@router.get("/studies/{uid}/images/{sop_instance_uid}/samples")
def samples(
    request: Request, services: Given, who: Whoever, uid: str, sop_instance_uid: str
) -> Response:
    """Give an image as 16-bit samples, little endian, row by row: for another window."""
    pixels = _pixels(services, request, who, uid, sop_instance_uid)
    rows, columns = map(str, pixels.shape)
    return Response(
        (pixels * 65535).round().astype("<u2").tobytes(),
        media_type="application/octet-stream",
        headers={_ROWS: rows, _COLUMNS: columns},
    )


@router.get("/studies/{uid}/images/{sop_instance_uid}/heat.png")
def heat(
    request: Request, services: Given, who: Whoever, uid: str, sop_instance_uid: str
) -> Response:
    """Give what spoke for pneumonia as colours, transparent where nothing did."""
    from worker.picture import decode_heat, heat_layer, to_png

    _, shown = _shown(services, request, who, uid, sop_instance_uid)
    png = None if shown.told is None else _heat_of(services, shown.told)
    if png is None:
        raise HTTPException(404, "No heat map was made of this image.")
    return Response(to_png(heat_layer(decode_heat(png))), media_type="image/png")


def _shown(
    services: Services, request: Request, who: Whoever, uid: str, sop_instance_uid: str
) -> tuple[Chart, Shown]:
    """Find an image of a study, and write down that it is seen."""
    with services.reading() as session:
        found = chart(session, uid)
    for each in found.images if found else ():
        if each.instance.sop_instance_uid == sop_instance_uid:
            assert found is not None
            audited.viewed(services, request, who, found)
            return found, each
    raise HTTPException(404, "No such image is here.")


def _pixels(
    services: Services, request: Request, who: Whoever, uid: str, sop_instance_uid: str
) -> NDArray[np.float32]:
    """Read an image, (rows, columns) in [0, 1], air dark, not larger than a screen shows it."""
    _, shown = _shown(services, request, who, uid, sop_instance_uid)
    with decoding():
        return _reduced(_read(services, shown))


@contextmanager
def decoding() -> Iterator[None]:
    """Hold one of the few places where images are read.

    Raises
    ------
    HTTPException
        When none becomes free, and for what goes wrong within.
    """
    if not _AT_ONCE.acquire(timeout=_PATIENCE_S):
        raise HTTPException(503, "Too many images are asked for; try again soon.")
    try:
        yield
    except InstanceError as error:
        raise HTTPException(415, f"This image cannot be shown: {error.reason}") from error
    except ArchiveAway as error:
        raise HTTPException(503, f"The archive cannot be read just now ({error}).") from error
    except FileGone as error:
        raise HTTPException(404, "The image is gone from the archive.") from error
    except (DecoderAway, MemoryError, OSError) as error:
        raise HTTPException(503, "There is no means to decode it just now.") from error
    finally:
        _AT_ONCE.release()


def _read(services: Services, shown: Shown) -> NDArray[np.float32]:
    desk, instance = services.desk, shown.instance
    with open_stored(desk.archive, instance.path) as file:
        ds = read_to_decode(file)
        return pixels_of(desk.decoder, ds, file, instance.sop_instance_uid)


def _reduced(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    longest = max(pixels.shape)
    if longest > _LONGEST:
        rows, columns = (max(1, round(side * _LONGEST / longest)) for side in pixels.shape)
        image = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX)
        pixels = np.asarray(image, np.float32)
    return np.clip(pixels, 0, 1)


def _heat_of(services: Services, told: Row[Any]) -> bytes | None:
    with services.reading() as session:
        return session.scalar(_HEAT, {"instance": told.instance_id, "model": told.model_id})


_HEAT = select(FindingRow.heatmap).where(
    FindingRow.instance_id == bindparam("instance"), FindingRow.model_id == bindparam("model")
)
