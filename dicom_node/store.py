"""What an archive promises, wherever it is: in a folder (`Archive`) or in a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from dicom_node.archive import StoredFile
from dicom_node.draft import Draft

# What can be sent: a file on this machine, or what fetches one.
Source = Path | Callable[[], bytes]


class Store(Protocol):
    """Instances and reports, durable; safe to share between threads and processes.

    Paths are relative, with forward slashes, and name the content: ``study/instance.hash.dcm``.
    What fails is an ``OSError`` in any case, whose `strerror` names no path and no patient.
    """

    @property
    def place(self) -> str:
        """Where it is, for a person: a folder or a URL."""

    def make(self) -> None:
        """Put its mark where it is missing; that makes it the archive."""

    def is_there(self) -> bool:
        """Tell whether it answers, and is the archive."""

    def write(
        self, study_instance_uid: str, sop_instance_uid: str, data: bytes | memoryview
    ) -> StoredFile:
        """Store `data` durably; the same again changes nothing."""

    def draft(self, start: bytes) -> Draft:
        """Begin a file of which more is to come, to be given to `keep` in the end."""

    def keep(self, study_instance_uid: str, sop_instance_uid: str, draft: Draft) -> StoredFile:
        """Store what was drafted, as `write` does."""

    def stays(self, path: str) -> bool:
        """Tell, once its row is committed, that what was just written was not removed meanwhile.

        Nothing is acknowledged before that: where it cannot be told, this raises.
        """

    def has(self, path: str) -> bool:
        """Tell whether a stored file is there."""

    def size(self, path: str) -> int:
        """Return how many bytes a stored file has."""

    def open(self, path: str) -> BinaryIO:
        """Open a stored file for reading."""

    def read(self, path: str) -> bytes:
        """Return a stored file's bytes."""

    def source(self, path: str) -> Source:
        """Give a stored file as something that can be sent."""

    def quarantine(self, path: str) -> str:
        """Move a stored file aside, durably, and return its new path."""

    def probe(self) -> None:
        """Write something, and remove it again."""

    def free_bytes(self) -> int:
        """Return the space that is free for what comes, on the disk that it needs."""

    def remove_partial(self) -> int:
        """Remove what writers that died left half-written; return how many."""

    def stale_partial(self) -> Iterator[Path]:
        """Find what writers that died left half-written."""
