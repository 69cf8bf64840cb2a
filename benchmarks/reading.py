"""What it takes to make the network's input of a stored instance: CPU time, by transfer syntax.

python -m benchmarks.reading [--rounds 5] [--images 10]

It is the way of the classify step: the file is read from the archive and parsed, its pixels are
decoded, in the decoding process where the syntax needs one, and reduced; then `prepare` makes the
network's input. The decoding process's time counts. Beside it is the plain way: `pixel_array` of
pydicom, the window, and Pillow's resize, with the file in memory already and all in one process.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks import objects, sheet
from dicom_node.archive import Archive
from dicom_node.decoder_child import Decoder
from model.preprocess import Preprocessing, prepare
from worker.reading import open_stored, pixels_of

SPEC = Preprocessing()


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which an image is stored."""

    name: str
    make: Callable[[], bytes]
    goal: str = ""


def plain(side: int) -> bytes:
    """Make an uncompressed radiograph."""
    return objects.radiograph(1, side).data


def compressed(syntax: str) -> bytes:
    """Make one of two megapixels in a syntax that pydicom can encode."""
    ds = dcmread(BytesIO(plain(objects.TWO_MEGAPIXELS)))
    ds.compress(syntax, generate_instance_uid=False)
    buffer = BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def jpeg_lossless() -> bytes:
    """Make one of two megapixels that DCMTK encodes."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "plain.dcm"), Path(folder, "coded.dcm")
        files[0].write_bytes(plain(objects.TWO_MEGAPIXELS))
        subprocess.run(["dcmcjpeg", "+e1", *files], check=True)  # noqa: S603, S607
        return files[1].read_bytes()


KINDS = (
    Kind(
        "2 megapixels, JPEG baseline",
        lambda: objects.radiograph(1, objects.TWO_MEGAPIXELS, str(JPEGBaseline8Bit)).data,
        "of 16 ms a study",
    ),
    Kind("10 MB, uncompressed", lambda: plain(objects.TEN_MEGABYTES), "of 50 ms a study"),
    Kind("2 megapixels, uncompressed", lambda: plain(objects.TWO_MEGAPIXELS)),
    Kind("2 megapixels, RLE", lambda: compressed(str(RLELossless))),
    Kind("2 megapixels, JPEG-LS", lambda: compressed(str(JPEGLSLossless))),
    Kind("2 megapixels, JPEG 2000, lossless", lambda: compressed(str(JPEG2000Lossless))),
)
BY_DCMTK = Kind("2 megapixels, JPEG, lossless", jpeg_lossless)


def cpu_s() -> float:
    """Give the CPU time of this process and its decoding process so far."""
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in children)


def the_plain_way(data: bytes) -> None:
    """Make the network's input as a script would."""
    ds = dcmread(BytesIO(data))
    pixels = apply_windowing(ds.pixel_array, ds).astype(np.float32)
    image = Image.fromarray(pixels).resize((SPEC.via, SPEC.via), Image.Resampling.BILINEAR)
    prepare(np.asarray(image), SPEC)


class Reading:
    """An instance in an archive, and what reads it."""

    def __init__(self, archive: Archive, decoder: Decoder, data: bytes) -> None:
        self._archive, self._decoder, self._data = archive, decoder, data
        self._path = "instance.dcm"
        (archive.root / self._path).write_bytes(data)

    def taken(self, images: int) -> tuple[float, float, float]:
        """Give the milliseconds per image of reading and decoding, `prepare`, the plain way."""
        reduced = self._read()  # not in the figure: the first starts the decoding process
        return (
            per_image(self._read, images, cpu_s),
            per_image(lambda: prepare(reduced, SPEC), images),
            per_image(lambda: the_plain_way(self._data), images),
        )

    def _read(self) -> np.ndarray:
        with open_stored(self._archive, self._path) as file:
            ds = dcmread(file)
            return pixels_of(self._decoder, ds, file, ds.SOPInstanceUID, SPEC.via)


def per_image(
    work: Callable[[], object], images: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Give the CPU time of some work, in milliseconds."""
    before = clock()
    for _ in range(images):
        work()
    return 1e3 * (clock() - before) / images


def measure(options: argparse.Namespace) -> list[sheet.Figure]:
    """Measure every kind."""
    figures = []
    kinds = (*KINDS, BY_DCMTK) if shutil.which("dcmcjpeg") else KINDS
    with tempfile.TemporaryDirectory() as folder:
        archive, decoder = Archive(Path(folder)), Decoder()
        for kind in kinds:
            reading = Reading(archive, decoder, kind.make())
            taken = [reading.taken(options.images) for _ in range(options.rounds)]
            read, prepared, plainly = (
                sheet.spread(t, "ms CPU", 1) for t in zip(*taken, strict=True)
            )
            beside = f"pydicom and Pillow: {plainly}"
            figures += [
                sheet.Figure(f"{kind.name}: read and decode", read, beside, kind.goal),
                sheet.Figure(f"{kind.name}: prepare", prepared),
            ]
        decoder.close()
    return figures


def main() -> int:
    """Run as a command."""
    parser = sheet.parser("reading", __doc__)
    parser.add_argument("--images", type=int, default=10, help="images of a round")
    return sheet.run(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
