"""The node that listens: Verification, Storage, Storage Commitment and Query/Retrieve SCP."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node import admission
from dicom_node.answer import quicken
from dicom_node.commitment import PUSH_MODEL
from dicom_node.commitment_scp import CommitmentSCP
from dicom_node.contexts import (
    STORAGE_SOP_CLASSES,
    UNCOMPRESSED_TRANSFER_SYNTAXES,
    VERIFICATION,
    decodable_transfer_syntaxes,
)
from dicom_node.correlation import about
from dicom_node.entity import application_entity
from dicom_node.guard import Guard, Limits
from dicom_node.incoming import Incoming, StoreEvent
from dicom_node.listener import Listener, open_listeners
from dicom_node.ours import DOCUMENT_SOP_CLASSES, OUR_SOP_CLASSES
from dicom_node.prompt import Prompt
from dicom_node.query import FIND_SOP_CLASSES, RETRIEVE_SOP_CLASSES, Wanted
from dicom_node.query_scp import answer_find
from dicom_node.reception import (
    Record,
    Reply,
    association_id,
    handle_store,
    has_sent,
)
from dicom_node.records import Outcome, Received
from dicom_node.retrieve_scp import RetrieveSCP
from dicom_node.services import NodeConfig, Services
from dicom_node.serving import Serving, end, who
from dicom_node.store import Store

__all__ = [
    "NodeConfig",
    "Outcome",
    "Received",
    "Record",
    "Reply",
    "RunningNode",
    "Services",
    "Wanted",
    "handle_store",
    "start_node",
]

log = logging.getLogger(__name__)

# PS3.8 9.1.4: how long a connection may stand open without an association request.
_ARTIM_S = 15.0

_ABORT_S = 5.0


class RunningNode:
    """A node that listens, until `shutdown`.

    Attributes
    ----------
    port : int
        The TCP port it listens on: the plain one, if there is one.
    tls_port : int or None
        The TCP port for TLS.
    """

    def __init__(self, listeners: Sequence[Listener], on_shutdown: Callable[[], None]) -> None:
        self._listeners = list(listeners)
        self._on_shutdown = on_shutdown
        self._entity = listeners[0].ae
        self.port = listeners[0].port
        self.tls_port = next((each.port for each in listeners if each.tls), None)

    @property
    def is_listening(self) -> bool:
        """Whether all its ports are being listened on."""
        return bool(self._listeners) and all(each.is_serving for each in self._listeners)

    @property
    def open_associations(self) -> int:
        """How many associations are open."""
        return len(self._associations())

    def _associations(self) -> list[Any]:
        return [each for each in self._entity.active_associations if each.is_acceptor]

    def shutdown(self, grace_s: float = 10.0, finish_s: float = 15.0) -> None:
        """Accept no more; let associations end by themselves, then end each between two requests.

        Parameters
        ----------
        grace_s : float
            How long they may go on.
        finish_s : float
            How long a request that is being served after that may take. Then it is cut off.
        """
        self._entity._maximum_associations = admission.STOPPING
        while self._listeners:
            self._listeners.pop().shutdown()
        deadline = time.monotonic() + grace_s
        while self.open_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for finish, limit_s in ((end, finish_s), (lambda assoc: assoc.abort(), _ABORT_S)):
            left = self._associations()
            for assoc in left:
                threading.Thread(target=finish, args=(assoc,), daemon=True).start()
            deadline = time.monotonic() + limit_s
            for assoc in left:
                assoc.join(max(0.0, deadline - time.monotonic()))
        self._on_shutdown()


def start_node(config: NodeConfig, archive: Store, services: Services) -> RunningNode:
    """Start to listen, in threads of its own.

    Parameters
    ----------
    config : NodeConfig
        How to listen.
    archive : Store
        Where instances are kept.
    services : Services
        What stands behind it.

    Raises
    ------
    ConfigurationError
        When an address or a port cannot be had, or TLS has no certificate.
    """
    entity = application_entity(config.ae_title, config.network_timeout_s, config.maximum_pdu)
    entity.acse_timeout = min(_ARTIM_S, config.network_timeout_s)
    entity.maximum_associations = config.max_associations
    entity.require_calling_aet = sorted(config.allowed_ae_titles)
    entity.require_called_aet = config.require_called_ae_title
    _add_contexts(entity, config, services)
    commitment = CommitmentSCP(
        config.ae_title, services.failure_of, services.on_commitment, config.peers, config.peer_tls
    )
    follow = [commitment.attach]
    if services.retrieve is not None:
        retrieval = RetrieveSCP(config.ae_title, services.retrieve, config.peers, config.peer_tls)
        follow.append(retrieval.attach)

    def on_closed(assoc: Any) -> None:
        commitment.close(assoc)
        if has_sent(assoc):
            services.on_association_closed(association_id(assoc))

    def prepare(event: Any, tls: ssl.SSLContext | None) -> None:
        prompt = _prepare(event.assoc, config, archive, tls, on_closed)
        for attach in follow:
            attach(event.assoc)
        Serving(event.assoc, prompt)

    handlers = _handlers(config, archive, services, commitment)
    listeners = open_listeners(entity, config, handlers, prepare, services.watch)
    return RunningNode(listeners, commitment.stop)


def _handlers(
    config: NodeConfig, archive: Store, services: Services, commitment: CommitmentSCP
) -> list[tuple[Any, Callable[[Any], Any]]]:
    """Say who answers what."""
    find = services.find
    handlers: list[tuple[Any, Callable[[Any], Any]]] = [
        (evt.EVT_CONN_CLOSE, _on_connection_closed),
        (evt.EVT_ACCEPTED, lambda event: admission.on_accepted(event, services.watch)),
        (evt.EVT_REJECTED, lambda event: admission.on_rejected(event, services.watch)),
        (evt.EVT_C_STORE, lambda event: _stored(event, archive, services)),
        (evt.EVT_N_ACTION, commitment.on_action),
        (evt.EVT_N_EVENT_REPORT, commitment.on_event_report),
    ]
    if find is not None:
        handlers.append((evt.EVT_C_FIND, lambda event: answer_find(event, find, config.ae_title)))
    return handlers


def _stored(event: Any, archive: Store, services: Services) -> Dataset:
    began_at = time.perf_counter()
    reply = handle_store(StoreEvent(event), archive, services.record)
    seconds = time.perf_counter() - began_at
    services.watch.stored(str(event.request.AffectedSOPClassUID), int(reply), seconds)
    return reply.to_dataset()


def _add_contexts(entity: AE, config: NodeConfig, services: Services) -> None:
    """Say what we take part in; PS3.7 D.3.3.4: a role that is not the usual one is negotiated."""
    syntaxes = list(config.transfer_syntaxes or decodable_transfer_syntaxes())
    plain = list(UNCOMPRESSED_TRANSFER_SYNTAXES)
    offered: dict[str, list[str]] = dict.fromkeys(STORAGE_SOP_CLASSES, syntaxes)
    offered |= dict.fromkeys([*DOCUMENT_SOP_CLASSES, VERIFICATION, PUSH_MODEL], plain)
    if services.find is not None:
        offered |= dict.fromkeys(FIND_SOP_CLASSES, plain)
    if services.retrieve is not None:
        offered |= dict.fromkeys(RETRIEVE_SOP_CLASSES, plain)
    # C-GET sends by the association that asks; a result of commitment comes from its SCP.
    both_roles = {PUSH_MODEL, *(OUR_SOP_CLASSES if services.retrieve is not None else ())}
    for sop_class, taken in offered.items():
        role = True if sop_class in both_roles else None
        entity.add_supported_context(sop_class, taken, scu_role=role, scp_role=role)


def _prepare(
    assoc: Any,
    config: NodeConfig,
    archive: Store,
    tls: ssl.SSLContext | None,
    on_closed: Callable[[Any], None],
) -> Prompt:
    """Prepare a new association, before its thread starts.

    Release, abort and loss have events of their own, some of which come while an instance is still
    being stored. The end of the association's thread comes once and after everything.
    """
    connection = assoc.dul.socket.socket
    # A response is a small packet that the peer waits for: do not hold it back.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Half a PDU, and then silence, would hold the reading thread for ever.
    connection.settimeout(config.network_timeout_s)
    opening_s = min(_ARTIM_S, config.network_timeout_s)
    prompt, incoming = Prompt(assoc), Incoming(assoc, archive)
    quicken(assoc)
    guard = Guard(assoc, Limits(config.maximum_pdu, opening_s, config.network_timeout_s))
    # Of the two threads of an association, one reads what the other answers.
    name, run, read = association_id(assoc), assoc.run, assoc.dul.run
    assoc.dul.run = lambda: _run_about(name, read)

    def run_and_tell() -> None:
        try:
            # Here and not where the connection is accepted: a silent client holds up no other.
            if tls is None or guard.handshake(tls):
                run()
            else:
                guard.close()
        except Exception as error:  # noqa: BLE001 - the thread ends here
            log.error("association broke: %s", type(error).__name__)  # noqa: TRY400
            guard.close()
        finally:
            prompt.close()
            incoming.close()
            _tell_loss(assoc, guard)
            _tell_closed(assoc, on_closed)

    assoc.run = lambda: _run_about(name, run_and_tell)
    return prompt


def _run_about(name: str, run: Callable[[], None]) -> None:
    with about(association_id=name):
        run()


def _on_connection_closed(event: Any) -> None:
    """Let go of a connection that closed before it asked for an association.

    A port scanner or a load balancer's probe does that; the library would hold its thread, and
    count it as an association, until the time limit for the request.
    """
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def _tell_loss(assoc: Any, guard: Guard) -> None:
    """Say how an association ended that was not released."""
    if assoc.requestor.primitive is None or assoc.is_rejected or assoc.is_released:
        return
    if not guard.has_told:
        silent = guard.silent_s >= (assoc.network_timeout or float("inf"))
        how = "was silent for too long" if silent else "was aborted"
        log.warning("association %s: %s", how, who(assoc))


def _tell_closed(assoc: Any, on_closed: Callable[[Any], None]) -> None:
    try:
        on_closed(assoc)
    except Exception as error:  # noqa: BLE001 - the thread ends here; nobody else could hear it
        log.error("closing an association failed: %s", type(error).__name__)  # noqa: TRY400
