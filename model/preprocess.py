"""The one way from pixels to network input: training, evaluation and serving all call `prepare`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.strips import square

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes network input; stored in the artifact.

    Parameters
    ----------
    size
        Side of the square network input, in pixels.
    via
        Side of the square the image is first reduced to. The training set came at this size, so
        a full-size radiograph must pass through it too, or it would look sharper than any
        image the network ever saw.
    low, high
        Percentiles of the intermediate image that become 0 and 1.
    """

    size: int = 160
    via: int = 224
    low: float = 0.5
    high: float = 99.5

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Read the parameters back from JSON values."""
        return cls(
            int(values["size"]), int(values["via"]), float(values["low"]), float(values["high"])
        )


def prepare(image: NDArray[Any], spec: Preprocessing) -> FloatImage:
    """Turn one image into network input.

    The image is stretched to a square (the training set was stretched, not cropped) with an
    antialiasing filter, then its intensities are stretched between two percentiles, so that any
    increasing affine change of intensities (window, bit depth, rescale) cancels.

    Parameters
    ----------
    image
        Shape (rows, columns), MONOCHROME2 sense (air is dark), any linear scale. It may come as
        `dicom_node.strips.square` reduced it to a side of `spec.via`: the result is the same.
    spec
        The parameters the network was trained with.

    Returns
    -------
    ndarray
        Shape (size, size), float32, in [0, 1]; all zeros when the image holds one value only.

    Raises
    ------
    ValueError
        If the image is not two-dimensional, is empty or holds values that are not finite.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim != 2 or pixels.size == 0:
        raise ValueError(f"an image has shape (rows, columns), not {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("the image holds values that are not finite")
    small = square(square(pixels, spec.via), spec.size)
    return stretch(small, spec.low, spec.high)


def stretch(pixels: FloatImage, low: float, high: float) -> FloatImage:
    """Stretch intensities so that two percentiles become 0 and 1; one value becomes all zeros."""
    bottom, top = np.percentile(pixels, [low, high])
    scale = float(np.abs(pixels).max())
    if top - bottom <= 1e-5 * max(scale, 1e-30):  # one value, up to float32 rounding
        return np.zeros_like(pixels)
    stretched: FloatImage = np.clip((pixels - bottom) / (top - bottom), 0, 1).astype(np.float32)
    return stretched
