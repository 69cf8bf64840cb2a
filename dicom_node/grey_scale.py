"""The grey scale pipeline: modality LUT, VOI LUT, presentation.

It is a function of the stored value alone. It is computed once for each value between the smallest
and the largest, and looked up for each pixel when the pixel is asked for.

References
----------
DICOM PS3.3 C.7.5.1.1.2, C.11.1, C.11.2, C.11.6; PS3.4 N.2
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.attributes import is_stated, number, text, words
from dicom_node.strips import Floats, Rows, Shown, strips

# Values on their way through the pipeline: float32 would lose them in a large intercept.
Doubles = npt.NDArray[np.float64]

# A table is computed for the values between the smallest and the largest, up to so many.
_TABLE_SIZE = 1 << 16
# Rows whose values are counted at once: a count of all values is added up for each strip.
_COUNTED_ROWS = 128


def grey(stored: npt.NDArray[Any], ds: Dataset) -> Rows:
    """Take a monochrome image through the grey scale pipeline."""
    if stored.ndim != 2:
        raise ValueError("a monochrome image has one sample per pixel")
    low, high = int(stored.min()), int(stored.max())
    if high - low >= _TABLE_SIZE:
        return _displayed(stored.ravel(), np.True_, ds).reshape(stored.shape)
    values = keys = np.arange(low, high + 1)
    if stored.itemsize > 2:
        stored = np.subtract(stored, low, dtype=np.int64, casting="unsafe").astype(np.uint16)
        keys = values - low
    # As an unsigned number a negative value is that many from the table's end, which is also what
    # it means as an index.
    unsigned = stored.view(stored.dtype.str.replace("i", "u"))
    occurs: npt.NDArray[np.bool_] | np.bool_ = np.True_
    if "PixelPaddingValue" in ds:
        occurs = _counts(unsigned)[keys] > 0
    table = np.zeros(1 << 8 * unsigned.itemsize, np.float32)
    table[keys] = _displayed(values, occurs, ds)
    return Shown(unsigned, partial(np.take, table, mode="wrap"))


def _counts(unsigned: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count how often each value occurs."""
    length = 1 << 8 * unsigned.itemsize
    counts = np.zeros(length, np.int64)
    for strip in strips(len(unsigned), _COUNTED_ROWS):
        counts += np.bincount(unsigned[strip].ravel(), minlength=length)
    return counts


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
        text(ds, "PresentationLUTShape") == "INVERSE"
        or text(ds, "PhotometricInterpretation") == "MONOCHROME1"
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
    first = number(ds, "PixelPaddingValue", np.nan)
    last = number(ds, "PixelPaddingRangeLimit", first)
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
    slope, intercept = number(ds, "RescaleSlope", np.nan), number(ds, "RescaleIntercept", np.nan)
    if np.isnan(slope) and (is_stated(ds, "RescaleSlope") or not np.isnan(intercept)):
        # Both or none. A negative slope that was lost would leave the image inverted.
        raise ValueError(
            "there is a rescale slope that cannot be read, or an intercept without one"
        )
    slope = 1 if np.isnan(slope) or slope == 0 else slope
    return values * slope + (0 if np.isnan(intercept) else intercept)


def _voi(outputs: Doubles, ds: Dataset) -> Doubles | None:
    """Apply the first VOI LUT, or else the first window; None when there is none (C.11.2)."""
    if ds.get("VOILUTSequence"):
        entries, bits = _looked_up(outputs, ds.VOILUTSequence[0])
        return np.clip(entries / ((1 << bits) - 1), 0, 1)
    center = number(ds, "WindowCenter", np.nan)
    width = number(ds, "WindowWidth", np.nan)
    function = _VOI_FUNCTIONS.get(text(ds, "VOILUTFunction") or "LINEAR", _linear)
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
    """PS3.3 C.11.2.1.3.1; the exponent is bounded, so that nothing overflows."""
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
        data = words(item, "LUTData")
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * length else "<u2")
    entries = np.asarray(data, np.float64).reshape(-1)[:length]
    if entries.size == 0:
        raise ValueError("the LUT is empty")
    return entries
