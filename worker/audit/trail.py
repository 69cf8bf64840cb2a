"""The audit trail of one process: writes down what happened before it is shown.

The file names patients, by purpose; nothing of it goes into ordinary logs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from dicom_node.errors import PacsWorkerError
from worker.audit import syslog
from worker.audit.log_file import LogFile
from worker.audit.schema import Message, Participant, to_xml
from worker.audit.shipping import Shipping
from worker.clock import local_time
from worker.settings import Settings
from worker.settings_paths import whole


class NotRecorded(PacsWorkerError):
    """What happened could not be written down, so it must not happen."""


class Trail:
    """Where events are written down; safe to share between threads.

    Parameters
    ----------
    path : Path
        The audit file, one message a line.
    ae_title : str
        Ours, by which the installation is known.
    clock : callable
        Gives the time.
    shipping : Shipping or None
        Sends what is in the file to a receiver; started here.
    """

    def __init__(
        self,
        path: Path,
        ae_title: str,
        clock: Callable[[], datetime] = local_time,
        shipping: Shipping | None = None,
    ) -> None:
        self._file = LogFile(path)
        self._ae_title = ae_title
        self._clock = clock
        self._shipping = shipping
        if shipping is not None:
            shipping.start()

    @classmethod
    def of(cls, settings: Settings, *, sends: bool = False) -> Trail:
        """Make the trail that the settings ask for.

        Parameters
        ----------
        settings
            They say where it goes.
        sends
            Whether this process lasts, and so sends what is in the file to ``CXR_AUDIT_SYSLOG``.

        Raises
        ------
        ConfigurationError
            When a certificate cannot be used.
        """
        connect = connect_of(settings) if sends else None
        shipping = connect and Shipping(settings.audit_path, connect)
        return cls(settings.audit_path, settings.ae_title, shipping=shipping)

    def record(self, *messages: Message) -> None:
        """Write down what happened, all of it or nothing, and return when it is on the disk.

        Raises
        ------
        NotRecorded
            When it could not be written. The caller must then not show the study, nor do what it
            was about to do: what is not in the trail has not happened.
        """
        at = self._clock()
        try:
            self._file.append([self._line(each, at) for each in messages])
        except OSError as error:
            raise NotRecorded(
                f"the audit trail cannot be written: CXR_AUDIT_FILE is {self._file.path}, "
                f"{error.strerror}; without it nothing is shown or done"
            ) from error
        if self._shipping is not None:
            self._shipping.wake()

    def close(self) -> None:
        """Send what can be sent at once, and close the file."""
        if self._shipping is not None:
            self._shipping.stop()
        self._file.close()

    def _line(self, message: Message, at: datetime) -> bytes:
        """Give a message as it is written and sent; this process takes part in it."""
        host, pid = socket.gethostname(), os.getpid()
        process = Participant(
            str(pid), is_requestor=False, role=message.process_role, name=syslog.APP_NAME,
            alternative_id=f"AETITLES={self._ae_title}",
        )  # fmt: skip
        participants = (*message.participants, process)
        xml = to_xml(message, participants, f"{self._ae_title}@{host}", at)
        return syslog.enveloped(xml, message.outcome, host, pid, at)


def connect_of(settings: Settings) -> Callable[[], syslog.Connection] | None:
    """Make what opens a connection to the receiver; None when none is set.

    Raises
    ------
    ConfigurationError
        When a certificate cannot be used.
    """
    receiver = settings.audit_syslog
    if receiver is None:
        return None
    paths = (settings.audit_authority, settings.audit_certificate, settings.audit_key)
    authority, certificate, key = (path and whole(path) for path in paths)
    assert authority is not None  # the settings ask for it
    context = syslog.client_context(authority, certificate, key)
    return lambda: syslog.Connection(receiver, context)
