"""The instances of a plan as files, made from its seed; all are of one planted patient."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, RLELossless

from tests import datasets
from tests.chaos.plan import Image
from tests.integration.house import BIRTH_DATE, ID, NAME

SYNTAXES = {"jpeg-ls": JPEGLSLossless, "rle": RLELossless}


def write_images(images: tuple[Image, ...], folder: Path) -> dict[str, Path]:
    """Write each image as a Part 10 file; give the files by SOP Instance UID."""
    folder.mkdir()
    return {image.sop_instance_uid: _write(image, folder) for image in images}


def _write(image: Image, folder: Path) -> Path:
    path = folder / f"{image.sop_instance_uid}.dcm"
    path.write_bytes(datasets.part10(_dataset(image)))
    return path


def _dataset(image: Image) -> Dataset:
    noise = np.random.default_rng(random.Random(image.sop_instance_uid).getrandbits(64))
    ds = datasets.image(
        _pixels(noise),
        StudyInstanceUID=image.study_instance_uid,
        SeriesInstanceUID=f"{image.study_instance_uid}.1",
        SOPInstanceUID=image.sop_instance_uid,
        InstanceNumber=image.number,
        PatientName=NAME,
        PatientID=ID,
        PatientBirthDate=BIRTH_DATE,
    )
    ds.BitsStored, ds.HighBit = 12, 11
    if image.form != "plain":
        ds.compress(SYNTAXES[image.form], generate_instance_uid=False)
    _damage(ds, image, noise.bytes(2000))
    return ds


def _pixels(noise: np.random.Generator) -> NDArray[np.uint16]:
    """Make patches under noise: of noise alone a network always says the same."""
    patches = np.kron(noise.random((4, 4)), np.ones((50, 45)))
    return np.asarray(4095 * (0.9 * patches + 0.1 * noise.random((200, 180))), np.uint16)


def _damage(ds: Dataset, image: Image, rubbish: bytes) -> None:
    if image.defect == "photometric":
        ds.PhotometricInterpretation = "HSV"
    elif image.defect and image.form == "plain":
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 4]
    elif image.defect == "garbage":
        ds.PixelData = encapsulate([rubbish])
    elif image.defect == "short":
        whole = ds.PixelData[16:]  # the item of the first frame, after an empty offset table
        ds.PixelData = encapsulate([whole[: len(whole) // 8 * 2]])


def data_set_of(part10: bytes) -> bytes:
    """Give a Part 10 file without preamble and File Meta Information: what goes by C-STORE.

    PS3.10 7.1: the first element of the latter, at 132, says how many bytes follow it.
    """
    assert part10[128:140] == b"DICM\2\0\0\0UL\4\0"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a file's data set."""
    return hashlib.sha256(data_set_of(path.read_bytes())).hexdigest()


def sop_instance_uid_of(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
