"""One picture as DICOM in many ways; each displays the picture's own grey values."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from tests import datasets

Grey = NDArray[np.uint8]  # (rows, columns), as in an 8-bit JPEG
Way = Callable[[Grey], Dataset]

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = f"{EXPLICIT}.99", "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1, JLS, JLS_NEAR, J2K_LOSSLESS, J2K = (
    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)
)


def stored(
    grey: Grey,
    bits: int = 12,
    *,
    allocated: int = 16,
    high_bit: int | None = None,
    signed: bool = False,
    inverse: bool = False,
    **attributes: Any,
) -> Dataset:
    """Return a picture whose black and white are the least and the largest value of `bits`.

    Parameters
    ----------
    bits, allocated, high_bit
        Bits Stored, Bits Allocated and High Bit; the last one is `bits` - 1 unless given.
    signed
        Half of the values are below zero.
    inverse
        MONOCHROME1: white is the least value.
    """
    white = (1 << bits) - 1
    values = np.rint(grey.astype(np.float64) * white / 255).astype(np.int64)
    return of_values(values, bits, allocated, high_bit, signed, inverse, **attributes)


def of_values(
    values: NDArray[np.int64],
    bits: int,
    allocated: int = 16,
    high_bit: int | None = None,
    signed: bool = False,
    inverse: bool = False,
    **attributes: Any,
) -> Dataset:
    """Store values of 0 to 2^bits - 1; see `stored`."""
    if inverse:
        values = (1 << bits) - 1 - values
        attributes = {"PhotometricInterpretation": "MONOCHROME1", **attributes}
    if signed:
        values = values - (1 << (bits - 1))
    high_bit = bits - 1 if high_bit is None else high_bit
    shifted = values << (high_bit + 1 - bits)
    pixels = shifted.astype(f"{'i' if signed else 'u'}{allocated // 8}")
    return datasets.image(pixels, BitsStored=bits, HighBit=high_bit, **attributes)


def with_overlay(grey: Grey) -> Dataset:
    """12 bits, with an old overlay in the bits above (retired from PS3.5 8.1.2)."""
    ds = stored(grey, 12)
    bits = np.frombuffer(ds.PixelData, "<u2") | np.uint16(0x9000)
    ds.PixelData = bits.tobytes()
    return ds


def sigmoid(grey: Grey, *, inverse: bool = False) -> Dataset:
    """Store what a SIGMOID window displays as the picture (PS3.3 C.11.2.1.3.1)."""
    center, width = 32768.0, 20000.0
    shown = (grey.astype(np.float64) + 0.5) / 256
    if inverse:
        shown = 1 - shown
    values = center - width / 4 * np.log(1 / shown - 1)
    window = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": "SIGMOID"}
    if inverse:
        window["PhotometricInterpretation"] = "MONOCHROME1"
    return of_values(np.rint(values).astype(np.int64), 16, **window)


def root(grey: Grey) -> NDArray[np.int64]:
    """Return 12-bit values that a square law turns into the picture."""
    return np.rint(4095 * np.sqrt(grey / 255)).astype(np.int64)


def square_law(white: int) -> list[Dataset]:
    """Return the LUT for `root`, from 12-bit values to 0 to `white`."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    law = np.rint(white * (np.arange(4096) / 4095) ** 2).astype("<u2")
    item.add_new("LUTData", "OW", law.tobytes())
    item.ModalityLUTType = "US"
    return [item]


def clipped(grey: Grey, low: int, high: int) -> Grey:
    """Return the picture as a window from `low` to `high` displays it."""
    return np.rint(np.clip((grey - float(low)) / (high - low), 0, 1) * 255).astype(np.uint8)


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where an image's border is: a twelfth on each side."""
    inside = np.zeros(shape, bool)
    rows, columns = shape[0] // 12, shape[1] // 12
    inside[rows:-rows, columns:-columns] = True
    return ~inside


def with_border(grey: Grey) -> Grey:
    """Return the picture with a black border."""
    return np.where(_border(grey.shape), 0, grey).astype(np.uint8)


