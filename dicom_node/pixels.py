"""A dataset's pixels as they are meant to be seen: float32 in [0, 1], MONOCHROME2 sense.

The grey scale pipeline (modality LUT, VOI LUT, presentation) is a function of the stored value
alone. It is computed once for each value that occurs, and looked up for each pixel.

References
----------
DICOM PS3.3 C.7.6.3, C.11.1, C.11.2, C.11.6; PS3.4 N.2
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import RLELossless

import dicom_node.privacy  # noqa: F401
from dicom_node.codestream import FRAME_STARTS, read_claim
from dicom_node.contexts import UNCOMPRESSED_TRANSFER_SYNTAXES, decodable_transfer_syntaxes
from dicom_node.decoders import stored_values
from dicom_node.errors import InstanceError, InvalidInstance, UnsupportedInstance

Floats = npt.NDArray[np.float32]
# Values on their way through the grey scale pipeline; float32 would lose a large intercept's part.
Doubles = npt.NDArray[np.float64]

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

# PS3.5 6.2
_BINARY_NUMBERS = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})

# A table is computed for the values between the smallest and the largest, up to so many.
_TABLE_SIZE = 1 << 16


def to_pixels(ds: Dataset) -> Floats:
    """Return the image as it is meant to be seen.

    Parameters
    ----------
    ds : pydicom.dataset.Dataset
        One instance with its file meta information; not changed.

    Returns
    -------
    numpy.ndarray
        float32, (rows, columns), in [0, 1]; 0 is black.

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
        if photometric in _MONOCHROME:
            return _grey(stored, ds)
        return _luminance(stored, photometric, ds)
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
    palette = _text(ds, "PhotometricInterpretation") == "PALETTE COLOR"
    return palette or syntax not in UNCOMPRESSED_TRANSFER_SYNTAXES


def _checked_syntax(ds: Dataset, uid: str | None) -> str:
    """Refuse what is not handled, before anything is decoded; return the transfer syntax."""
    if "PixelData" not in ds or not ds["PixelData"].value:
        raise InvalidInstance("NO_PIXELS", "The instance has no pixel data.", uid)
    photometric = _text(ds, "PhotometricInterpretation")
    if photometric not in _PHOTOMETRICS:
        raise UnsupportedInstance(
            "UNSUPPORTED_PHOTOMETRIC", "The photometric interpretation is not supported.", uid
        )
    frames = _number(ds, "NumberOfFrames", 1)
    if frames > 1:
        raise UnsupportedInstance("MULTI_FRAME", "The instance has several frames.", uid)
    rows, columns = _number(ds, "Rows", 0), _number(ds, "Columns", 0)
    if rows < 1 or columns < 1:
        raise InvalidInstance("UNDECODABLE", "Rows and Columns must be 1 or more.", uid)
    if rows * columns * _number(ds, "SamplesPerPixel", 1) > MAX_SAMPLES:
        raise UnsupportedInstance("TOO_LARGE", "The image is too large.", uid)
    syntax = str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", ""))
    if syntax not in decodable_transfer_syntaxes():
        raise UnsupportedInstance(
            "UNSUPPORTED_TRANSFER_SYNTAX", "The transfer syntax is not supported.", uid
        )
    return syntax


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return str(value).strip().upper() if value is not None else ""


