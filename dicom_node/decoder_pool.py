"""Several decoders, so that several instances are decoded at once."""

from __future__ import annotations

from queue import LifoQueue
from typing import TYPE_CHECKING

from dicom_node.decoder_child import MEMORY_BYTES, Decoder

if TYPE_CHECKING:
    from dicom_node.decoder_child import Floats


class DecoderPool(Decoder):
    """Decodes up to `count` instances at once, each in a child of its own.

    A child is started when all others are at work: who decodes one after the other has one.

    Parameters
    ----------
    count : int
        How many children there are at most.
    limit_s, memory_bytes
        Of each, as `Decoder` has them.
    """

    def __init__(self, count: int, limit_s: float = 20.0, memory_bytes: int = MEMORY_BYTES) -> None:
        self._all = [Decoder(limit_s, memory_bytes) for _ in range(count)]
        # The last one that was put back is the first one to be taken.
        self._idle: LifoQueue[Decoder] = LifoQueue()
        for decoder in reversed(self._all):
            self._idle.put(decoder)

    def to_pixels(
        self, data: bytes, sop_instance_uid: str | None = None, side: int | None = None
    ) -> Floats:
        """Decode as `Decoder.to_pixels` does, when one of the children is free."""
        decoder = self._idle.get()
        try:
            return decoder.to_pixels(data, sop_instance_uid, side)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End the children; others are started when they are needed."""
        for decoder in self._all:
            decoder.close()
