"""Modalities that send to the node's own store handler, over associations that may stay open."""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import replace
from io import BytesIO

from pydicom import dcmread

from dicom_node.reception import handle_store
from dicom_node.storage_scp import Outcome, Received
from tests import datasets
from tests.fakes import store_event
from tests.ward import Ward, chest
from worker import node


@functools.cache
def bytes_of(study: str, sop_instance_uid: str, version: int = 0) -> bytes:
    """Give an instance; each version has other bytes."""
    return datasets.part10(
        chest(study, SOPInstanceUID=sop_instance_uid, ImageComments=f"version {version}")
    )


class Senders:
    """Modalities, each with one association at a time, and what they were told of their instances.

    Attributes
    ----------
    acknowledged
        SHA-256 of what was answered with Success, by SOP Instance UID.
    """

    def __init__(self, ward: Ward) -> None:
        self.acknowledged: dict[str, str] = {}
        self._ward = ward
        self._record = node.recorder(ward.sessions, ward.settings.quiet_s, ward.bells)
        self._close = node.closer(ward.sessions, ward.bells)
        self._open: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def store(self, data: bytes, modality: str = "a") -> int:
        """Send an instance; give the status of the answer."""
        if modality not in self._open:
            self._open[modality] = f"{modality}-{next(self._numbers)}"
        meta = dcmread(BytesIO(data), stop_before_pixels=True).file_meta
        event = store_event(data, meta, self._open[modality])
        status = int(handle_store(event, self._ward.archive, self._recorded))
        if status == 0:
            uid = str(meta.MediaStorageSOPInstanceUID)
            self.acknowledged[uid] = hashlib.sha256(data).hexdigest()
        return status

    def close(self, modality: str = "a") -> None:
        """End an association, as the node does when the peer releases it."""
        if modality in self._open:
            self._close(self._open.pop(modality))

    def lose(self, modality: str = "a") -> None:
        """Forget an association that its node did not live to close."""
        self._open.pop(modality, None)

    def _recorded(self, received: Received) -> Outcome:
        return self._record(replace(received, received_at=self._ward.clock()))
