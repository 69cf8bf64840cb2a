"""Hangs up on who connects and does not ask: they would keep out those who do."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# How long a request may take to come, from its connection to the end of its body.
PATIENCE_S: Final = 15.0
# Of what is longer, so much must come in that time: instances that are stored take a while.
_PROGRESS: Final = 256 << 10


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which is closed when no request comes whole in time."""

    patience_s = PATIENCE_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: Any = None
        self._come = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._come += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.patience_s, self._look)

    def _look(self) -> None:
        """Hang up unless a request is being answered, or another one came since the last look."""
        request = self.cycle
        is_whole = request is not None and not request.more_body
        is_answered = request is not None and request.response_complete
        come, self._come = self._come, 0
        is_answering = is_whole and not is_answered
        if not is_answering and request is self._seen and come < _PROGRESS:
            self.transport.close()
            return
        self._seen = request
        self._wait()
