"""Large instances go to the archive's disk while they come.

So they are hashed and written by the time their last byte is here, and a node that takes many at
once does not hold all of them in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any, Final

from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ

from dicom_node.draft import Draft
from dicom_node.file_start import file_start
from dicom_node.store import Store

# Up to this size a data set waits in memory: a file that is written at once costs less.
IN_MEMORY: Final = 1 << 20
_DEFLATED: Final = DeflatedExplicitVRLittleEndian


class DataSet(BytesIO):
    """The data set of a C-STORE request; beyond `IN_MEMORY` it is a draft in the archive.

    Parameters
    ----------
    begin : callable
        Gives the draft, with all that stands before the data set.

    Attributes
    ----------
    draft : Draft or None
        The instance, where it is large.
    error : OSError or None
        Why there is no draft, though it is large.
    """

    def __init__(self, begin: Callable[[], Draft]) -> None:
        super().__init__()
        self._begin = begin
        self.draft: Draft | None = None
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Add a part."""
        if self.error is not None:
            return len(data)  # told when it is complete
        if self.draft is None and self.tell() + len(data) > IN_MEMORY:
            self._move()
        if self.draft is None:
            return 0 if self.error is not None else super().write(data)
        self.draft.write(data)
        return len(data)

    def _move(self) -> None:
        try:
            self.draft = self._begin()
        except OSError as error:
            self.error = error
        else:
            self.draft.write(self.getbuffer())
        self.truncate(0)


class StoreEvent:
    """A C-STORE request as the library tells of it, whose file is put together here.

    Parameters
    ----------
    event : pynetdicom.events.Event
        ``EVT_C_STORE``.
    """

    def __init__(self, event: Any) -> None:
        self.request, self.context, self.assoc = event.request, event.context, event.assoc

    def encoded_dataset(self) -> bytes:
        """Return the instance as a Part 10 file."""
        uids = self.request.AffectedSOPClassUID, self.request.AffectedSOPInstanceUID
        start = file_start(*uids, self.context.transfer_syntax)
        return b"".join((start, self.request.DataSet.getvalue()))


def discard_draft(request: Any) -> None:
    """Remove the draft of a request that nobody stored; there may be none."""
    data_set = getattr(request, "DataSet", None)
    if isinstance(data_set, DataSet) and data_set.draft is not None:
        data_set.draft.discard()


def draft_of(request: Any) -> Draft | None:
    """Return the draft of a C-STORE request; None when it is in memory.

    Raises
    ------
    OSError
        When there should be one, but the archive did not take it.
    """
    data_set = getattr(request, "DataSet", None)
    if not isinstance(data_set, DataSet):
        return None
    if data_set.error is not None:
        raise data_set.error
    return data_set.draft


class Incoming:
    """Lets the large instances of one association go to the disk as they come.

    Parameters
    ----------
    assoc : pynetdicom.association.Association
        An acceptor whose threads have not started yet.
    archive : Store
        Where they are kept.
    """

    def __init__(self, assoc: Any, archive: Store) -> None:
        self._assoc, self._archive = assoc, archive
        self._receive = assoc.dimse.receive_primitive
        assoc.dimse.receive_primitive = self._receive_and_look

    def close(self) -> None:
        """Remove what was not received to its end, or not asked for any more."""
        queue = self._assoc.dimse.msg_queue
        left = [message for _, message in list(queue.queue)]
        unfinished = getattr(self._assoc.dimse.message, "data_set", None)
        for request in [SimpleNamespace(DataSet=unfinished), *left]:
            discard_draft(request)

    def _receive_and_look(self, primitive: Any) -> None:
        self._receive(primitive)
        message = self._assoc.dimse.message
        # Its command is complete, and more of its data set is to come.
        if isinstance(message, C_STORE_RQ) and type(message.data_set) is BytesIO:
            self._replace(message)

    def _replace(self, message: Any) -> None:
        command, context = message.command_set, self._assoc._accepted_cx.get(message.context_id)
        named = command.get("AffectedSOPClassUID") and command.get("AffectedSOPInstanceUID")
        # One that is deflated is read to its end before it is stored, as it may be a bomb.
        if not named or context is None or context.transfer_syntax[0] == _DEFLATED:
            return
        syntax = context.transfer_syntax[0]

        def begin() -> Draft:
            uids = command.AffectedSOPClassUID, command.AffectedSOPInstanceUID
            return self._archive.draft(file_start(*uids, syntax))

        data_set = DataSet(begin)
        data_set.write(message.data_set.getvalue())
        message.data_set = data_set
