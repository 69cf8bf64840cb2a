"""How values of the settings are written: lists, AE titles, addresses, peers with their options.

What is wrong with one is a ValueError of one sentence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
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


def _port_or_off(value: object) -> object:
    """Read a port, or ``off``."""
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


def _host_names(value: object) -> object:
    """Read ``cxr.example.org,192.0.2.7,…``: as in the Host header, but without a port."""
    parts = _split(value)
    return tuple(map(_host_name, parts)) if isinstance(parts, list) else parts


def _host_name(value: str) -> str:
    name = value.lower().removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    if not _NAME.fullmatch(name):
        raise ValueError(f"{value!r} is no name or address of a host; give it without a port")
    return name


def _origins(value: object) -> object:
    """Read ``https://ohif.example.org,…``: as browsers write them in the Origin header."""
    parts = _split(value)
    return tuple(map(_origin, parts)) if isinstance(parts, list) else parts


def _origin(value: str) -> str:
    scheme, _, rest = value.lower().partition("://")
    host, colon, port = rest.partition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if scheme not in ("http", "https") or not _NAME.fullmatch(host) or (colon and not is_port):
        raise ValueError(
            f"{value!r} is no origin; give scheme and host, such as https://ohif.example.org, "
            "without a path"
        )
    return value.lower()


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where syslog messages go."""

    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> object:
        """Read ``host:port``; an IPv6 address is in brackets."""
        if not isinstance(value, str):
            return value
        host, _, port = value.strip().rpartition(":")
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise ValueError("must be host:port, such as syslog.example.org:6514")
        return cls(_host_name(host), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# RFC 1123 2.1: labels of letters, digits and hyphens; some networks of the inside use underscores.
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?")

AETitle = Annotated[str, BeforeValidator(_valid_ae_title)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Destinations = Annotated[
    tuple[Destination, ...], NoDecode, BeforeValidator(_read_peers(Destination))
]
KnownPeers = Annotated[tuple[KnownPeer, ...], NoDecode, BeforeValidator(_read_peers(KnownPeer))]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
AETitles = Annotated[frozenset[AETitle], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
PortOrOff = Annotated[int | None, BeforeValidator(_port_or_off)]
SyslogReceiver = Annotated[Receiver | None, BeforeValidator(Receiver.parse)]
