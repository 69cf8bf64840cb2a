"""One association's requests: each served whole, and the association ended between two of them."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.incoming import discard_draft
from dicom_node.prompt import Prompt
from dicom_node.status import Status

log = logging.getLogger(__name__)

# Where an association keeps it: an attribute of the object that stands for it.
_SERVING = "cxr_serving"


class Serving:
    """Serves the requests of an association, until it is told to end.

    The library ends an association at once, whatever is under way: an instance would be committed
    and its sender never told.

    Parameters
    ----------
    assoc : pynetdicom.association.Association
        An acceptor whose threads have not started yet.
    prompt : Prompt
        What tells it of the next request.
    """

    def __init__(self, assoc: Any, prompt: Prompt) -> None:
        self._assoc, self._prompt = assoc, prompt
        self._serve = assoc._serve_request
        self._lock = threading.Lock()
        self._under_way = 0
        self._is_ending = False
        assoc._serve_request = self._serve_in_a_row
        vars(assoc)[_SERVING] = self

    def end(self) -> None:
        """Abort the association, after the answer to the request that is being served."""
        with self._lock:
            self._is_ending = True
            is_idle = not self._under_way
        if is_idle:
            self._assoc.abort(block=False)

    def _serve_in_a_row(self, message: Any, context_id: int) -> None:
        """Serve a request, and those that follow it at once."""
        self._serve_whole(message, context_id)
        if threading.current_thread() is not self._assoc:  # as an event that a peer reports is
            return
        while (following := self._prompt.next_message()) is not None:
            self._serve_whole(*following)

    def _serve_whole(self, message: Any, context_id: int) -> None:
        with self._lock:
            if self._is_ending:  # and is being aborted: this request was not begun
                discard_draft(message)
                return
            self._under_way += 1
        try:
            self._serve_or_abort(message, context_id)
        finally:
            discard_draft(message)
            self._finish()

    def _serve_or_abort(self, message: Any, context_id: int) -> None:
        """Abort on a request that lacks what it must have; the library would not answer it."""
        if message.MessageIDBeingRespondedTo is None and not message.is_valid_request:
            log.warning("a %s lacks what it must have: %s", message.msg_type, who(self._assoc))
            self._assoc.abort(block=False)
        elif isinstance(message, C_STORE) and not _is_storage(message.AffectedSOPClassUID):
            log.warning("a C-STORE of what is not stored: %s", who(self._assoc))
            self._assoc.dimse.send_msg(_refusal(message), context_id)
        else:
            self._serve(message, context_id)

    def _finish(self) -> None:
        # The peer was silent because it waited for us.
        self._assoc.dul._idle_timer.restart()
        with self._lock:
            self._under_way -= 1
            is_over = self._is_ending and not self._under_way
        if is_over:
            self._assoc.abort(block=False)


def _is_storage(sop_class_uid: str) -> bool:
    """Tell whether the library takes a C-STORE of a SOP class for one.

    It asks the class, not the request, what service it is: a C-STORE of Verification it would
    answer as a C-ECHO, with Success.
    """
    return uid_to_service_class(sop_class_uid) is StorageServiceClass


def _refusal(request: C_STORE) -> C_STORE:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = request.MessageID
    answer.AffectedSOPClassUID = request.AffectedSOPClassUID
    answer.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
    answer.Status = int(Status.SOP_CLASS_NOT_SUPPORTED)
    return answer


def end(assoc: Any) -> None:
    """Abort an association between two requests."""
    serving: Serving = vars(assoc)[_SERVING]
    serving.end()


def who(assoc: Any) -> str:
    """Say who asked for an association, and for whom."""
    asked = assoc.requestor.primitive
    return (
        f"calling {asked.calling_ae_title!r}, called {asked.called_ae_title!r}, "
        f"from {assoc.requestor.address}"
    )
