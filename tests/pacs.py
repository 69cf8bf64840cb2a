"""Peers on the loopback interface: a PACS that answers as told, and things that are none."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt

from dicom_node.errors import ReportRefused
from dicom_node.peer import Peer
from dicom_node.storage_scu import Delivered, delivering

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"


class Pacs:
    """A Storage SCP that keeps what it gets.

    Parameters
    ----------
    accepts
        Pairs of SOP class and transfer syntax.
    answer
        The status of each C-STORE, or a function of its event; and of a C-ECHO.
    tls
        To listen with.
    handlers
        Further (event, callable).
    scu_of
        Pairs of which it is the SCU though others ask (PS3.7 D.3.3.4).
    """

    def __init__(
        self,
        *,
        accepts: Sequence[tuple[str, str]] = ((VERIFICATION, IMPLICIT),),
        answer: int | Callable[[Any], int] = 0x0000,
        tls: ssl.SSLContext | None = None,
        handlers: Sequence[tuple[Any, Callable[[Any], Any]]] = (),
        scu_of: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.answer, self.files, self.classes = answer, [], []
        self.associations, self.released = 0, threading.Event()
        self.entity = AE("PACS")
        for sop_class, syntax in accepts:
            self.entity.add_supported_context(sop_class, syntax)
        for sop_class, syntax in scu_of:
            self.entity.add_supported_context(sop_class, syntax, scu_role=False, scp_role=True)
        self.server = self.entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            ssl_context=tls,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_ECHO, lambda _: self.answer),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_RELEASED, lambda _: self.released.set()),
                *handlers,
            ],
        )
        self.peer = Peer("PACS", "127.0.0.1", self.server.server_address[1])

    def _accepted(self, _: Any) -> None:
        self.associations += 1

    def _store(self, event: Any) -> int:
        self.files.append(event.encoded_dataset())
        self.classes.append(str(event.request.AffectedSOPClassUID))
        return self.answer(event) if callable(self.answer) else self.answer

    def stop(self) -> None:
        """Stop to listen, without waiting for it."""
        threading.Thread(target=self.server.shutdown, daemon=True).start()


def deliver(
    report: bytes,
    peer: Peer,
    calling_ae_title: str,
    timeout_s: float = 30,
    companions: Sequence[bytes] = (),
    tls: ssl.SSLContext | None = None,
) -> Delivered:
    """Deliver one report, by an association of its own."""
    classes = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.59") if companions else ()
    with delivering(peer, calling_ae_title, timeout_s, companions=classes, tls=tls) as send:
        try:
            return send(report, companions)
        except ReportRefused as error:  # an answer, as any other: the association is released
            refused = error
    raise refused


@contextmanager
def listening(behave: Callable[[socket.socket], object], times: int = 1) -> Iterator[Peer]:
    """A TCP server that is no DICOM application: `behave` gets its connections, one by one."""

    def serve() -> None:
        for _ in range(times):
            with server.accept()[0] as connection:
                behave(connection)

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=serve, daemon=True).start()
        yield Peer("PACS", "127.0.0.1", server.getsockname()[1])
