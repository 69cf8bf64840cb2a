"""Image files: which a folder holds, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from model.preprocess import FloatImage

PICTURE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})

# What systems and archives leave beside images; hidden names are passed over too.
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "dicomdir"})

_PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# DICOM PS3.5 7.1, PS3.10 7.1: without its preamble a file starts with an element of group 2 or 8,
# whose four bytes of length or VR are at offset 4.
_BARE_STARTS = (b"\x02\x00\x00\x00", b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


def is_junk(path: Path) -> bool:
    """Whether a file or folder is nobody's image, by its name."""
    return path.name.startswith(".") or path.name.lower() in JUNK


def image_files(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted; none where there is no folder.

    Raises
    ------
    OSError
        If the folder, or one below it, cannot be read.
    """
    return [path for path in files_below(folder) if is_image(path)]


def files_below(folder: Path) -> list[Path]:
    """List all files below a folder but junk, sorted.

    Raises
    ------
    OSError
        As `image_files`.
    """
    return sorted(_walk(folder, frozenset())) if folder.is_dir() else []


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    inside = above | {folder.resolve()}
    for entry in folder.iterdir():
        if is_junk(entry):
            continue
        if entry.is_file():
            yield entry
        elif entry.is_dir() and entry.resolve() not in inside:  # a link upwards would never end
            yield from _walk(entry, inside)


def is_image(path: Path) -> bool:
    """Whether a file is JPEG, PNG or DICOM: by its suffix, or else by how it starts."""
    if path.suffix.lower() in PICTURE_SUFFIXES | DICOM_SUFFIXES:
        return True
    try:
        head = _head(path)
    except OSError:
        return False
    return head.startswith(_PICTURE_STARTS) or _starts_as_dicom(head)


def is_dicom(path: Path) -> bool:
    """Whether an image file is DICOM; many archives name theirs by UID, without a suffix."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return False
    return suffix in DICOM_SUFFIXES or _starts_as_dicom(_head(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


def _starts_as_dicom(head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return head.startswith(_BARE_STARTS) and (explicit or head[6:8] == b"\0\0")


def read_image(path: Path) -> FloatImage:
    """Read a JPEG, PNG or DICOM file as (rows, columns) float32 in [0, 1], air dark.

    Raises
    ------
    OSError, ValueError, dicom_node.errors.InstanceError
        If the file cannot be read as an image.
    """
    return _read_dicom(path) if is_dicom(path) else _read_picture(path)


def _read_picture(path: Path) -> FloatImage:
    """Read a picture upright; colour becomes luminance, as `cxr-worker send` makes it."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        deep = upright.mode.startswith("I")  # 16 bits
        grey = upright if deep else upright.convert("L")
        pixels = np.asarray(grey, dtype=np.float32)
    return pixels / (65535.0 if deep else 255.0)


def _read_dicom(path: Path) -> FloatImage:
    from dicom_node.pixels import to_pixels

    return np.asarray(to_pixels(_dataset(path)), dtype=np.float32)


def _dataset(path: Path) -> Any:
    """Read a DICOM file, with or without preamble and file meta information."""
    import pydicom

    from dicom_node.errors import InvalidInstance

    try:
        ds = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in ds.file_meta:  # PS3.5 10.1: the default, unless it is seen
            explicit = not ds.original_encoding[0]
            uids = pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian
            ds.file_meta.TransferSyntaxUID = uids[explicit]
    except OSError:
        raise
    except Exception as error:  # whose text may quote what the header holds
        raise InvalidInstance("UNDECODABLE", "The file cannot be read as DICOM.") from error
    return ds


def read_header(path: Path) -> Any:
    """Read a DICOM file's data set without the pixels.

    Raises
    ------
    Exception
        Whatever pydicom raises on a file that is no data set; the kinds are not documented.
    """
    import pydicom

    import dicom_node.privacy  # noqa: F401 - pydicom quotes invalid values in warnings

    return pydicom.dcmread(path, force=True, stop_before_pixels=True)
