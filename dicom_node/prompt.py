"""Lets the two threads of an association wait for what they have to do.

The library has them look for it every millisecond. A message passes four such looks, each of which
is late, and hundreds of idle threads that look leave no time for the one that works.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

# How often timers are looked at while nothing happens.
_LOOK_S: Final = 0.1
# As often as the library looks, where there is no connection to wait for.
_POLL_S: Final = 0.001
# How long a sender takes at most that sends the next instance when the last one is answered.
_SOON_S: Final = 0.002
# PS3.8 9.2.1: waiting for the peer to close what is over.
_OVER: Final = "Sta13"


class Prompt:
    """Wakes the threads of an association when there is something to do, and only then.

    Parameters
    ----------
    assoc : pynetdicom.association.Association
        Which is not established yet.
    """

    def __init__(self, assoc: Any) -> None:
        self._assoc, self._dul = assoc, assoc.dul
        self._wake = _Wake()
        self._checkpoint = _Checkpoint(self._is_idle)
        assoc._reactor_checkpoint = self._checkpoint
        self._dul._is_transport_event = self._read_or_wait
        self._dul._run_loop_delay = 0
        _after(self._dul.to_provider_queue, "put", self._wake.ring)
        _after(self._dul, "kill_dul", self._wake.ring)
        _after(self._dul, "run", self._checkpoint.ring)
        _after(self._dul.to_user_queue, "put", self._checkpoint.ring)
        _after(assoc.dimse.msg_queue, "put", self._checkpoint.ring)

    def close(self) -> None:
        """Give back what was waited with, after the association's end."""
        self._wake.close()

    def next_message(self) -> tuple[Any, int] | None:
        """Give the message that follows another at once, with its context id; None if none does.

        The library would sleep before it looks for it.
        """
        if not self._checkpoint.is_rung_within(_SOON_S) or self._assoc._kill:
            return None
        context_id, message = self._assoc.dimse.get_msg(block=False)
        return None if message is None else (message, context_id)

    def _is_idle(self) -> bool:
        """Tell whether the association's own thread has nothing to do."""
        nothing_came = self._assoc.dimse.msg_queue.empty() and self._dul.to_user_queue.empty()
        return bool(nothing_came and self._dul.is_alive() and not self._assoc._kill)

    def _read_or_wait(self) -> bool:
        """Read a PDU that is there; else wait for one, or for something to send.

        Returns
        -------
        bool
            Whether there is something for the state machine.
        """
        if self._has_data():
            self._dul._read_pdu_data()
            return True
        if self._dul.state_machine.current_state == _OVER:
            self._dul.socket.close()
            return True
        return False

    def _has_data(self) -> bool:
        connection = self._dul.socket.socket
        if connection is None:
            time.sleep(_POLL_S)
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        try:
            return self._wake.or_readable(connection.fileno(), self._patience_s())
        except (OSError, ValueError):  # it was closed
            self._dul.event_queue.put("Evt17")
            return False

    def _patience_s(self) -> float:
        """Say how long the network may be waited for."""
        dul = self._dul
        at_once = dul._kill_thread or dul.to_provider_queue.queue or not dul.event_queue.empty()
        is_over = dul.state_machine.current_state == _OVER
        return 0 if at_once or is_over else _LOOK_S


def is_readable(connection: socket.socket | None) -> bool:
    """Tell whether a connection has something to read, without waiting for it."""
    if connection is None or connection.fileno() < 0:
        return False
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    # select(2), which the library uses, knows no descriptor above 1023.
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return bool(poller.poll(0))


class _Wake:
    """Ends a thread's wait for the network from another thread."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._is_closed = False

    def ring(self) -> None:
        """End the wait of now, or the next one."""
        with self._lock:  # a number that is closed may be another file's by now
            if not self._is_closed:
                os.eventfd_write(self._descriptor, 1)

    def or_readable(self, connection: int, timeout_s: float) -> bool:
        """Wait until rung or until a connection has something to read; tell whether it has.

        Raises
        ------
        ValueError
            When the connection is closed.
        """
        poller = select.poll()  # as in `is_readable`
        poller.register(connection, select.POLLIN)
        with self._lock:
            if self._is_closed:
                timeout_s = min(timeout_s, _POLL_S)
            else:
                poller.register(self._descriptor, select.POLLIN)
        found = dict(poller.poll(timeout_s * 1000))
        happened = found.pop(connection, 0)
        if found:
            self._clear()
        if happened & select.POLLNVAL:
            raise ValueError("the connection is closed")
        return bool(happened)

    def _clear(self) -> None:
        with self._lock:
            if not self._is_closed:
                os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._descriptor)


class _Checkpoint:
    """Where the association's thread passes before each look; here it also waits for a reason to.

    It stands in for the `threading.Event` by which the library holds the thread up.
    """

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._rung = threading.Event()

    def set(self) -> None:
        """Let the thread go on."""
        self._may_pass.set()
        self._rung.set()

    def clear(self) -> None:
        """Hold the thread up."""
        self._may_pass.clear()

    def is_set(self) -> bool:
        """Tell whether the thread may go on."""
        return self._may_pass.is_set()

    def ring(self) -> None:
        """Say that there is something to do."""
        self._rung.set()

    def is_rung_within(self, timeout_s: float) -> bool:
        """Wait until there is something to do, for a moment; tell whether the thread may do it."""
        self._rung.clear()
        return (not self._is_idle() or self._rung.wait(timeout_s)) and self._may_pass.is_set()

    def wait(self) -> None:
        """Wait until the thread may go on, and has a reason to."""
        while True:
            self._may_pass.wait()
            self._rung.clear()
            if self._is_idle():
                self._rung.wait(_LOOK_S)
            if self._may_pass.is_set():  # else somebody talks to the peer in its place
                return


def _after(owner: Any, name: str, then: Callable[[], None]) -> None:
    """Call something after each call of a method of one object."""
    method = getattr(owner, name)

    def do(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        finally:
            then()

    setattr(owner, name, do)
