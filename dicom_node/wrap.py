"""A JPEG or PNG radiograph as a DX For Presentation instance."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image, ImageOps
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

import dicom_node.privacy  # noqa: F401
from dicom_node.codes import CHEST_REGION, VIEWS, code_item
from dicom_node.entity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.errors import InvalidInstance

_AGE = re.compile(r"[0-9]{3}[DWMY]")  # PS3.5 6.2, VR AS
_VIEW = re.compile(r"[A-Z0-9 _]{1,16}")  # PS3.5 6.2, VR CS
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I")  # Pillow's names for 16-bit grey

# By view, the direction of a row and of a column (PS3.3 C.7.6.1.1.1), in conventional display.
_ORIENTATION = {"AP": ["L", "F"], "PA": ["L", "F"], "LL": ["A", "F"], "RL": ["P", "F"]}


def wrap_image(
    path: Path,
    *,
    patient_age: str | None = None,
    view_position: str | None = None,
    study_instance_uid: str | None = None,
    accession_number: str = "",
    patient_id: str | None = None,
) -> Dataset:
    """Wrap a picture into a valid instance, with new UIDs.

    Nothing of the file's name enters it, as names of files are often names of patients.

    Parameters
    ----------
    path : Path
        A JPEG or PNG; colour becomes grey, 16-bit grey stays 16 bits.
    patient_age : str, optional
        As VR AS, such as ``003Y``.
    view_position : str, optional
        View Position (0018,5101), such as ``AP``.
    study_instance_uid : str, optional
        The study to add to; a new one unless given.
    accession_number, patient_id : str, optional
        Empty, and an anonymous label, unless given.

    Returns
    -------
    pydicom.dataset.Dataset
        With file meta information, uncompressed, Explicit VR Little Endian.

    Raises
    ------
    ValueError
        When `patient_age` or `view_position` is not of its VR.
    InvalidInstance
        When the file is not a picture that can be read.

    References
    ----------
    DICOM PS3.3 A.26 (DX IOD)
    """
    if patient_age is not None and _AGE.fullmatch(patient_age) is None:
        raise ValueError("a patient's age is three digits and D, W, M or Y, such as 003Y")
    if view_position is not None and _VIEW.fullmatch(view_position) is None:
        raise ValueError("a view position is in capital letters, such as AP")
    image, is_lossy = _grey(path)
    ds = Dataset()
    ds.file_meta = _file_meta()
    _add_patient_and_study(ds, study_instance_uid, accession_number, patient_id, patient_age)
    _add_series_and_equipment(ds)
    _add_view(ds, view_position or "")
    _add_pixels(ds, image)
    _add_presentation(ds, is_lossy)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def _grey(path: Path) -> tuple[Image.Image, bool]:
    """Read a picture as 8- or 16-bit grey, upright; tell whether it was compressed with loss."""
    try:
        with Image.open(path) as picture:
            is_lossy = picture.format in ("JPEG", "MPO", "WEBP")
            upright = ImageOps.exif_transpose(picture)
            deep = upright.mode in _DEEP_MODES
            return upright.convert("I;16" if deep else "L"), is_lossy
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInstance(
            "UNDECODABLE", "The file is not a picture that can be read."
        ) from error


def _file_meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _add_patient_and_study(
    ds: Dataset,
    study_instance_uid: str | None,
    accession_number: str,
    patient_id: str | None,
    patient_age: str | None,
) -> None:
    """Add the Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2)."""
    now = datetime.now(UTC)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.StudyInstanceUID = UID(study_instance_uid) if study_instance_uid else generate_uid()
    ds.PatientName = "Anonymous^"
    # A label that the images of one study share.
    ds.PatientID = patient_id or f"ANON{ds.StudyInstanceUID[-12:].replace('.', '')}"
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    if patient_age is not None:
        ds.PatientAge = patient_age
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = now.strftime("%H%M%S")
    ds.StudyID = "1"
    ds.AccessionNumber = accession_number
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Chest radiograph from a picture file"


def _add_series_and_equipment(ds: Dataset) -> None:
    """Add the series, equipment and SOP Common modules (PS3.3 C.7.3.1, C.8.11.1, C.7.5.1)."""
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.Manufacturer = "cxr-worker"
    ds.ManufacturerModelName = "cxr-worker"


def _add_view(ds: Dataset, view_position: str) -> None:
    """Add anatomy and positioning (PS3.3 C.8.11.2, C.8.11.5, C.7.6.14)."""
    ds.AnatomicRegionSequence = [code_item(CHEST_REGION)]
    ds.BodyPartExamined = "CHEST"
    ds.ImageLaterality = "U"
    ds.ViewPosition = view_position
    if view_position in VIEWS:
        ds.ViewCodeSequence = [code_item(VIEWS[view_position])]
        ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
    ds.PatientOrientation = _ORIENTATION.get(view_position, ["L", "F"])
    ds.AcquisitionContextSequence = []
    ds.DetectorType = ""
    ds.PositionerType = ""
    # Type 1, and not known of a picture: a nominal millimetre, which the comment tells.
    ds.ImagerPixelSpacing = [1, 1]
    ds.ImageComments = "From a picture file; pixel spacing is not known."


def _add_pixels(ds: Dataset, image: Image.Image) -> None:
    """Add the Image Pixel module (PS3.3 C.7.6.3)."""
    bits = 16 if image.mode in _DEEP_MODES else 8
    data = image.tobytes()
    if bits == 16 and sys.byteorder == "big":
        data = image.tobytes("raw", "I;16L")
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = image.height, image.width
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = 0
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))


def _add_presentation(ds: Dataset, is_lossy: bool) -> None:
    """Add the DX Image and VOI LUT modules (PS3.3 C.8.11.3, C.11.2)."""
    levels = 1 << ds.BitsStored
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1
    ds.RescaleIntercept = 0
    ds.RescaleSlope = 1
    ds.RescaleType = "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.WindowCenter = levels // 2
    ds.WindowWidth = levels
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "01" if is_lossy else "00"
    if is_lossy:
        ds.LossyImageCompressionMethod = "ISO_10918_1"
