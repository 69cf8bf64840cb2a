"""A file of the archive, and what its path tells."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.archive import QUARANTINE

# A file that is about to be removed, out of the way of who might write it again.
ASIDE = ".aside"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the archive.

    Attributes
    ----------
    path : str
        Relative to the archive's root, with forward slashes.
    size : int
        In bytes.
    written_at : float
        When it was last written, or sent again, in seconds since 1970.
    """

    path: str
    size: int
    written_at: float

    @property
    def study_instance_uid(self) -> str:
        """The study whose folder it is in."""
        return self.path.rpartition("/")[0].rpartition("/")[2]

    @property
    def sop_instance_uid(self) -> str:
        """The instance that it is called after; "" for what is called otherwise."""
        name = self.named.rpartition("/")[2]
        return name.rsplit(".", 2)[0] if name.count(".") >= 2 else ""

    @property
    def named(self) -> str:
        """Its path, or the one that it had before it was put aside."""
        folder, _, name = self.path.rpartition("/")
        if name.startswith(".") and name.endswith(ASIDE):
            return f"{folder}/{name[1 : -len(ASIDE)]}"
        return self.path

    @property
    def is_instance(self) -> bool:
        """Whether it is, or was, an instance that is not in quarantine."""
        quarantined = self.path.startswith(f"{QUARANTINE}/")
        return not quarantined and self.named.endswith(".dcm")


def aside_of(name: str) -> str:
    """Give the name that a file has while it is put aside."""
    return f".{name}{ASIDE}"
