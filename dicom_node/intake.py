"""Reads a connection in large pieces, into memory that is used again.

A PDU is a header and a body of often a few kilobytes. To ask the system for each of them, and for
the time that is left, costs more than their bytes do, and has threads wait for each other.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

# How much is read at once: little from who sends little.
_FIRST: Final = 16 << 10
_MOST: Final = 512 << 10


class Intake:
    """What a connection has brought, in order.

    Parameters
    ----------
    transport : pynetdicom.transport.AssociationSocket
        Whose `socket` has a timeout.
    write_s : float
        The timeout of whoever writes to it, which gets half of it at least.
    """

    def __init__(self, transport: Any, write_s: float) -> None:
        self._transport, self._write_s = transport, write_s
        self._memory = memoryview(bytearray(_FIRST))
        self._begin = self._end = 0

    @property
    def pending(self) -> int:
        """How many bytes were read and not taken."""
        return self._end - self._begin

    @property
    def memory(self) -> int:
        """How many bytes it could hold now."""
        return len(self._memory)

    def look(self, size: int, deadline: float) -> memoryview:
        """Give the next bytes, which stay; they are valid until the next call.

        Parameters
        ----------
        size : int
            How many, at least one and at most 16 KiB.
        deadline : float
            Until when to wait for them, by ``time.monotonic``.

        Raises
        ------
        TimeoutError
            When they did not come in time.
        OSError
            When the connection ended.
        """
        while self.pending < size:
            self._make_room(size)
            self._end += self._read(self._memory[self._end :], deadline)
            if self._end == len(self._memory) < _MOST:
                self._grow()
        return self._memory[self._begin : self._begin + size]

    def take(self, size: int, deadline: float) -> memoryview:
        """Give the next bytes and go on after them; as `look`, but of any size."""
        if size <= _MOST:
            while size > len(self._memory):
                self._grow()
            taken = self.look(size, deadline)
            self._begin += size
            return taken
        whole = memoryview(bytearray(size))
        filled = self.pending
        whole[:filled] = self._memory[self._begin : self._end]
        self._begin = self._end = 0
        while filled < size:
            filled += self._read(whole[filled:], deadline)
        return whole

    def _make_room(self, size: int) -> None:
        if self._begin == self._end or len(self._memory) - self._begin < size:
            self._move(self._memory)

    def _move(self, memory: memoryview) -> None:
        """Let what is pending begin some memory."""
        memory[: self.pending] = self._memory[self._begin : self._end]
        self._memory, self._begin, self._end = memory, 0, self.pending

    def _grow(self) -> None:
        self._move(memoryview(bytearray(2 * len(self._memory))))

    def _read(self, memory: memoryview, deadline: float) -> int:
        connection: socket.socket = self._transport.socket
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        try:
            count = connection.recv_into(memory)
        finally:
            # Half a PDU, and then silence, must not cut off whoever writes.
            if left_s < self._write_s / 2:
                connection.settimeout(self._write_s)
        if not count:
            raise ConnectionError
        return count
