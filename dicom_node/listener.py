"""The listening socket: who may connect at all, and how many at once."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.transport import AssociationServer

from dicom_node.errors import ConfigurationError
from dicom_node.services import NodeConfig
from dicom_node.watch import Rejection, Watch

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Listener(AssociationServer):
    """Accepts connections, and hands each to a thread of its own before anything is read.

    Parameters
    ----------
    *args
        Of the library's server.
    tls : bool
        Whether its connections take up TLS, which each does in its own thread.
    allowed_hosts : collection of networks
        Where connections may come from; empty is everywhere.
    max_connections : int
        Open connections of the application entity, over all its listeners; an association that is
        too much is rejected, a connection beyond this is closed.
    watch : Watch
        Hears of connections that are closed unread.
    **kwargs
        Of the library's server.
    """

    # Connections that may wait to be accepted. The library's five are too few for a burst: what
    # does not fit is dropped, and its peer tries again only after a second, then three, then seven.
    request_queue_size = 256

    def __init__(
        self,
        *args: Any,
        tls: bool,
        allowed_hosts: Collection[Network],
        max_connections: int,
        watch: Watch,
        **kwargs: Any,
    ) -> None:
        self.tls = tls
        self._watch = watch
        self._allowed_hosts = allowed_hosts
        self._max_connections = max_connections
        super().__init__(*args, **kwargs)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Accept, in a thread of its own."""
        self.ae._servers.append(self)
        name = f"listener:{self.port}"
        self._thread = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_serving(self) -> bool:
        """Whether its thread lives; only after `start`."""
        return self._thread.is_alive()

    def get_request(self) -> Any:
        """Accept one connection; when that fails, let others end before it is tried again."""
        try:
            return super().get_request()
        except OSError as error:
            log.error("a connection cannot be accepted: %s", error.strerror)  # noqa: TRY400
            time.sleep(0.1)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Tell whether a connection may stay; one that may not is closed unread."""
        host = client_address[0]
        if not is_allowed(host, self._allowed_hosts):
            log.warning("closed the connection from %s: not in CXR_ALLOWED_HOSTS", host)
            self._watch.rejected(Rejection.HOST)
            return False
        count = sum(assoc.is_acceptor for assoc in self.ae.active_associations)
        if count >= self._max_connections:
            log.warning("closed the connection from %s: %d are open already", host, count)
            self._watch.rejected(Rejection.TOO_MANY)
            return False
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say in one line that a connection could not be taken; the library prints a traceback."""
        reason = type(sys.exc_info()[1]).__name__
        log.error("the connection from %s could not be taken: %s", client_address[0], reason)


def is_allowed(host: str, networks: Collection[Network]) -> bool:
    """Tell whether an address is in one of some networks; none at all is everywhere.

    An IPv4 address that an IPv6 socket shows as ``::ffff:192.0.2.1`` is that IPv4 address.
    """
    if not networks:
        return True
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def open_listeners(
    entity: AE,
    config: NodeConfig,
    handlers: Sequence[tuple[Any, Callable[[Any], Any]]],
    prepare: Callable[[Any, ssl.SSLContext | None], None],
    watch: Watch,
) -> list[Listener]:
    """Open the ports, all or none, and start to accept.

    Parameters
    ----------
    entity : pynetdicom.ae.ApplicationEntity
        Whose associations they are.
    config : NodeConfig
        Which ports, and what to announce on them.
    handlers : sequence of (event, callable)
        Who answers what.
    prepare : callable
        Called with ``EVT_CONN_OPEN`` of each connection, and the context where it takes up TLS.
    watch : Watch
        Hears of connections that are closed unread.

    Raises
    ------
    ConfigurationError
        When an address or a port cannot be had, or TLS has no certificate.
    """
    listeners: list[Listener] = []
    try:
        for setting, port, tls in _ports(config):
            on_open = (evt.EVT_CONN_OPEN, prepare, [tls])
            try:
                listener = Listener(
                    entity, (config.bind, port), entity.ae_title, entity.supported_contexts,
                    evt_handlers=[on_open, *handlers], tls=tls is not None,
                    allowed_hosts=config.allowed_hosts,
                    max_connections=2 * config.max_associations + 16, watch=watch,
                )  # fmt: skip
            except OSError as error:
                raise _cannot_listen(config.bind, setting, port, error) from error
            listeners.append(listener)
    except ConfigurationError:
        for listener in listeners:
            listener.server_close()
        raise
    for listener in listeners:
        listener.start()
        how = " with TLS" if listener.tls else ""
        log.info("node %s listens on %s:%d%s", config.ae_title, config.bind, listener.port, how)
    return listeners


def _ports(config: NodeConfig) -> Iterator[tuple[str, int, ssl.SSLContext | None]]:
    """Give each port with its setting, the plain one first."""
    if config.tls_port is None and not config.plaintext:
        raise ConfigurationError("CXR_PLAINTEXT", "is off, so CXR_TLS_PORT must be set")
    if config.tls_port is not None and config.tls is None:
        raise ConfigurationError("CXR_TLS_CERTIFICATE", "must be set where CXR_TLS_PORT is")
    if config.plaintext:
        yield "CXR_PORT", config.port, None
    if config.tls_port is not None:
        yield "CXR_TLS_PORT", config.tls_port, config.tls


def _cannot_listen(bind: str, setting: str, port: int, error: OSError) -> ConfigurationError:
    """Say which setting keeps the node from listening."""
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(
        error, socket.gaierror
    ):
        return ConfigurationError("CXR_BIND", f"{bind} is not an address of this machine")
    why = {
        errno.EADDRINUSE: "is in use by another program; stop that or choose another port",
        errno.EACCES: "needs privileges that we lack; choose a port above 1023",
    }.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
    return ConfigurationError(setting, f"port {port} {why}")
