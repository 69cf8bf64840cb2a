"""A dataset's pixels as they are meant to be seen: float32 in [0, 1], MONOCHROME2 sense.

Whole, or at once reduced to the square that a network looks at: then the image is never whole as
floats.

Nothing is decoded that does not look like what the dataset describes: of two that contradict each
other one is wrong, and so would be the pixels.

References
----------
DICOM PS3.3 C.7.6.3; PS3.5 8, A.4
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import RLELossless

import dicom_node.privacy  # noqa: F401
from dicom_node.attributes import number, text, words
from dicom_node.codestream import FRAME_STARTS, read_claim
from dicom_node.contexts import UNCOMPRESSED_TRANSFER_SYNTAXES, decodable_transfer_syntaxes
from dicom_node.decoders import stored_values
from dicom_node.errors import InstanceError, InvalidInstance, UnsupportedInstance
from dicom_node.grey_scale import grey
from dicom_node.strips import Floats, Rows, Shown, square, whole

# Rows x columns x samples: well above the largest detector (about 20 million), well below what
# makes a worker run out of memory.
MAX_SAMPLES = 100_000_000

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
# PS3.3 C.7.6.3.1.2. In every YBR one, the first sample is the luminance.
_LUMINANCE_FIRST = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_PHOTOMETRICS = (*_MONOCHROME, "PALETTE COLOR", "RGB", *_LUMINANCE_FIRST)

# ITU-R BT.601, as in PS3.3 C.7.6.3.1.2 (YBR_FULL)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# Where stored values are as the modality wrote them, with whatever is in the unused bits; a
# compressed code stream holds BitsStored bits only.
_VERBATIM = frozenset({*UNCOMPRESSED_TRANSFER_SYNTAXES, str(RLELossless)})


def to_pixels(ds: Dataset, side: int | None = None) -> Floats:
    """Return the image as it is meant to be seen.

    Parameters
    ----------
    ds : pydicom.dataset.Dataset
        One instance with its file meta information; not changed.
    side : int, optional
        Of the square that the image is to be reduced to, as `dicom_node.strips.square` would
        reduce all of it.

    Returns
    -------
    numpy.ndarray
        float32, (rows, columns) or (side, side), in [0, 1]; 0 is black.

    Raises
    ------
    UnsupportedInstance
        More than one frame, too large, or a photometric interpretation or transfer syntax that is
        not handled.
    InvalidInstance
        No pixel data, or it does not decode.
    """
    uid = None
    try:
        uid = str(ds.get("SOPInstanceUID", "")) or None
        syntax = _checked_syntax(ds, uid)
        if syntax in UNCOMPRESSED_TRANSFER_SYNTAXES:
            _check_length(ds)
        else:
            _check_frames(ds, syntax)
        if syntax not in _VERBATIM:
            _check_code_stream(ds)
        stored, photometric = _decode(ds, syntax)
        is_grey = photometric in _MONOCHROME
        image = grey(stored, ds) if is_grey else _luminance(stored, photometric, ds)
        return whole(image) if side is None else square(image, side)
    except (InstanceError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Decoders raise all kinds, those in Rust even a BaseException, and texts quote values.
        raise InvalidInstance("UNDECODABLE", "The image cannot be decoded.", uid) from error


def needs_decoder(ds: Dataset) -> bool:
    """Tell whether more than simple arithmetic stands between an instance and its pixels.

    That is a decoder; and a segmented palette, as a few kilobytes of it may expand without end.
    """
    syntax = str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", ""))
    palette = text(ds, "PhotometricInterpretation") == "PALETTE COLOR"
    return palette or syntax not in UNCOMPRESSED_TRANSFER_SYNTAXES


def _checked_syntax(ds: Dataset, uid: str | None) -> str:
    """Refuse what is not handled, before anything is decoded; return the transfer syntax."""
    if "PixelData" not in ds or not ds["PixelData"].value:
        raise InvalidInstance("NO_PIXELS", "The instance has no pixel data.", uid)
    photometric = text(ds, "PhotometricInterpretation")
    if photometric not in _PHOTOMETRICS:
        raise UnsupportedInstance(
            "UNSUPPORTED_PHOTOMETRIC", "The photometric interpretation is not supported.", uid
        )
    frames = number(ds, "NumberOfFrames", 1)
    if frames > 1:
        raise UnsupportedInstance("MULTI_FRAME", "The instance has several frames.", uid)
    rows, columns = number(ds, "Rows", 0), number(ds, "Columns", 0)
    if rows < 1 or columns < 1:
        raise InvalidInstance("UNDECODABLE", "Rows and Columns must be 1 or more.", uid)
    if rows * columns * number(ds, "SamplesPerPixel", 1) > MAX_SAMPLES:
        raise UnsupportedInstance("TOO_LARGE", "The image is too large.", uid)
    syntax = str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", ""))
    if syntax not in decodable_transfer_syntaxes():
        raise UnsupportedInstance(
            "UNSUPPORTED_TRANSFER_SYNTAX", "The transfer syntax is not supported.", uid
        )
    return syntax


def _decode(ds: Dataset, syntax: str) -> tuple[npt.NDArray[Any], str]:
    """Return the stored values, and the photometric interpretation they are in now."""
    verbatim = syntax in _VERBATIM
    array, photometric = stored_values(ds, syntax, correct_unused_bits=not verbatim)
    return _without_unused_bits(array, ds) if verbatim else array, photometric


def _check_frames(ds: Dataset, syntax: str) -> None:
    """Refuse several frames that Number of Frames keeps quiet about.

    A frame begins a fragment (PS3.5 A.4), and RLE has no others.
    """
    buffer = BytesIO(ds.PixelData)
    parse_basic_offsets(buffer)
    starts = b"" if syntax == RLELossless else FRAME_STARTS
    if sum(fragment.startswith(starts) for fragment in generate_fragments(buffer)) > 1:
        raise UnsupportedInstance(
            "MULTI_FRAME", "The instance has several frames.", str(ds.get("SOPInstanceUID"))
        )


def _check_code_stream(ds: Dataset) -> None:
    """Refuse, undecoded, a code stream that is not the image that the dataset describes."""
    claim = read_claim(get_frame(ds.PixelData, 0, number_of_frames=1))
    if claim is None or claim[:3] != (ds.Rows, ds.Columns, ds.SamplesPerPixel):
        raise ValueError("the code stream and the dataset differ in size")
    if claim.bits > ds.BitsAllocated or (claim.is_signed and ds.PixelRepresentation == 0):
        raise ValueError("the code stream's values do not fit into the stored ones")
    if not claim.is_complete:
        raise ValueError("the code stream was cut off")


def _check_length(ds: Dataset) -> None:
    """Refuse uncompressed pixel data that could be two such images: some attribute is wrong.

    With Bits Allocated halved, say, bytes would be taken for pixels.
    """
    samples = ds.Rows * ds.Columns * ds.SamplesPerPixel
    if len(ds.PixelData) >= 2 * -(-samples * ds.BitsAllocated // 8) > 2:
        raise ValueError("the pixel data is longer than its description")


def _without_unused_bits(array: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[Any]:
    """Drop what is above High Bit and below the stored bits, such as an old overlay (PS3.5 8.1.1).

    The shift to the right repeats the sign of a signed value. Mostly there is nothing to drop, and
    to look for it takes less than to drop it.
    """
    width = array.dtype.itemsize * 8
    bits_stored = int(ds.BitsStored)
    high_bit = int(number(ds, "HighBit", bits_stored - 1))
    if not 1 <= bits_stored <= high_bit + 1 <= width:
        raise ValueError("bits stored, high bit and bits allocated contradict each other")
    if bits_stored == width or (high_bit == bits_stored - 1 and _fits(array, bits_stored)):
        return array
    stored = (array << (width - 1 - high_bit)) >> (width - bits_stored)
    if np.isnan(number(ds, "HighBit", np.nan)) and (stored != array).any():
        raise ValueError("the high bit is not given, and the unused bits are used")
    return stored


def _fits(array: npt.NDArray[Any], bits: int) -> bool:
    """Tell whether all values are such as so many bits make."""
    values = 1 << bits
    least = -values // 2 if array.dtype.kind == "i" else 0
    return bool(least <= array.min() and array.max() < least + values)


def _little_endian_palette(ds: Dataset) -> Dataset:
    """Return a palette as pydicom takes it to be, whatever the transfer syntax."""
    if ds.original_encoding[1] is not False or "RedPaletteColorLookupTableData" not in ds:
        return ds
    palette = Dataset()
    for colour in ("Red", "Green", "Blue"):
        table = f"{colour}PaletteColorLookupTable"
        palette[f"{table}Descriptor"] = ds[f"{table}Descriptor"]
        palette.add_new(f"{table}Data", "OW", words(ds, f"{table}Data"))
    return palette


def _luminance(stored: npt.NDArray[Any], photometric: str, ds: Dataset) -> Rows:
    """Return a colour image's luminance; colour has no grey scale pipeline (PS3.4 N.2.1)."""
    if photometric == "PALETTE COLOR" and stored.ndim == 2:
        stored = apply_color_lut(stored, _little_endian_palette(ds))
        white = float(np.iinfo(stored.dtype).max)
    else:
        white = float((1 << int(ds.BitsStored)) - 1)
    if stored.ndim != 3 or stored.shape[2] < 3:
        raise ValueError("a colour image has three samples per pixel")

    def show(samples: npt.NDArray[Any]) -> Floats:
        if photometric in _LUMINANCE_FIRST:
            luminance = samples[..., 0].astype(np.float32)
        else:
            luminance = samples[..., :3].astype(np.float32) @ _LUMA
        luminance *= np.float32(1.0 / white)
        return np.clip(luminance, 0, 1, out=luminance)

    return Shown(stored, show)
