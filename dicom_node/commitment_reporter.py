"""Reports results of Storage Commitment on associations of our own, a few times if need be.

References
----------
DICOM PS3.4 J.3.3
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.association import associated
from dicom_node.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, result_dataset
from dicom_node.errors import PeerError
from dicom_node.peer import Peer
from dicom_node.records import Commitment, Reference
from dicom_node.status import Status

log = logging.getLogger(__name__)

# Before each try to report on an association of our own.
WAITS_S: Final = (0.0, 5.0, 30.0, 120.0)
_MAX_WAITING = 64
_TIMEOUT_S = 30.0
_SYNTAXES: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True, slots=True)
class Request:
    """A request for commitment that was accepted, and who asked.

    Attributes
    ----------
    context_id, syntax : int, UID
        Of the presentation context that it came by.
    is_duplicate : bool
        Whether its Transaction UID stands for other instances already.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    ae_title: str
    context_id: int
    syntax: UID
    is_duplicate: bool


class Reporter:
    """Reports to those whose association has ended.

    Parameters
    ----------
    ae_title : str
        Ours.
    peers : mapping of str to Peer
        Where an AE title is found.
    peer_tls : mapping of str to ssl.SSLContext
        What to connect with to those of them that take TLS.
    result_of : callable
        Looks what became of a request.
    """

    def __init__(
        self,
        ae_title: str,
        peers: Mapping[str, Peer],
        peer_tls: Mapping[str, ssl.SSLContext],
        result_of: Callable[[Request], Commitment],
    ) -> None:
        self._ae_title = ae_title
        self._peers = peers
        self._peer_tls = peer_tls
        self._result_of = result_of
        self._waiting = threading.BoundedSemaphore(_MAX_WAITING)
        self._stopped = threading.Event()

    def report_later(self, request: Request) -> None:
        """Report soon, in a thread of its own."""
        if request.ae_title not in self._peers:
            log.warning(
                "storage commitment result %s cannot be told: CXR_PEERS has no address of %s",
                request.transaction_uid, request.ae_title,
            )  # fmt: skip
        elif not self._waiting.acquire(blocking=False):
            log.error("storage commitment result %s is dropped: too many wait",
                      request.transaction_uid)  # fmt: skip
        else:
            threading.Thread(target=self._report, args=[request], daemon=True).start()

    def stop(self) -> None:
        """Give up what is not reported yet."""
        self._stopped.set()

    def _report(self, request: Request) -> None:
        try:
            for wait_s in WAITS_S:
                if self._stopped.wait(wait_s):
                    return
                if self._report_once(request, self._peers[request.ae_title]):
                    return
            log.error(
                "storage commitment result %s did not reach %s",
                request.transaction_uid, self._peers[request.ae_title],
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the thread ends here
            log.error("a storage commitment result failed: %s", type(error).__name__)  # noqa: TRY400
        finally:
            self._waiting.release()

    def _report_once(self, request: Request, peer: Peer) -> bool:
        """Report on an association of our own, where we are the SCP (PS3.7 D.3.3.4)."""
        pairs = [(PUSH_MODEL, syntax) for syntax in _SYNTAXES]
        tls = self._peer_tls.get(request.ae_title)
        try:
            with associated(
                peer, self._ae_title, pairs, _TIMEOUT_S, tls, scp_of=[PUSH_MODEL]
            ) as assoc:
                commitment = self._result_of(request)
                answer, _ = assoc.send_n_event_report(
                    result_dataset(commitment, request.references), commitment.event_type,
                    PUSH_MODEL, PUSH_MODEL_INSTANCE,
                )  # fmt: skip
        except PeerError as error:
            log.warning("storage commitment result %s waits: %s", request.transaction_uid, error)
            return False
        except (RuntimeError, ValueError):  # not accepted there, or ended meanwhile
            return False
        log_result(commitment, request)
        return bool(answer.get("Status") == Status.SUCCESS)


def log_result(commitment: Commitment, request: Request) -> None:
    """Tell the log how many were committed."""
    log.info(
        "storage commitment %s for %s: %d committed, %d failed",
        commitment.transaction_uid, request.ae_title,
        len(commitment.committed), len(commitment.failed),
    )  # fmt: skip
