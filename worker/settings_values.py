"""How values of the settings are written: lists, AE titles, addresses, peers with their options.

What is wrong with one is a ValueError of one sentence.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from worker.destinations import Destination, KnownPeer


def _split(value: object) -> object:
    """Split ``a,b`` at its commas; anything else is passed on."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _read_peers(kind: type[Destination] | type[KnownPeer]) -> Callable[[object], object]:
    """Make what reads ``AET@host:port?options,…``, or the tables of a TOML file."""

    def read(value: object) -> object:
        parts = _split(value)
        return tuple(map(read_one, parts)) if isinstance(parts, list) else parts

    def read_one(part: object) -> object:
        if isinstance(part, str):
            return kind.parse(part)
        return kind.of(part) if isinstance(part, Mapping) else part

    return read


def _networks(value: object) -> object:
    """Read ``192.0.2.7,198.51.100.0/24,…``; an address is a network of one."""
    parts = _split(value)
    return tuple(map(ipaddress.ip_network, parts)) if isinstance(parts, list) else parts


def _valid_ae_title(value: str) -> str:
    """Check an AE title (DICOM PS3.5 6.2, VR AE): 1 to 16 characters, no backslash, no controls."""
    title = value.strip()
    if not 1 <= len(title) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return title


AETitle = Annotated[str, BeforeValidator(_valid_ae_title)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Destinations = Annotated[
    tuple[Destination, ...], NoDecode, BeforeValidator(_read_peers(Destination))
]
KnownPeers = Annotated[tuple[KnownPeer, ...], NoDecode, BeforeValidator(_read_peers(KnownPeer))]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
AETitles = Annotated[frozenset[AETitle], NoDecode, BeforeValidator(_split)]
