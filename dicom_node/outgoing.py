"""Part 10 files that go out, and what a peer answers to each."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import _config

from dicom_node.association import Pair, accepted
from dicom_node.errors import PeerError
from dicom_node.peer import Peer
from dicom_node.status import Status, describe

# A file's data set is sent byte for byte from the disk, not decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

# What may be encoded again in the default transfer syntax without touching pixel data.
_CONVERTIBLE = (str(ExplicitVRLittleEndian), str(DeflatedExplicitVRLittleEndian))


@dataclass(frozen=True, slots=True)
class Sent:
    """What a peer answered to one instance.

    Attributes
    ----------
    sop_instance_uid : str
        The instance; "" when the file could not be read.
    status : int
        The DIMSE status; 0x0122 when the peer accepted no presentation context for it, 0xC000
        when the file is not a DICOM file.
    comment : str
        Why, in words.
    """

    sop_instance_uid: str
    status: int
    comment: str = ""

    @property
    def words(self) -> str:
        """What a person reads of the answer."""
        return self.comment or describe(self.status)


@dataclass(frozen=True, slots=True)
class File:
    """A Part 10 file that waits to be sent."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def syntaxes(self) -> tuple[str, ...]:
        """Return the transfer syntaxes to propose, its own first.

        PS3.5 10.1: the default transfer syntax is proposed for whatever is not compressed.
        """
        if self.transfer_syntax_uid in _CONVERTIBLE:
            return (self.transfer_syntax_uid, str(ImplicitVRLittleEndian))
        return (self.transfer_syntax_uid,)

    def pairs(self) -> set[Pair]:
        """Return the presentation contexts to propose."""
        return {(self.sop_class_uid, syntax) for syntax in self.syntaxes()}


def as_file(instance: Dataset | Path | bytes, folder: Path) -> File | Sent:
    """Return `instance` as a file on disk, in `folder` if need be, or why it cannot be sent."""
    path = instance
    try:
        if not isinstance(path, Path):
            path = _written(path, folder)
        meta = read_file_meta_info(path)
        return File(
            path,
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, ValueError, OSError, EOFError):
        return Sent("", Status.CANNOT_UNDERSTAND, "not a readable DICOM Part 10 file")


def _written(instance: Dataset | bytes, folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(suffix=".dcm", dir=folder)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - mkstemp gives a descriptor
        if isinstance(instance, bytes):
            file.write(instance)
        else:
            dcmwrite(file, instance, enforce_file_format=True)
    return Path(name)


def store(assoc: Any, peer: Peer, file: File | Sent, folder: Path) -> Sent:
    """Send one file (C-STORE); what cannot be sent is its own answer.

    Parameters
    ----------
    assoc : Association
        Of :func:`dicom_node.association.associated`.
    peer : Peer
        For the error.
    file : File or Sent
        Of :func:`as_file`.
    folder : Path
        For a copy in another transfer syntax.

    Raises
    ------
    PeerError
        When the association is lost. A peer that does not accept the file has answered.
    """
    if isinstance(file, Sent):
        return file
    offered = accepted(assoc).get(file.sop_class_uid, ())
    syntax = next((each for each in file.syntaxes() if each in offered), None)
    if syntax is None:
        words = "the peer does not accept this SOP class in this transfer syntax"
        return Sent(file.sop_instance_uid, Status.SOP_CLASS_NOT_SUPPORTED, words)
    own = syntax == file.transfer_syntax_uid
    path = file.path if own else _written(in_default_syntax(file.path), folder)
    try:
        status = assoc.send_c_store(path)
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"{peer} ended the association while sending.", str(peer)) from error
    if "Status" not in status:
        raise PeerError(f"{peer} did not answer a C-STORE in time, or hung up.", str(peer))
    words = describe(status.Status)
    if comment := _without_patient(str(status.get("ErrorComment") or ""), path):
        words = f"{words}: {comment}"
    return Sent(file.sop_instance_uid, status.Status, words)


def _without_patient(comment: str, path: Path) -> str:
    """Return what a peer says of a file, in one line, without who the patient is."""
    if not comment:
        return ""
    ds = dcmread(path, specific_tags=["PatientID", "PatientName", "PatientBirthDate"])
    values = (part for elem in ds for part in re.split(r"[\^=\s]+", str(elem.value)))
    for value in sorted(values, key=len, reverse=True):
        pattern = re.escape(value) if len(value) > 3 else rf"\b{re.escape(value)}\b"
        if value:
            comment = re.sub(pattern, "...", comment, flags=re.IGNORECASE)
    return " ".join(comment.split())


def in_default_syntax(path: Path) -> Dataset:
    """Read a file that may be converted, to be written in Implicit VR Little Endian (PS3.5 10.1).

    The values stay as their bytes, names and ids in whatever character set above all: both
    transfer syntaxes are little endian.
    """
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    _keep_values(ds)
    return ds


def _keep_values(ds: Dataset) -> None:
    """Make pydicom write what it has not converted as it is, in sequences too."""
    ds.set_original_encoding(True, True, ds.original_character_set)
    for tag in list(ds.keys()):
        if ds.get_item(tag).VR == "SQ":
            for item in ds[tag].value:
                _keep_values(item)
