"""The one way in which an instance's stored values are decoded, and whether that works here."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGLSLossless, JPEGLSNearLossless

import dicom_node.privacy  # noqa: F401
from dicom_node.samples import SAMPLES, Sample

# Of several decoders for a syntax, the one to use. CharLS refuses a damaged stream, of which
# libjpeg makes an image of rubbish, and takes a quarter of the time.
_PLUGINS = {str(JPEGLSLossless): "pyjpegls", str(JPEGLSNearLossless): "pyjpegls"}
# It has libjpeg-turbo, which takes a fifth of the time of libjpeg.
_PILLOW = "pillow"


class DecoderState(Enum):
    """What there is for a compressed transfer syntax."""

    WORKS = "works"
    BROKEN = "has a decoder that does not work"
    MISSING = "has no decoder installed"


def stored_values(
    ds: Dataset, syntax: str, *, correct_unused_bits: bool = True
) -> tuple[npt.NDArray[Any], str]:
    """Decode the only frame of an instance.

    Parameters
    ----------
    ds : pydicom.dataset.Dataset
        One instance with its file meta information; not changed.
    syntax : str
        Its transfer syntax.
    correct_unused_bits : bool
        Whether bits above Bits Stored are to be dropped.

    Returns
    -------
    numpy.ndarray
        Stored values, (rows, columns) or (rows, columns, samples); not to be written to, as they
        may be the dataset's own bytes.
    str
        The photometric interpretation they are in now. A JPEG decoder may have converted YBR to
        RGB; its answer counts, not the dataset.

    Raises
    ------
    Exception
        Whatever the decoders raise; those in Rust even a BaseException.
    """
    plugin = _PLUGINS.get(syntax, "")
    if syntax == JPEGBaseline8Bit and (ds.SamplesPerPixel, ds.BitsAllocated) == (1, 8):
        # As training reads JPEG files. It refuses what libjpeg may yet make sense of.
        with suppress(RuntimeError, ValueError):
            return _decoded(ds, syntax, _PILLOW, correct_unused_bits)
    return _decoded(ds, syntax, plugin, correct_unused_bits)


def _decoded(
    ds: Dataset, syntax: str, plugin: str, correct_unused_bits: bool
) -> tuple[npt.NDArray[Any], str]:
    array, properties = get_decoder(syntax).as_array(
        ds,
        index=0,
        raw=True,
        decoding_plugin=plugin,
        correct_unused_bits=correct_unused_bits,  # type: ignore[arg-type]
        view_only=True,  # type: ignore[arg-type]
        # One frame is all its fragments, whatever a table of offsets says (PS3.3 C.7.6.3.1.8).
        extended_offsets=None,  # type: ignore[arg-type]
    )
    return array, str(properties["photometric_interpretation"])


@cache
def decoder_state(syntax: str) -> DecoderState:
    """Tell whether a compressed transfer syntax is decoded here, by decoding its sample once."""
    try:
        if not get_decoder(syntax).is_available:
            return DecoderState.MISSING
    except NotImplementedError:
        return DecoderState.MISSING
    try:
        right = _decodes(SAMPLES[syntax], syntax)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        right = False
    return DecoderState.WORKS if right else DecoderState.BROKEN


def _decodes(sample: Sample, syntax: str) -> bool:
    """Decode a sample, and compare."""
    values, _ = stored_values(_instance(sample, syntax), syntax)
    expected = sample.values()
    return values.shape == expected.shape and bool(
        (abs(values.astype(np.int64) - expected) <= sample.tolerance).all()
    )


def _instance(sample: Sample, syntax: str) -> Dataset:
    """Return a sample as the least of an instance that can be decoded."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.Rows, ds.Columns = sample.values().shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored = 8 if sample.bits == 8 else 16, sample.bits
    ds.HighBit = sample.bits - 1
    ds.PixelRepresentation = 0
    ds.PixelData = encapsulate([sample.code_stream])
    ds["PixelData"].is_undefined_length = True
    return ds
