"""From the archive to a data set or its pixels, for the steps that look at images again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import dicom_node.privacy  # noqa: F401
from dicom_node.inflating import read_before_pixels
from dicom_node.objects import StoreAway
from dicom_node.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

    from dicom_node.decoder_child import Decoder


class ArchiveAway(Exception):
    """The archive is not there, full or read-only just now: a matter of waiting."""

    @classmethod
    def because(cls, error: OSError) -> ArchiveAway:
        """Say what the archive said, without its path."""
        return cls(error.strerror or type(error).__name__)


class FileGone(Exception):
    """The archive is there, but a stored file is not: a matter for a person."""

    def __init__(self, path: str) -> None:
        """Name the file; it is called as its study and its instance."""
        advice = "restore it or send it again, then requeue the study"
        super().__init__(f"{path} is gone from the archive: {advice}")


def read_header(archive: Store, path: str) -> Dataset:
    """Read a stored instance but its pixels; raises as `open_stored` does."""
    with open_stored(archive, path) as file, still_there():
        return read_before_pixels(file)[0]


def read_bytes(archive: Store, path: str) -> bytes:
    """Read a stored file; raises as `open_stored` does."""
    with open_stored(archive, path) as file, still_there():
        return file.read()


def read_to_decode(file: BinaryIO) -> Dataset:
    """Read an instance for `pixels_of`: without its pixels where they are compressed.

    A decoder is given the file as it is; of one in a bucket the pixels would be fetched twice.
    """
    from pydicom import dcmread

    from dicom_node.contexts import UNCOMPRESSED_TRANSFER_SYNTAXES
    from dicom_node.header import transfer_syntax_of

    compressed = transfer_syntax_of(file) not in UNCOMPRESSED_TRANSFER_SYNTAXES
    file.seek(0)
    return read_before_pixels(file)[0] if compressed else dcmread(file)


@contextmanager
def still_there() -> Iterator[None]:
    """Say of a file in a bucket that was opened, and cannot be read on, that the archive is away.

    Raises
    ------
    ArchiveAway
        When it is.
    """
    try:
        yield
    except StoreAway as error:
        raise ArchiveAway.because(error) from error


def open_stored(archive: Store, path: str) -> BinaryIO:
    """Open a stored file.

    Raises
    ------
    ArchiveAway
        When it cannot be had now.
    FileGone
        When it is gone from the archive, or was removed: then it has no path.
    """
    if not path:
        raise FileGone("what was removed")
    try:
        return archive.open(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError) or not archive.is_there():
            raise ArchiveAway.because(error) from error
    # It is there: was it when we looked, too?
    try:
        return archive.open(path)
    except FileNotFoundError as error:
        raise FileGone(path) from error
    except OSError as error:
        raise ArchiveAway.because(error) from error


def pixels_of(
    decoder: Decoder, ds: Dataset, file: BinaryIO, sop_instance_uid: str, side: int | None = None
) -> NDArray[np.float32]:
    """Return the pixels of an instance; what needs a decoder is decoded where it harms nobody.

    Parameters
    ----------
    ds, file
        The instance, and the file that it was read from, still open. (With the file in memory too,
        a worker would give so much back after each radiograph that most of its time went into
        having it again.)
    side
        Of the square that the image is to be reduced to; all of it is returned when this is None.

    Raises
    ------
    InstanceError, DecoderAway
        As `Decoder.to_pixels` does.
    OSError
        When the file cannot be read now.
    """
    from dicom_node.pixels import needs_decoder, to_pixels

    if needs_decoder(ds):
        file.seek(0)
        return decoder.to_pixels(file.read(), sop_instance_uid, side)
    return to_pixels(ds, side)
