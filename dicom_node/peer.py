"""A DICOM application on the network, as people write it: ``AET@host:port``."""

from __future__ import annotations

import re
from dataclasses import dataclass

# PS3.5 6.2, VR AE: printable ASCII but the backslash, 16 characters at most.
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_HOST = re.compile(r"\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:@\[\]/]+)")


@dataclass(frozen=True, slots=True)
class Peer:
    """Where to find an application entity.

    Attributes
    ----------
    ae_title : str
        Its AE title, 1 to 16 characters.
    host : str
        Host name or IP address.
    port : int
        TCP port, 1 to 65535.
    """

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read ``AET@host:port``; an IPv6 address goes in brackets.

        Raises
        ------
        ValueError
            With one sentence that says what is wrong.
        """
        ae_title, at, address = text.strip().rpartition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon):
            raise ValueError(f"{text!r} is not of the form AET@host:port")
        ae_title = ae_title.strip()
        if _AE_TITLE.fullmatch(ae_title) is None:
            raise ValueError(f"{text!r}: an AE title has 1 to 16 characters and no backslash")
        match = _HOST.fullmatch(host)
        if match is None:
            raise ValueError(f"{text!r}: {host!r} is not a host name or address")
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
        return cls(ae_title, match["ipv6"] or match["name"], int(port))

    def __str__(self) -> str:
        """Return the form that `parse` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"
