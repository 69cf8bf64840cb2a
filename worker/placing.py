"""The archive that the settings name: in a folder, or in a bucket."""

from __future__ import annotations

from dicom_node.archive import Archive
from dicom_node.store import Store
from worker.settings import Settings
from worker.settings_objects import Bucket


def archive_of(settings: Settings, reserve_bytes: int = 0) -> Store:
    """Name the archive; it is not made, and a bucket not asked yet.

    Parameters
    ----------
    reserve_bytes : int
        Free space that must remain on its disk, or on that of a bucket's spool.

    Raises
    ------
    ConfigurationError
        When it is a bucket, and what speaks S3 is not installed.
    """
    place = settings.archive
    if isinstance(place, Bucket):
        # Late, and with it the libraries of DICOM, which not every role needs to start.
        from dicom_node.object_archive import ObjectArchive
        from dicom_node.s3 import s3_objects

        objects = s3_objects(place.root, settings.s3_endpoint)
        return ObjectArchive(str(place), objects, settings.spool_path, reserve_bytes)
    return Archive(settings.archive_root, reserve_bytes, make=False)
