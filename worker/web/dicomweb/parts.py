"""Answers of several parts, sent as they are read: no answer is gathered in memory.

References
----------
DICOM PS3.18 8.6.1.2; RFC 2046 5.1.1; RFC 2387
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from starlette.responses import StreamingResponse

from worker.web.dicomweb.accept import MULTIPART

_CHUNK: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """A part.

    Attributes
    ----------
    kind
        Media type, with its parameters.
    location
        URL of what it holds.
    read
        Gives its bytes; called when it is its turn.
    """

    kind: str
    location: str
    read: Callable[[], Iterator[bytes]]


def in_parts(parts: Iterable[Part], kind: str, status: int = 200) -> StreamingResponse:
    """Answer with parts, of one media type."""
    boundary = uuid.uuid4().hex
    told = f'{MULTIPART}; type="{kind}"; boundary={boundary}'
    return StreamingResponse(_lines(parts, boundary), status, media_type=told)


def alone(part: Part, headers: Mapping[str, str] | None = None) -> StreamingResponse:
    """Answer with one part, as it is."""
    about = {"Content-Location": part.location, **(headers or {})}
    return StreamingResponse(part.read(), headers=about, media_type=part.kind)


def _lines(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        about = f"Content-Type: {part.kind}\r\nContent-Location: {part.location}\r\n"
        yield f"--{boundary}\r\n{about}\r\n".encode()
        yield from part.read()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def chunks(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    """Read a file from where it is, so many bytes or to its end.

    Raises
    ------
    EOFError
        When it ends before.
    """
    left = length
    while left is None or left > 0:
        data = file.read(_CHUNK if left is None else min(_CHUNK, left))
        if not data:
            if left is None:
                return
            raise EOFError("a stored file is shorter than it says")
        if left is not None:
            left -= len(data)
        yield data
