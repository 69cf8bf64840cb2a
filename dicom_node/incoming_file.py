"""An instance that comes as a Part 10 file, in pieces, and is stored as one by C-STORE is.

Its file meta information is what the command and the presentation context of a C-STORE request
say. It is written anew: the same instance is the same bytes in the archive, however it came.
"""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any, Final

from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.contexts import decodable_transfer_syntaxes
from dicom_node.file_start import file_start
from dicom_node.incoming import DataSet, StoreEvent, discard_draft
from dicom_node.status import Status
from dicom_node.store import Store

# PS3.10 7.1: preamble and prefix, and then (0002,0000) with the length of what follows.
_START: Final = 144
_PREFIX: Final = b"DICM\x02\x00\x00\x00UL\x04\x00"
_MOST_META: Final = 64 << 10
# What is deflated is read to its end before it is stored, as it may be a bomb: in memory. A
# radiograph of 4300 x 4300 samples, 35 MiB, is deflated to two thirds of that.
_MOST_DEFLATED: Final = 32 << 20
_DEFLATED: Final = str(DeflatedExplicitVRLittleEndian)


class NotTaken(Exception):
    """A file that is not stored.

    Parameters
    ----------
    status : int
        Failure Reason (0008,1197).
    sop_class_uid, sop_instance_uid : str
        Of the instance; "" when that is not known.
    """

    def __init__(self, status: int, sop_class_uid: str = "", sop_instance_uid: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.sop_class_uid, self.sop_instance_uid = sop_class_uid, sop_instance_uid


class IncomingFile:
    """Takes a file piece by piece; what is large goes to the archive's disk as it comes.

    Parameters
    ----------
    archive : Store
        Where it will be kept.
    assoc : object
        Stands for the association that it comes by, see `dicom_node.reception`.
    """

    def __init__(self, archive: Store, assoc: Any) -> None:
        self._archive, self._assoc = archive, assoc
        self._start = bytearray()
        self._request: Any = None
        self._syntax = ""
        self._error: NotTaken | None = None

    def write(self, data: bytes) -> None:
        """Take a piece; what is wrong is said by `event`."""
        if self._error is not None:
            return
        if self._request is not None:
            self._add(data)
            return
        self._start += data
        try:
            rest = self._begun()
        except NotTaken as error:
            self._error = error
        else:
            if rest:
                self._add(rest)

    def event(self) -> StoreEvent:
        """Give the whole as a C-STORE request.

        Raises
        ------
        NotTaken
            When it is no such file, or in a transfer syntax that is not stored here.
        """
        if self._error is not None:
            raise self._error
        if self._request is None:
            raise NotTaken(Status.CANNOT_UNDERSTAND)
        context = SimpleNamespace(transfer_syntax=self._syntax)
        return StoreEvent(
            SimpleNamespace(request=self._request, context=context, assoc=self._assoc)
        )

    def discard(self) -> None:
        """Remove what nobody stored."""
        if self._request is not None:
            discard_draft(self._request)

    def _add(self, data: bytes) -> None:
        data_set = self._request.DataSet
        if self._syntax == _DEFLATED and data_set.tell() + len(data) > _MOST_DEFLATED:
            self._refuse(Status.CANNOT_UNDERSTAND)
            self._request.DataSet = BytesIO()
            return
        data_set.write(data)

    def _begun(self) -> bytes:
        """Read the file meta information once it is whole, and give what is behind it.

        Raises
        ------
        NotTaken
            When it is none, or not enough.
        """
        start = self._start
        if start[128:_START][: len(_PREFIX)] != _PREFIX[: max(0, len(start) - 128)]:
            raise NotTaken(Status.CANNOT_UNDERSTAND)
        if len(start) < _START:
            return b""
        end = _START + int.from_bytes(start[140:_START], "little")
        if end > _MOST_META:
            raise NotTaken(Status.CANNOT_UNDERSTAND)
        if len(start) < end:
            return b""
        self._begin(bytes(start[:end]))
        rest = bytes(start[end:])
        self._start = bytearray()
        return rest

    def _begin(self, start: bytes) -> None:
        try:
            meta = read_partial(BytesIO(start), stop_when=lambda *_: True).file_meta
            uids = str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)
            self._syntax = syntax = str(meta.TransferSyntaxUID)
        except Exception as error:
            raise NotTaken(Status.CANNOT_UNDERSTAND) from error
        if syntax not in decodable_transfer_syntaxes():
            raise NotTaken(Status.TRANSFER_SYNTAX_NOT_SUPPORTED, *uids)
        data_set: BytesIO = BytesIO()
        if syntax != _DEFLATED:
            data_set = DataSet(lambda: self._archive.draft(file_start(*uids, syntax)))
        self._request = SimpleNamespace(
            AffectedSOPClassUID=uids[0], AffectedSOPInstanceUID=uids[1], DataSet=data_set
        )

    def _refuse(self, status: int) -> None:
        uids = self._request.AffectedSOPClassUID, self._request.AffectedSOPInstanceUID
        self._error = NotTaken(status, *uids)
