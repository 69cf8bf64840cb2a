"""The error tree: its branches follow what the caller does about them.

Errors carry UIDs, reason codes and DIMSE statuses as fields; their text never holds a patient's
name or id, so that any of them may be logged, stored and shown.
"""

from __future__ import annotations

from typing import Any


class PacsWorkerError(Exception):
    """Root of every error this project raises on purpose.

    Parameters
    ----------
    message : str
        One sentence for a person, without patient data.
    **fields
        Facts for a program (UIDs, statuses), kept as attributes.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        """Return the sentence."""
        return self.message


class InstanceError(PacsWorkerError):
    """An instance that cannot be assessed; never retried.

    Parameters
    ----------
    reason : str
        A key of :data:`dicom_node.codes.NOT_ASSESSED_REASONS`.
    message : str
        One sentence for a person, without patient data.
    sop_instance_uid : str, optional
        The instance, when it is known.
    """

    def __init__(self, reason: str, message: str, sop_instance_uid: str | None = None) -> None:
        super().__init__(message, reason=reason, sop_instance_uid=sop_instance_uid)
        self.reason = reason
        self.sop_instance_uid = sop_instance_uid
        # What the class is called with again when an error travels between processes.
        self.args = (reason, message, sop_instance_uid)


class UnsupportedInstance(InstanceError):
    """A valid instance of a kind that is not handled: SOP class, photometric, size."""


class InvalidInstance(InstanceError):
    """A broken instance: a Type 1 attribute is missing, or it does not decode."""


class PeerError(PacsWorkerError):
    """No association, a lost one, or a peer out of resources (0xA7xx); retried with back-off.

    Parameters
    ----------
    message : str
        One sentence that says what to look at.
    peer : str
        The peer as ``AET@host:port``.
    status : int, optional
        The DIMSE status, when the peer answered at all.
    """

    def __init__(self, message: str, peer: str = "", status: int | None = None) -> None:
        super().__init__(message, peer=peer, status=status)
        self.peer = peer
        self.status = status
        self.args = (message, peer, status)


class AssociationRejected(PeerError):
    """The peer rejects our associations, and will until a person changes something there.

    References
    ----------
    DICOM PS3.8 9.3.4, result 1 (rejected-permanent)
    """


class ReportRefused(PacsWorkerError):
    """The peer will not take this report, now or later; for a person.

    It answered 0xA9xx or 0xCxxx, or rejected the association for good (PS3.8 9.3.4).

    Parameters
    ----------
    message : str
        One sentence that says what was refused and why.
    peer : str
        The peer as ``AET@host:port``.
    status : int, optional
        The DIMSE status; None when it was refused in the negotiation.
    """

    def __init__(self, message: str, peer: str = "", status: int | None = None) -> None:
        super().__init__(message, peer=peer, status=status)
        self.peer = peer
        self.status = status
        self.args = (message, peer, status)


class ConfigurationError(PacsWorkerError):
    """A setting that stops the start; its text is one line that names the setting.

    Parameters
    ----------
    setting : str
        The key, such as ``CXR_PORT``.
    message : str
        What it must be.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {' '.join(message.split())}", setting=setting)
        self.setting = setting
        self.args = (setting, message)