def padded(grey: Grey, *, inverse: bool) -> Dataset:
    """Store the picture with its black border as padding, brighter than all else."""
    ds = stored(grey, 12, inverse=inverse, WindowCenter=2048, WindowWidth=4096)
    padding = 0 if inverse else 4095
    values = np.frombuffer(ds.PixelData, "<u2").reshape(grey.shape)
    ds.PixelData = np.where(_border(grey.shape), padding, values).astype("<u2").tobytes()
    ds.PixelPaddingValue = padding
    return ds


_WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
_EXACT = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
_WIDE = {"WindowCenter": 2048, "WindowWidth": 9000}

BITS: dict[str, Way] = {
    f"{bits} of {allocated} bits, {'signed' if signed else 'unsigned'}, MONOCHROME{photometric}": (
        lambda g, b=bits, a=allocated, s=signed, p=photometric: stored(
            g, b, allocated=a, signed=s, inverse=p == 1
        )
    )
    for bits, allocated in ((8, 8), (8, 16), (10, 16), (12, 16), (16, 16))
    for signed in (False, True)
    for photometric in (1, 2)
}

GREY_SCALES: dict[str, Way] = {
    "bits at the top": lambda g: stored(g, 12, high_bit=15),
    "signed bits at the top": lambda g: stored(g, 12, high_bit=15, signed=True),
    "bits in the middle": lambda g: stored(g, 10, high_bit=12),
    "overlay above the bits": with_overlay,
    "window": lambda g: stored(g, **_WINDOW),
    "window, MONOCHROME1": lambda g: stored(g, inverse=True, **_WINDOW),
    "window, signed": lambda g: stored(g, signed=True, WindowCenter=0, WindowWidth=4096),
    "window, 8 bits": lambda g: stored(g, 8, allocated=8, WindowCenter=128, WindowWidth=256),
    "window round a part of the range": lambda g: of_values(
        1000 + 4 * g.astype(np.int64), 12, WindowCenter=1510.5, WindowWidth=1021
    ),
    "window wider than the range": lambda g: stored(g, **_WIDE),
    "LINEAR_EXACT": lambda g: stored(g, **_EXACT),
    "LINEAR_EXACT, MONOCHROME1": lambda g: stored(g, inverse=True, **_EXACT),
    "SIGMOID": sigmoid,
    "SIGMOID, MONOCHROME1": lambda g: sigmoid(g, inverse=True),
    "first of two windows": lambda g: stored(g, WindowCenter=[2048, 300], WindowWidth=[4096, 9]),
    "VOI LUT": lambda g: of_values(root(g), 12, VOILUTSequence=square_law(65535)),
    "VOI LUT, MONOCHROME1": lambda g: of_values(
        root(255 - g),
        12,
        VOILUTSequence=square_law(65535),
        PhotometricInterpretation="MONOCHROME1",
    ),
    "modality LUT": lambda g: of_values(root(g), 12, ModalityLUTSequence=square_law(4095)),
    "modality LUT and window": lambda g: of_values(
        root(g), 12, ModalityLUTSequence=square_law(4095), **_WINDOW
    ),
    "rescale": lambda g: stored(g, RescaleSlope="0.5", RescaleIntercept="-1024"),
    "rescale and window": lambda g: stored(
        g, RescaleSlope="0.5", RescaleIntercept="-1024", WindowCenter=0, WindowWidth=2048.5
    ),
    "rescale, signed, MONOCHROME1": lambda g: stored(
        g, 16, signed=True, inverse=True, RescaleSlope="2.5", RescaleIntercept="100"
    ),
    "negative slope": lambda g: stored(255 - g, RescaleSlope=-1, RescaleIntercept=4095),
    "PresentationLUTShape INVERSE": lambda g: stored(
        g, inverse=True, PresentationLUTShape="INVERSE"
    ),
    "RGB": lambda g: datasets.image(np.stack([g] * 3, axis=-1)),
}


def in_syntax(ds: Dataset, syntax: str) -> Dataset:
    """Say another uncompressed transfer syntax, and swap the bytes if it is the big-endian one."""
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == BIG_ENDIAN and ds.BitsAllocated == 16:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    return ds


