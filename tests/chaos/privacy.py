"""Looks for the planted patient in all that was written beside the archive and the database."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.integration.house import BIRTH_DATE, PLANTED

# A message's body is Base64 in the broker; in its files and in MONITOR the quotes are escaped.
_BODY = re.compile(rb'body\\*": *\\*"([A-Za-z0-9+/=]+)')
_WORDS = [
    # Eight digits may stand in a UID by chance: only by themselves are they a date.
    re.compile(rb"(?<![0-9.])" + word.encode() + rb"(?![0-9])" if word == BIRTH_DATE
               else re.escape(word.encode()), re.IGNORECASE)
    for word in PLANTED
]  # fmt: skip


def leaks(*places: Path) -> Iterator[str]:
    """Name each file that holds a planted value, and which."""
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file():
                yield from (f"{path.name}: {word}" for word in words_in(path.read_bytes()))


def words_in(data: bytes) -> list[str]:
    """List the planted words in some bytes, and in the bodies of messages there."""
    bodies = b"\n".join(_decoded(body) for body in set(_BODY.findall(data)))
    return [
        word for word, pattern in zip(PLANTED, _WORDS, strict=True)
        if pattern.search(data) or pattern.search(bodies)
    ]  # fmt: skip


def _decoded(body: bytes) -> bytes:
    with suppress(binascii.Error):
        return base64.b64decode(body)
    return b""