def _number(ds: Dataset, keyword: str, default: float) -> float:
    """Return the first value of an element as a finite number, or the default.

    A decimal string that came as a binary number is none: its characters would be taken for one.
    """
    try:
        if dictionary_VR(keyword) == "DS" and ds[keyword].VR in _BINARY_NUMBERS:
            return default
        value = ds.get(keyword)
        number = float(next(iter(value)) if isinstance(value, (MultiValue, list)) else value)
    except Exception:  # noqa: BLE001 - a value is converted when it is read, and fails in all ways
        return default
    return number if np.isfinite(number) else default


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

    The shift to the right repeats the sign of a signed value.
    """
    width = array.dtype.itemsize * 8
    bits_stored = int(ds.BitsStored)
    high_bit = int(_number(ds, "HighBit", bits_stored - 1))
    if not 1 <= bits_stored <= high_bit + 1 <= width:
        raise ValueError("bits stored, high bit and bits allocated contradict each other")
    if bits_stored == width:
        return array
    stored = (array << (width - 1 - high_bit)) >> (width - bits_stored)
    if np.isnan(_number(ds, "HighBit", np.nan)) and (stored != array).any():
        raise ValueError("the high bit is not given, and the unused bits are used")
    return stored


def _luminance(stored: npt.NDArray[Any], photometric: str, ds: Dataset) -> Floats:
    """Return a colour image's luminance; colour has no grey scale pipeline (PS3.4 N.2.1)."""
    if photometric == "PALETTE COLOR" and stored.ndim == 2:
        stored = apply_color_lut(stored, ds)
        white = float(np.iinfo(stored.dtype).max)
    else:
        white = float((1 << int(ds.BitsStored)) - 1)
    if stored.ndim != 3 or stored.shape[2] < 3:
        raise ValueError("a colour image has three samples per pixel")
    if photometric in _LUMINANCE_FIRST:
        grey = stored[..., 0].astype(np.float32)
    else:
        grey = stored[..., :3].astype(np.float32) @ _LUMA
    grey *= np.float32(1.0 / white)
    return np.clip(grey, 0, 1, out=grey)


def _grey(stored: npt.NDArray[Any], ds: Dataset) -> Floats:
    """Take a monochrome image through the grey scale pipeline."""
    if stored.ndim != 2:
        raise ValueError("a monochrome image has one sample per pixel")
    low, high = int(stored.min()), int(stored.max())
    if high - low >= _TABLE_SIZE:
        return _displayed(stored.ravel(), np.True_, ds).reshape(stored.shape)
    index = stored.astype(np.int32) - low
    occurs: npt.NDArray[np.bool_] | np.bool_ = np.True_
    if "PixelPaddingValue" in ds:
        occurs = np.bincount(index.ravel(), minlength=high - low + 1) > 0
    table = _displayed(np.arange(low, high + 1), occurs, ds)
    return np.take(table, index)


def _displayed(
    values: npt.NDArray[Any], occurs: npt.NDArray[np.bool_] | np.bool_, ds: Dataset
) -> Floats:
    """Return what each stored value is displayed as.

    Parameters
    ----------
    values : numpy.ndarray
        Stored values, (n,).
    occurs : numpy.ndarray of bool
        Which of them the image holds, (n,); only these count for its darkest and brightest.
    """
    padding = _padding(values, ds)
    counted = np.broadcast_to(occurs & ~padding, values.shape)
    outputs = _modality(values, ds)
    in_window = _voi(outputs, ds)
    if in_window is None or _is_flat(in_window[counted]):
        # No window, or one that hides the whole image.
        in_window = _stretched(outputs, counted)
    shown = in_window.astype(np.float32)
    # PS3.3 C.11.6.1.2: INVERSE goes with MONOCHROME1, and both say the same thing once.
    if (
        _text(ds, "PresentationLUTShape") == "INVERSE"
        or _text(ds, "PhotometricInterpretation") == "MONOCHROME1"
    ):
        shown = np.subtract(1, shown, dtype=np.float32)
    shown[padding] = 0  # PS3.3 C.7.5.1.1.2: background, whatever the grey scale
    return shown


def _is_flat(values: Doubles) -> bool:
    return bool(values.size == 0 or values.min() == values.max())


def _padding(values: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.bool_]:
    """Tell which stored values are padding (PS3.3 C.7.5.1.1.2)."""
    if "PixelPaddingValue" not in ds:
        return np.zeros(values.shape, bool)
    first = _number(ds, "PixelPaddingValue", np.nan)
    last = _number(ds, "PixelPaddingRangeLimit", first)
    if ds.get("PixelRepresentation") == 1:
        # A negative value that was written as US.
        first, last = (v - 65536 if v > 32767 else v for v in (first, last))
    return (values >= min(first, last)) & (values <= max(first, last))


