"""Peers of ours as the settings name them: ``AET@host:port?option=value&…``."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from dicom_node.peer import Peer
from worker.states import CompanionKind

_SWITCH = {"on": True, "off": False}
_COMPANIONS = {kind.lower().replace("_", "-"): kind for kind in CompanionKind}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where reports go, and how.

    Attributes
    ----------
    peer : Peer
        The application entity. Its text is the destination's name in the database.
    companions : frozenset of CompanionKind
        What goes along with each report.
    tls : bool
        Whether to connect with TLS.
    commitment : bool
        Whether to ask for Storage Commitment, if the peer offers it.
    """

    peer: Peer
    companions: frozenset[CompanionKind] = frozenset()
    tls: bool = False
    commitment: bool = True

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read ``AET@host:port?companions=picture+key-object&tls=on&commitment=off``.

        Raises
        ------
        ValueError
            With one sentence that says what is wrong.
        """
        return cls.of(_table(text))

    @classmethod
    def of(cls, table: Mapping[str, object]) -> Destination:
        """Read a table of a TOML file: `peer` and the options, as words, lists and booleans.

        Raises
        ------
        ValueError
            With one sentence that says what is wrong.
        """
        peer = _peer(table, ("companions", "tls", "commitment"))
        return cls(
            peer,
            _companions(peer, table.get("companions", ())),
            _switch(peer, table, "tls", default=False),
            _switch(peer, table, "commitment", default=True),
        )


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """An application entity that we may have to call: it asked us for a move or a commitment.

    Attributes
    ----------
    peer : Peer
        Where it listens.
    tls : bool
        Whether to connect with TLS.
    """

    peer: Peer
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> KnownPeer:
        """Read ``AET@host:port?tls=on``.

        Raises
        ------
        ValueError
            With one sentence that says what is wrong.
        """
        return cls.of(_table(text))

    @classmethod
    def of(cls, table: Mapping[str, object]) -> KnownPeer:
        """Read a table of a TOML file.

        Raises
        ------
        ValueError
            With one sentence that says what is wrong.
        """
        peer = _peer(table, ("tls",))
        return cls(peer, _switch(peer, table, "tls", default=False))


def is_this_machine(host: str) -> bool:
    """Whether a host is surely this machine, told without asking a name server."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() in ("localhost", socket.gethostname().lower())
    return address.is_loopback or address.is_unspecified


def _table(text: str) -> dict[str, object]:
    """Take ``AET@host:port?a=b&c=d`` apart; an AE title may hold ``?`` and ``&`` itself."""
    ae_title, at, rest = text.strip().rpartition("@")
    address, _, options = rest.partition("?")
    table: dict[str, object] = {"peer": f"{ae_title}{at}{address}"}
    for option in filter(None, options.split("&")):
        name, _, value = (part.strip() for part in option.partition("="))
        if name in table:
            raise ValueError(f"{table['peer']}: {name} is given twice")
        table[name] = value
    return table


def _peer(table: Mapping[str, object], options: tuple[str, ...]) -> Peer:
    """Read the peer of a table that has no other keys than `options`."""
    if "peer" not in table:
        raise ValueError('each table needs peer = "AET@host:port"')
    peer = Peer.parse(str(table["peer"]))
    for name in sorted(table.keys() - {"peer", *options}):
        raise ValueError(f"{peer}: {name!r} is no option here; there are {', '.join(options)}")
    return peer


def _switch(peer: Peer, table: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = table.get(name, default)
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _SWITCH:
        raise ValueError(f"{peer}: {name} is on or off, not {value!r}")
    return _SWITCH[value.lower()]


def _companions(peer: Peer, value: object) -> frozenset[CompanionKind]:
    words = [word for word in value.split("+") if word] if isinstance(value, str) else value
    chosen: set[CompanionKind] = set()
    for word in words if isinstance(words, list | tuple) else [words]:
        if str(word) not in _COMPANIONS:
            known = ", ".join(_COMPANIONS)
            raise ValueError(f"{peer}: {str(word)!r} is no companion; there are {known}")
        chosen.add(_COMPANIONS[str(word)])
    return frozenset(chosen)
