"""What a node tells of itself to whoever counts: plain events, with names of a closed list."""

from __future__ import annotations

from enum import StrEnum


class Rejection(StrEnum):
    """Why an association or its connection was not taken."""

    CALLING_AE_TITLE = "calling_ae_title"
    CALLED_AE_TITLE = "called_ae_title"
    TOO_MANY = "too_many"
    STOPPING = "stopping"
    HOST = "host"
    OTHER = "other"


class Watch:
    """Hears what a node does; this one does nothing about it.

    Each is called in the thread of an association or a listener, many at once. It takes
    microseconds and never fails, as a peer waits meanwhile.
    """

    def accepted(self) -> None:
        """Hear of an association that was accepted."""

    def rejected(self, why: Rejection) -> None:
        """Hear of an association that was rejected, or of a connection closed before that."""

    def stored(self, sop_class_uid: str, status: int, seconds: float) -> None:
        """Hear of a C-STORE request, once its answer is known.

        Parameters
        ----------
        sop_class_uid : str
            As the peer said it.
        status : int
            The DIMSE status of the answer.
        seconds : float
            From the last byte of the request to its answer.
        """
