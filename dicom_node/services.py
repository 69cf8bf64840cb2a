"""What a node is told before it starts: how to listen, and what stands behind it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from dicom_node.peer import Peer
from dicom_node.query import Wanted
from dicom_node.query_scp import Find
from dicom_node.reception import Record
from dicom_node.records import Commitment, Reference
from dicom_node.store import Source
from dicom_node.watch import Watch

_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How the node listens.

    Attributes
    ----------
    ae_title : str
        Our AE title.
    bind : str
        Address to listen on.
    port : int
        TCP port; 0 takes a free one.
    plaintext : bool
        Whether to listen on `port`, without TLS.
    tls_port : int, optional
        TCP port for TLS; 0 takes a free one, None does without.
    tls : ssl.SSLContext, optional
        What to listen with on `tls_port`; `dicom_node.tls.server_context`.
    allowed_hosts : tuple of networks
        Where connections may come from; empty is everywhere.
    allowed_ae_titles : frozenset of str
        Calling AE titles that may associate; empty is all.
    require_called_ae_title : bool
        Reject associations that call us by another title.
    max_associations : int
        Associations at once, over both ports; more are rejected as transient (PS3.8 9.3.4).
    network_timeout_s : float
        An association silent for this long is aborted.
    maximum_pdu : int
        Largest PDU, in bytes; 0 is unlimited.
    transfer_syntaxes : tuple of str
        What to accept; empty is what this installation decodes. For a node whose workers, on
        other machines, decode more than it does itself.
    peers : mapping of str to Peer
        Where an AE title is found: for C-MOVE, and for results of Storage Commitment.
    peer_tls : mapping of str to ssl.SSLContext
        What to connect with to those AE titles that take TLS; `dicom_node.tls.client_context`.
    """

    ae_title: str
    bind: str = "0.0.0.0"  # noqa: S104
    port: int = 11112
    plaintext: bool = True
    tls_port: int | None = None
    tls: ssl.SSLContext | None = None
    allowed_hosts: _Networks = ()
    allowed_ae_titles: frozenset[str] = frozenset()
    require_called_ae_title: bool = False
    max_associations: int = 100
    network_timeout_s: float = 60.0
    maximum_pdu: int = 262144
    transfer_syntaxes: tuple[str, ...] = ()
    peers: Mapping[str, Peer] = field(default_factory=lambda: MappingProxyType({}))
    peer_tls: Mapping[str, ssl.SSLContext] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Services:
    """What stands behind the node; what is None is not offered.

    Each is called in the thread of an association, many at once.

    Attributes
    ----------
    record : Record
        Commits a received instance.
    on_association_closed : callable
        Called once with the association's id when an association that sent something has ended,
        by release, abort or loss alike, and after its last instance was answered.
    failure_of : callable, optional
        Storage Commitment of what we received: None for an instance that is durably stored here,
        else the Failure Reason (0008,1197).
    on_commitment : callable
        Takes the result of a request for commitment of ours; False when there was no such request.
    find : callable, optional
        Entities that may match a query, each with all attributes that are known of it.
    retrieve : callable, optional
        Files of ours that a C-MOVE or C-GET asks for.
    watch : Watch
        Hears what the node does.
    """

    record: Record
    on_association_closed: Callable[[str], None] = lambda _: None
    failure_of: Callable[[Reference], int | None] | None = None
    on_commitment: Callable[[Commitment], bool] = lambda _: False
    find: Find | None = None
    retrieve: Callable[[Wanted], Sequence[Source]] | None = None
    watch: Watch = field(default_factory=Watch)
