"""SOP classes and transfer syntaxes, as data."""

from __future__ import annotations

from functools import lru_cache

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.decoders import DecoderState, decoder_state

VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A.4

# PS3.4 B.5: what the Storage SCP takes.
STORAGE_SOP_CLASSES: dict[str, str] = {
    str(uid): name
    for uid, name in (
        (ComputedRadiographyImageStorage, "Computed Radiography Image Storage"),
        (DigitalXRayImageStorageForPresentation, "Digital X-Ray Image Storage - For Presentation"),
        (DigitalXRayImageStorageForProcessing, "Digital X-Ray Image Storage - For Processing"),
        (SecondaryCaptureImageStorage, "Secondary Capture Image Storage"),
    )
}

# PS3.4 B.5: what our reports are, richest first.
REPORT_SOP_CLASSES: tuple[str, ...] = (
    str(Comprehensive3DSRStorage),
    str(ComprehensiveSRStorage),
    str(EnhancedSRStorage),
)

# PS3.5 10 and Annex A: no pixel decoder needed. In order of preference, as a peer that proposes
# several in one presentation context is answered with the first of these.
UNCOMPRESSED_TRANSFER_SYNTAXES: tuple[str, ...] = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(DeflatedExplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
)

# PS3.5 A.4: taken only where a decoder works. Lossless before lossy.
COMPRESSED_TRANSFER_SYNTAXES: tuple[str, ...] = (
    str(RLELossless),
    str(JPEGLosslessSV1),
    str(JPEGLossless),
    str(JPEGLSLossless),
    str(JPEG2000Lossless),
    str(HTJ2KLossless),
    str(HTJ2KLosslessRPCL),
    str(JPEGBaseline8Bit),
    str(JPEGExtended12Bit),
    str(JPEGLSNearLossless),
    str(JPEG2000),
    str(HTJ2K),
)


@lru_cache(maxsize=1)
def decodable_transfer_syntaxes() -> tuple[str, ...]:
    """Return the transfer syntaxes that this installation can turn into pixels, best first.

    Of the compressed ones, those whose sample was decoded here and now, and rightly; this takes
    hundredths of a second, once. The others need no decoder.
    """
    works = DecoderState.WORKS
    compressed = tuple(uid for uid in COMPRESSED_TRANSFER_SYNTAXES if decoder_state(uid) is works)
    return UNCOMPRESSED_TRANSFER_SYNTAXES + compressed
