"""Modalities: they send until what they sent was stored, and remember what was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

from dicom_node.peer import Peer
from tests.chaos.images import digest_of
from tests.chaos.plan import Errand

# A file's data set goes byte for byte.
_config.STORE_SEND_CHUNKED_DATASET = True

TIMEOUT_S = 8
PAUSE_S = 0.7
SUCCESS = 0x0000


@dataclass(frozen=True)
class Acknowledged:
    """An instance that was answered with Success."""

    sop_instance_uid: str
    sha256: str
    modality: str
    at: float


class Ward:
    """All modalities of a run, each busy with its errands."""

    def __init__(self, files: dict[str, Path], node: Peer, clock: Callable[[], float]) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.sent = 0
        self.answers: dict[str, int] = {}
        self._files, self._node, self._clock = files, node, clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, errands: Sequence[Errand]) -> None:
        """Send each errand when its time comes, whatever became of the others."""
        for errand in errands:
            thread = threading.Thread(target=self._run, args=(errand,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def busy(self) -> int:
        """Tell how many errands are not done."""
        return sum(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self, errand: Errand) -> None:
        left = list(errand.sop_instance_uids)
        self._stopped.wait(max(0, errand.at - self._clock()))
        while left and not self._stopped.is_set():
            try:
                self._send(errand.modality, left)
            except Exception as error:
                self._count(f"{type(error).__name__}: {error}")
            self._stopped.wait(PAUSE_S if left else 0)

    def _send(self, modality: str, left: list[str]) -> None:
        """Send what is left in one association; take off what was stored."""
        entity = AE(modality)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
        entity.connection_timeout = TIMEOUT_S
        metas = [dcmread(self._files[uid], specific_tags=[]).file_meta for uid in left]
        pairs = {(m.MediaStorageSOPClassUID, m.TransferSyntaxUID) for m in metas}
        assoc = entity.associate(
            self._node.host, self._node.port, ae_title=self._node.ae_title,
            contexts=[build_context(*pair) for pair in sorted(pairs)],
        )  # fmt: skip
        if not assoc.is_established:
            self._count("no association")
            return
        try:
            for uid in list(left):
                if not assoc.is_established:
                    break
                if self._store(assoc, modality, uid):
                    left.remove(uid)
        finally:
            assoc.release() if assoc.is_established else assoc.abort()

    def _store(self, assoc: Any, modality: str, uid: str) -> bool:
        path = self._files[uid]
        with self._lock:
            self.sent += 1
        status = assoc.send_c_store(path).get("Status")
        self._count("no answer" if status is None else f"0x{status:04X}")
        if status != SUCCESS:
            return False
        with self._lock:
            self.acknowledged.append(Acknowledged(uid, digest_of(path), modality, self._clock()))
        return True

    def _count(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] = self.answers.get(answer, 0) + 1
