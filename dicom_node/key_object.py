"""A flag for the images with a finding: a Key Object Selection, TID 2010.

References
----------
DICOM PS3.3 A.35.4, C.17.6; PS3.16 TID 2010; IHE RAD Key Image Note
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from highdicom import ko, sr
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import codes
from dicom_node.authored import equipment, finished, series_number, stand_in
from dicom_node.findings import AlgorithmDevice
from dicom_node.identity import value_of
from dicom_node.sentence import INTENDED_USE, in_order, plain
from dicom_node.uids import derived_uid

MODALITY: Final = "KO"
DESCRIPTION: Final = "Pneumonia on chest radiograph, AI flag"


def build_key_object(
    evidence: Sequence[Dataset],
    positive: Sequence[str],
    device: AlgorithmDevice,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    instance_number: int,
    content_datetime: datetime,
) -> bytes:
    """Build the selection of the images in which pneumonia was found.

    Parameters
    ----------
    evidence : sequence of Dataset
        The instances of the study; pixel data is not needed. Not changed; their order does not
        matter.
    positive : sequence of str
        SOP Instance UIDs of those to flag.
    device : AlgorithmDevice
        The model and the device it ran in.
    sop_instance_uid, series_instance_uid : str
        Of the selection; see `dicom_node.uids`.
    instance_number : int
        From 1.
    content_datetime : datetime
        When the last finding was made. Converted to the study's time zone when it states one.

    Returns
    -------
    bytes
        A Part 10 file, Explicit VR Little Endian; the same for the same arguments.

    Raises
    ------
    ValueError
        When none of `evidence` is in `positive`.
    """
    ordered = in_order(evidence)
    # C.17.6.2: the evidence of a selection is what it refers to, not the whole study.
    chosen = [stand_in(ds) for ds in ordered if value_of(ds, "SOPInstanceUID") in set(positive)]
    if not chosen:
        raise ValueError("a selection needs at least one instance")
    told = equipment(device)
    document = ko.KeyObjectSelectionDocument(
        evidence=chosen,
        content=_content(chosen, device),
        series_instance_uid=series_instance_uid,
        series_number=series_number(MODALITY, device),
        sop_instance_uid=sop_instance_uid,
        instance_number=max(1, instance_number),
        manufacturer=told["Manufacturer"],
        manufacturer_model_name=told["ManufacturerModelName"],
        device_serial_number=told["DeviceSerialNumber"],
        software_versions=told["SoftwareVersions"],
        series_description=DESCRIPTION,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    for item in document.ContentSequence:
        if item.ValueType == "IMAGE":
            del item.ConceptNameCodeSequence  # TID 2010, row 8: without purpose of reference
    return finished(document, ordered[0], content_datetime)


def _content(chosen: Sequence[Dataset], device: AlgorithmDevice) -> ko.KeyObjectSelection:
    count = "1 image" if len(chosen) == 1 else f"{len(chosen)} images"
    content = ko.KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=chosen,
        observer_device_context=_observer(device),
        description=f"Automated analysis: pneumonia present in {count}. {INTENDED_USE}",
    )
    language = sr.LanguageOfContentItemAndDescendants(codes.ENGLISH)
    root = content[0]
    root.ContentSequence = [*language, *root.ContentSequence]  # TID 2010: before the observer
    return content


def _observer(device: AlgorithmDevice) -> Any:
    """Return the device as observer (TID 1002, TID 1004)."""
    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=device.device_uid or derived_uid("device", device.manufacturer, device.digest),
        name=plain(device.station_name or device.manufacturer),
        manufacturer_name=plain(device.manufacturer),
        model_name=plain(device.name),
        serial_number=device.digest[:16],
    )
    return sr.ObserverContext(
        observer_type=codes.DEVICE, observer_identifying_attributes=attributes
    )
