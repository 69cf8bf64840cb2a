"""Associations that we request: opened with a time limit for each step, and always ended."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pynetdicom import evt
from pynetdicom.presentation import build_context, build_role

from dicom_node.entity import application_entity
from dicom_node.errors import AssociationRejected, PeerError
from dicom_node.peer import Peer
from dicom_node.reachability import why_unreachable

# PS3.8 Table 9-21: the result of a rejection that another try will not change.
_REJECTED_PERMANENT = 1

MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: ids are the odd numbers from 1 to 255

# Abstract syntax and transfer syntax, one presentation context.
Pair = tuple[str, str]

_MAXIMUM_PDU = 262144
# What was to be done is done: a peer that does not answer a release is not waited for long.
_RELEASE_S = 5.0


@contextmanager
def associated(
    peer: Peer,
    calling_ae_title: str,
    pairs: Collection[Pair],
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
    handlers: Collection[tuple[Any, Callable[[Any], Any]]] = (),
    scp_of: Collection[str] = (),
) -> Iterator[Any]:
    """Open an association with one presentation context a pair; release it, or abort on errors.

    A peer that associates but accepts none of the pairs is no error; the caller finds that in
    :func:`accepted`.

    Parameters
    ----------
    peer : Peer
        Whom to ask.
    calling_ae_title : str
        Who we are.
    pairs : collection of (str, str)
        At most `MAX_CONTEXTS` pairs of abstract syntax and transfer syntax.
    timeout_s : float
        For each step: connection, TLS, association, each answer.
    tls : ssl.SSLContext, optional
        To connect with, of :func:`dicom_node.tls.client_context`.
    handlers : collection of (event, callable)
        What the association reports to.
    scp_of : collection of str
        Abstract syntaxes of which we are the SCP, though it is we who ask (PS3.7 D.3.3.4).

    Raises
    ------
    PeerError
        When the peer cannot be reached or does not associate.
    AssociationRejected
        When it rejects the association for good.
    """
    entity = application_entity(calling_ae_title, timeout_s, _MAXIMUM_PDU)
    try:
        assoc = entity.associate(
            peer.host,
            peer.port,
            contexts=[build_context(*pair) for pair in pairs],
            ae_title=peer.ae_title,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, partial(_limit_sending, timeout_s=timeout_s)),
                *handlers,
            ],
            tls_args=None if tls is None else (tls, None),
            ext_neg=[build_role(uid, scp_role=True) for uid in scp_of],
        )
    except OSError as error:  # the host name
        raise PeerError(why_unreachable(peer, tls, timeout_s), str(peer)) from error
    # The library aborts an association of which nothing was accepted.
    if assoc.is_rejected:
        raise _rejection(assoc, peer)
    if not assoc.is_established and not assoc.rejected_contexts:
        raise PeerError(why_unreachable(peer, tls, timeout_s), str(peer))
    try:
        yield assoc
    except BaseException:
        assoc.abort()
        raise
    if assoc.is_established:
        _release(assoc, timeout_s)


def accepted(assoc: Any) -> dict[str, set[str]]:
    """Return the transfer syntaxes that the peer accepted, by abstract syntax."""
    found: dict[str, set[str]] = {}
    for context in assoc.accepted_contexts:
        found.setdefault(str(context.abstract_syntax), set()).add(str(context.transfer_syntax[0]))
    return found


def _rejection(assoc: Any, peer: Peer) -> PeerError:
    """Say why a peer rejected, and what to look at."""
    answer = assoc.acceptor.primitive
    reason = getattr(answer, "reason_str", "") or "no reason given"
    if answer.result == _REJECTED_PERMANENT:
        words = f"{peer} rejected the association: {reason}; check both AE titles at the peer."
        return AssociationRejected(words, str(peer))
    return PeerError(f"{peer} rejected the association for now: {reason}.", str(peer))


def _release(assoc: Any, timeout_s: float) -> None:
    """Release, and abort where that does not end.

    The library waits for its own thread before it releases, and for ever when the peer releases, or
    reports an event, in that moment. When both have asked, it waits for an answer in vain.
    """
    assoc.acse_timeout = min(timeout_s, _RELEASE_S)
    releasing = threading.Thread(target=assoc.release, name="release", daemon=True)
    releasing.start()
    releasing.join(2 * _RELEASE_S)
    if releasing.is_alive():
        assoc._is_paused = True
        assoc.abort()


@contextmanager
def limited(assoc: Any, limit_s: float) -> Iterator[None]:
    """Hang up when the time is over; whoever sends or waits by this association is told at once.

    A peer that is slow enough, but never silent, would hold us for ever.
    """
    connection: socket.socket | None = assoc.dul.socket.socket
    if connection is None:
        yield
        return

    def hang_up() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _limit_sending(event: Any, timeout_s: float) -> None:
    """Limit each write too: a peer that stops reading would hold us for ever."""
    connection = event.assoc.dul.socket.socket
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