def compressed(ds: Dataset, syntax: str, **options: Any) -> Dataset:
    """Compress with pydicom's encoders."""
    ds.compress(syntax, generate_instance_uid=False, **options)
    return ds


def by_dcmtk(ds: Dataset, *options: str) -> Dataset:
    """Compress with DCMTK's dcmcjpeg."""
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg of DCMTK is not installed")
    with TemporaryDirectory() as folder:
        plain, coded = Path(folder, "plain.dcm"), Path(folder, "coded.dcm")
        plain.write_bytes(datasets.part10(ds))
        subprocess.run(["dcmcjpeg", *options, plain, coded], check=True, capture_output=True)
        result = dcmread(BytesIO(coded.read_bytes()))
    return result


def encapsulated(ds: Dataset, code_stream: bytes, syntax: str) -> Dataset:
    """Replace the pixel data by a code stream made elsewhere."""
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.PixelData = encapsulate([code_stream])
    ds["PixelData"].is_undefined_length = True
    return ds


def baseline(grey: Grey, quality: int) -> Dataset:
    """Return JPEG Baseline as Pillow writes it."""
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
    return encapsulated(stored(grey, 8, allocated=8), buffer.getvalue(), BASELINE)


_DEPTHS: dict[str, Way] = {
    "8 bits": lambda g: stored(g, 8, allocated=8),
    "12 bits, MONOCHROME1": lambda g: stored(g, 12, inverse=True),
    "16 bits": lambda g: stored(g, 16),
    "12 bits, signed": lambda g: stored(g, 12, signed=True),
}
_PYDICOM: dict[str, Callable[[Dataset], Dataset]] = {
    IMPLICIT: lambda ds: in_syntax(ds, IMPLICIT),
    EXPLICIT: lambda ds: in_syntax(ds, EXPLICIT),
    DEFLATED: lambda ds: in_syntax(ds, DEFLATED),
    BIG_ENDIAN: lambda ds: in_syntax(ds, BIG_ENDIAN),
    RLE: lambda ds: compressed(ds, RLE),
    JLS: lambda ds: compressed(ds, JLS),
    J2K_LOSSLESS: lambda ds: compressed(ds, J2K_LOSSLESS),
}
_DCMTK: dict[str, Callable[[Dataset], Dataset]] = {
    LOSSLESS: lambda ds: by_dcmtk(ds, "+el"),
    LOSSLESS_SV1: lambda ds: by_dcmtk(ds, "+e1"),
}


def _at_every_depth(encoders: dict[str, Callable[[Dataset], Dataset]]) -> dict[str, Way]:
    return {
        f"{syntax}, {depth}": lambda g, e=encoder, s=store: e(s(g))
        for syntax, encoder in encoders.items()
        for depth, store in _DEPTHS.items()
    }


# By transfer syntax, and what is stored.
LOSSLESS_BY_PYDICOM = _at_every_depth(_PYDICOM)
LOSSLESS_BY_DCMTK = _at_every_depth(_DCMTK)
LOSSY_BY_PYDICOM: dict[str, Way] = {
    f"{BASELINE}, quality 90": lambda g: baseline(g, 90),
    f"{JLS_NEAR}, 8 bits": lambda g: compressed(_DEPTHS["8 bits"](g), JLS_NEAR, jls_error=2),
    f"{JLS_NEAR}, 12 bits": lambda g: compressed(stored(g, 12), JLS_NEAR, jls_error=16),
    f"{J2K}, 8 bits, 8 to 1": lambda g: compressed(_DEPTHS["8 bits"](g), J2K, j2k_cr=[8]),
    f"{J2K}, 12 bits, 10 to 1": lambda g: compressed(stored(g, 12), J2K, j2k_cr=[10]),
}
LOSSY_BY_DCMTK: dict[str, Way] = {
    f"{EXTENDED}, quality 90": lambda g: by_dcmtk(stored(g, 12), "+ee", "+q", "90"),
    f"{EXTENDED}, MONOCHROME1": lambda g: by_dcmtk(stored(g, 12, inverse=True), "+ee", "+q", "90"),
}
