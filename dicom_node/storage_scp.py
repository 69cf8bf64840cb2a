"""Verification and Storage SCP: the node that listens."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pynetdicom import evt

from dicom_node.archive import Archive
from dicom_node.contexts import (
    STORAGE_SOP_CLASSES,
    UNCOMPRESSED_TRANSFER_SYNTAXES,
    VERIFICATION,
    decodable_transfer_syntaxes,
)
from dicom_node.entity import application_entity
from dicom_node.errors import ConfigurationError
from dicom_node.reception import (
    Outcome,
    Received,
    Record,
    Reply,
    association_id,
    handle_store,
    has_sent,
)

__all__ = [
    "NodeConfig",
    "Outcome",
    "Received",
    "Record",
    "Reply",
    "RunningNode",
    "handle_store",
    "start_node",
]

log = logging.getLogger(__name__)

# PS3.8 9.1.4: how long a connection may stand open without an association request.
_ARTIM_S = 15.0

# Connections that may wait to be accepted. The library's five are too few for a burst: what does
# not fit is dropped, and its peer tries again only after a second, then three, then seven.
_BACKLOG = 256


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
    allowed_ae_titles : frozenset of str
        Calling AE titles that may associate; empty is all.
    require_called_ae_title : bool
        Reject associations that call us by another title.
    max_associations : int
        Associations at once; more are rejected as transient (PS3.8 9.3.4).
    network_timeout_s : float
        An association silent for this long is aborted.
    maximum_pdu : int
        Largest PDU, in bytes; 0 is unlimited.
    transfer_syntaxes : tuple of str
        What to accept; empty is what this installation decodes. For a node whose workers, on
        other machines, decode more than it does itself.
    """

    ae_title: str
    bind: str = "0.0.0.0"  # noqa: S104
    port: int = 11112
    allowed_ae_titles: frozenset[str] = frozenset()
    require_called_ae_title: bool = False
    max_associations: int = 100
    network_timeout_s: float = 60.0
    maximum_pdu: int = 262144
    transfer_syntaxes: tuple[str, ...] = ()


class RunningNode:
    """A node that listens, until `shutdown`.

    Attributes
    ----------
    port : int
        The TCP port it listens on.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._accepts = True
        self.port: int = server.server_address[1]

    @property
    def open_associations(self) -> int:
        """How many associations are open."""
        return len(self._server.active_associations)

    def shutdown(self, grace_s: float = 10.0) -> None:
        """Stop accepting, let running associations end for `grace_s`, and abort the rest."""
        self._stop_accepting()
        deadline = time.monotonic() + grace_s
        while self.open_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        aborting = [
            threading.Thread(target=assoc.abort, daemon=True)
            for assoc in self._server.active_associations
        ]
        for thread in aborting:
            thread.start()
        for assoc in self._server.active_associations:
            assoc.join(timeout=5.0)

    def _stop_accepting(self) -> None:
        """Close the listening socket, once, and leave the associations alone."""
        if self._accepts:
            self._accepts = False
            self._server.shutdown()


def start_node(
    config: NodeConfig,
    archive: Archive,
    record: Record,
    on_association_closed: Callable[[str], None],
) -> RunningNode:
    """Start to listen, in threads of its own.

    Parameters
    ----------
    config : NodeConfig
        How to listen.
    archive : Archive
        Where instances are kept.
    record : Record
        Called in the association's thread for each instance, many at once.
    on_association_closed : callable
        Called once with the association's id when an association that sent something has ended,
        by release, abort or loss alike, and after its last instance was answered.

    Raises
    ------
    ConfigurationError
        When the address or the port cannot be had.
    """
    entity = application_entity(config.ae_title, config.network_timeout_s, config.maximum_pdu)
    entity.acse_timeout = min(_ARTIM_S, config.network_timeout_s)
    entity.maximum_associations = config.max_associations
    entity.require_calling_aet = sorted(config.allowed_ae_titles)
    entity.require_called_aet = config.require_called_ae_title
    syntaxes = list(config.transfer_syntaxes or decodable_transfer_syntaxes())
    for sop_class in STORAGE_SOP_CLASSES:
        entity.add_supported_context(sop_class, syntaxes)
    entity.add_supported_context(VERIFICATION, list(UNCOMPRESSED_TRANSFER_SYNTAXES))
    handlers = [
        (evt.EVT_CONN_OPEN, partial(_on_open, on_association_closed=on_association_closed)),
        (evt.EVT_CONN_CLOSE, _on_connection_closed),
        (evt.EVT_ACCEPTED, _on_accepted),
        (evt.EVT_REJECTED, _on_rejected),
        (evt.EVT_C_STORE, lambda event: handle_store(event, archive, record).to_dataset()),
    ]
    try:
        server = entity.start_server((config.bind, config.port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise _cannot_listen(config, error) from error
    server.socket.listen(_BACKLOG)
    log.info("node %s listens on %s:%d", config.ae_title, config.bind, server.server_address[1])
    return RunningNode(server)


def _cannot_listen(config: NodeConfig, error: OSError) -> ConfigurationError:
    """Say which setting keeps the node from listening."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(
        error, socket.gaierror
    ):
        return ConfigurationError("CXR_BIND", f"{config.bind} is not an address of this machine")
    why = {
        errno.EADDRINUSE: "is in use by another program; stop that or choose another port",
        errno.EACCES: "needs privileges that we lack; choose a port above 1023",
    }.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
    return ConfigurationError("CXR_PORT", f"port {config.port} {why}")


def _on_open(event: Any, on_association_closed: Callable[[str], None]) -> None:
    """Prepare a new association, before its thread starts.

    Release, abort and loss have events of their own, some of which come while an instance is still
    being stored. The end of the association's thread comes once and after everything.
    """
    assoc = event.assoc
    connection = assoc.dul.socket.socket
    # A response is a small packet that the peer waits for: do not hold it back.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Half a PDU, and then silence, would hold the reading thread for ever.
    connection.settimeout(assoc.network_timeout)
    run = assoc.run

    def run_and_tell() -> None:
        try:
            run()
        finally:
            _closed(assoc, on_association_closed)

    assoc.run = run_and_tell


def _on_connection_closed(event: Any) -> None:
    """Let go of a connection that closed before it asked for an association.

    A port scanner or a load balancer's probe does that; the library would hold its thread, and
    count it as an association, until the time limit for the request.
    """
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def _closed(assoc: Any, on_association_closed: Callable[[str], None]) -> None:
    if not has_sent(assoc):
        return
    try:
        on_association_closed(association_id(assoc))
    except Exception as error:  # noqa: BLE001 - the thread ends here; nobody else could hear it
        log.error("closing an association failed: %s", type(error).__name__)  # noqa: TRY400


def _on_accepted(event: Any) -> None:
    log.info("association accepted: %s", _who(event.assoc))


def _on_rejected(event: Any) -> None:
    log.warning("association rejected: %s", _who(event.assoc))


def _who(assoc: Any) -> str:
    """Say who asked for an association, and for whom."""
    asked = assoc.requestor.primitive
    return (
        f"calling {asked.calling_ae_title!r}, called {asked.called_ae_title!r}, "
        f"from {assoc.requestor.address}"
    )
