"""What the node and the application tell each other, as plain data that needs no DICOM library."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

ALL_COMMITTED = 1  # PS3.4 Table J.3-2, Storage Commitment Request Successful
FAILURES_EXIST = 2  # PS3.4 Table J.3-2, Storage Commitment Request Complete - Failures Exist


@dataclass(frozen=True, slots=True)
class Received:
    """An instance that is durably on disk and waits to be recorded.

    Every attribute of the data set is a str, "" when it is absent or empty. `association_id` is
    unique to the association that it came by; `path`, `size` and `sha256` are the archive's;
    `received_at` is in UTC, and `storing_s` seconds after the last byte of the request.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_id: str
    accession_number: str
    study_date: str
    modality: str
    calling_ae_title: str
    association_id: str
    path: str
    size: int
    sha256: str
    received_at: datetime
    storing_s: float = 0.0


class Outcome(enum.Enum):
    """What recording an instance found."""

    STORED = "STORED"
    DUPLICATE = "DUPLICATE"  # the same UID with the same bytes: nothing to do
    CONFLICT = "CONFLICT"  # the same UID with other bytes: the first is kept
    VANISHED = "VANISHED"  # its file was removed just now: to be stored once more


class Reference(NamedTuple):
    """An instance that is to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """What a peer says to a request for commitment.

    Attributes
    ----------
    transaction_uid : str
        Of the request that it answers.
    committed : tuple of str
        SOP Instance UIDs that the peer takes responsibility for.
    failed : tuple of (str, int)
        SOP Instance UIDs that it does not, each with its Failure Reason (0008,1197). An instance
        that is in neither was not answered for.
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failed: tuple[tuple[str, int], ...] = ()

    @property
    def event_type(self) -> int:
        """The Event Type ID that it is reported with (PS3.4 Table J.3-2)."""
        return FAILURES_EXIST if self.failed else ALL_COMMITTED
