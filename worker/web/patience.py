"""Hangs up on who connects and does not ask, or asks and does not read: they keep out others."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# How long a request may take to come, from its connection to the end of its body.
PATIENCE_S: Final = 15.0
# Of what is longer, so much must come in that time: instances that are stored take a while.
_PROGRESS: Final = 256 << 10
# Looks at which no more of an answer had gone out than at the one before, until who asked is taken
# not to read it. It is several: the system tells of room for more once a third of its own buffer
# is read, and whoever is slow takes a while for that.
_STUCK_LOOKS: Final = 4


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which ends when a request does not come or an answer not go."""

    patience_s = PATIENCE_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: Any = None
        self._come = 0
        self._left = self._stuck = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._come += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """Note that what waited has gone out."""
        self._left = 0
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.patience_s, self._look)

    def _look(self) -> None:
        """Hang up unless a request is being answered, or another one came since the last look."""
        if self._is_not_read():
            self.transport.abort()  # what is closed waits until all of it is read
            return
        request = self.cycle
        is_whole = request is not None and not request.more_body
        is_answered = request is not None and request.response_complete
        come, self._come = self._come, 0
        is_answering = is_whole and not is_answered
        is_idle = not is_answering and request is self._seen and come < _PROGRESS
        # Over TLS, what is closed twice cannot be aborted, nor say what waits.
        if is_idle and not self.transport.is_closing():
            self.transport.close()
        self._seen = request
        self._wait()

    def _is_not_read(self) -> bool:
        """Tell whether the answers wait, and no more of them went out for several looks."""
        left, before = self.transport.get_write_buffer_size(), self._left
        self._left = left
        # Nothing is added to what waits: what is less has gone out.
        waits = left > 0 and (self.flow.write_paused or self.transport.is_closing())
        self._stuck = self._stuck + 1 if waits and 0 < before <= left else 0
        return self._stuck >= _STUCK_LOOKS
