"""Who is who in an export, without saying who: parts by a key that stays here, names by chance.

The part that a patient falls into is the same in every export of an installation: an image that
one model was tested on is not what the next one learns from. The key of it stays in `CXR_HOME`:
whoever had it could tell the part of a Patient ID that they guess. Names are numbers in an order
of chance, anew for each export, and say nothing at all.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicom_node import durable

# Each part with where it ends, as a share of all patients.
_PARTS: Final = {"train": 0.7, "val": 0.85, "test": 1.0}
_BYTES: Final = 32


def key_of(home: Path) -> bytes:
    """Give the key of this installation, made at its first use.

    Raises
    ------
    OSError
        When it cannot be read or written.
    """
    path = home / "export" / "key"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    made = path.with_name(f"key.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        durable.write_all(descriptor, secrets.token_bytes(_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with suppress(FileExistsError):  # the first one stays, whole, whoever comes second
        os.link(made, path)
    made.unlink()
    return path.read_bytes()


def part_of(key: bytes, patient: str) -> str:
    """Tell which part a patient falls into: `train`, `val` or `test`, about 70, 15 and 15 %."""
    digest = hmac.new(key, patient.encode(), hashlib.sha256).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return next(part for part, end in _PARTS.items() if share < end or end == 1)


def numbered(patients: Iterable[str]) -> dict[str, int]:
    """Number patients from 1 on, in an order of chance."""
    mixed = sorted(set(patients))
    secrets.SystemRandom().shuffle(mixed)
    return {patient: number for number, patient in enumerate(mixed, 1)}