def _stretched(outputs: Doubles, counted: npt.NDArray[np.bool_]) -> Doubles:
    """Map the darkest value that counts to 0 and the brightest to 1."""
    if not counted.any():
        return np.zeros(outputs.shape)
    low, high = outputs[counted].min(), outputs[counted].max()
    if low == high:
        return np.zeros(outputs.shape)
    return np.clip((outputs - low) / (high - low), 0, 1)


def _modality(values: npt.NDArray[Any], ds: Dataset) -> Doubles:
    """Apply the modality LUT, or slope and intercept (PS3.3 C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        entries, _ = _looked_up(values, ds.ModalityLUTSequence[0])
        return entries
    slope, intercept = _number(ds, "RescaleSlope", np.nan), _number(ds, "RescaleIntercept", np.nan)
    if np.isnan(slope) and not np.isnan(intercept):
        # Both or none. A negative slope that was lost would leave the image inverted.
        raise ValueError("there is a rescale intercept without a slope")
    slope = 1 if np.isnan(slope) or slope == 0 else slope
    return values * slope + (0 if np.isnan(intercept) else intercept)


def _voi(outputs: Doubles, ds: Dataset) -> Doubles | None:
    """Apply the first VOI LUT, or else the first window; None when there is none (C.11.2)."""
    if ds.get("VOILUTSequence"):
        entries, bits = _looked_up(outputs, ds.VOILUTSequence[0])
        return np.clip(entries / ((1 << bits) - 1), 0, 1)
    center = _number(ds, "WindowCenter", np.nan)
    width = _number(ds, "WindowWidth", np.nan)
    function = _VOI_FUNCTIONS.get(_text(ds, "VOILUTFunction") or "LINEAR", _linear)
    least = 1 if function is _linear else np.nextafter(0, 1)
    if not (np.isfinite(center) and width >= least):
        return None
    return np.clip(function(outputs, center, width), 0, 1)


def _linear(x: Doubles, center: float, width: float) -> Doubles:
    """PS3.3 C.11.2.1.2.1, Equation C.11-2 for an output of [0, 1]."""
    if width == 1:
        return (x > center - 0.5).astype(np.float64)
    return (x - (center - 0.5)) / (width - 1) + 0.5


def _linear_exact(x: Doubles, center: float, width: float) -> Doubles:
    """PS3.3 C.11.2.1.3.2."""
    return (x - center) / width + 0.5


def _sigmoid(x: Doubles, center: float, width: float) -> Doubles:
    """PS3.3 C.11.2.1.3.1; the exponent is bounded, as float32 ends at e^88."""
    exponent = np.clip(-4 * (x - center) / width, -80, 80)
    return 1 / (1 + np.exp(exponent))


_VOI_FUNCTIONS: dict[str, Callable[[Doubles, float, float], Doubles]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def _looked_up(values: npt.NDArray[Any], item: Dataset) -> tuple[Doubles, int]:
    """Return the entry of an item's LUT for each value, and the bits of an entry (C.11.1.1)."""
    length, first, bits = (int(v) for v in item.LUTDescriptor)
    entries = _lut_entries(item, length % _TABLE_SIZE or _TABLE_SIZE)
    first = _first_mapped(first, entries.size, values)
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, entries.size - 1)
    return entries[index], max(min(max(bits, 1), 16), int(entries.max()).bit_length())


def _first_mapped(first: int, length: int, values: npt.NDArray[Any]) -> int:
    """Return the first value that a LUT maps, which may be US where SS was meant, or SS for US.

    When no value is in the LUT as it is read, the other reading counts.
    """
    other = first - _TABLE_SIZE if first > 32767 else first + _TABLE_SIZE if first < 0 else first
    low, high = (values.min(), values.max()) if values.size else (first, first)
    return first if first <= high and low < first + length else other


def _lut_entries(item: Dataset, length: int) -> Doubles:
    """Return a LUT's entries: US or SS as numbers, OW as bytes, 8-bit ones possibly packed."""
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * length else "<u2")
    entries = np.asarray(data, np.float64).reshape(-1)[:length]
    if entries.size == 0:
        raise ValueError("the LUT is empty")
    return entries
