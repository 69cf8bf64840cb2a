"""What kind of answer a request wishes for.

References
----------
DICOM PS3.18 8.3.3.1, 8.7; RFC 9110 12.5.1; RFC 2387
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException, Request

MULTIPART: Final = "multipart/related"
JSON: Final = "application/dicom+json"
DICOM: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"

# A part of a list, whose quoted strings may have commas (RFC 9110 5.6.4, 5.6.6).
_PART: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PARAMETER: Final = re.compile(r';\s*([\w.-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s]*)\s*')
# Nobody wishes for more.
_LONGEST: Final = 4096
_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Wish:
    """A kind of answer.

    Attributes
    ----------
    kind : str
        Media type, of a part where there are several; in lower case, with ``*`` for any.
    is_multipart : bool
        Whether the answer has parts; true also for ``*/*``.
    is_single : bool
        Whether it may be without parts.
    transfer_syntax : str
        A UID, ``*`` for any, or "" where nothing is said.
    """

    kind: str
    is_multipart: bool
    is_single: bool
    transfer_syntax: str
    weight: float = 1.0

    def takes(self, kind: str) -> bool:
        """Tell whether it is satisfied by a media type."""
        return self.kind in (kind, "*/*", kind.partition("/")[0] + "/*")


def wishes(request: Request) -> list[Wish]:
    """Give the dearest that a request wishes for, in order; anything when it does not say."""
    asked = request.query_params.get("accept") or request.headers.get("accept") or "*/*"
    found = [_wish(part) for part in _PART.findall(asked[:_LONGEST])]
    dearest = sorted((each for each in found if each.weight > 0), key=lambda each: -each.weight)
    return dearest[:_MOST]


def _wish(part: str) -> Wish:
    kind, _, rest = part.strip().partition(";")
    kind = kind.strip().lower()
    parameters = {
        name.lower(): value.strip('"')
        for name, value in _PARAMETER.findall(f";{rest}" * bool(rest))
    }
    weight = parameters.get("q", "1")
    is_multipart = kind == MULTIPART
    return Wish(
        parameters.get("type", "*/*").lower() if is_multipart else kind,
        is_multipart or kind in ("*/*", "multipart/*"),
        not is_multipart,
        parameters.get("transfer-syntax", ""),
        float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 1.0,
    )


def require(request: Request, *offered: str) -> str:
    """Give the offered media type that suits best.

    Raises
    ------
    HTTPException
        406 when none does.
    """
    for wish in wishes(request):
        for kind in offered:
            if wish.is_single and wish.takes(kind):
                return kind
    raise not_acceptable(offered)


def not_acceptable(offered: Iterable[str]) -> HTTPException:
    """Say what there is instead."""
    return HTTPException(406, f"This comes as {' or '.join(offered)}.")
