"""A PACS stand-in for the demo: it keeps what it is sent, and tells the kinds apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicom_node.peer import Peer

AE_TITLE = "DEMOPACS"


class PacsStandIn:
    """A Storage SCP for reports and their companions, kept as files.

    Attributes
    ----------
    arrived
        When the report of a study came, by Study Instance UID; of time.monotonic().
    reports, key_objects
        The files of a study, by Study Instance UID.
    captures
        The file of an image's picture, by the SOP Instance UID of the image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrived: dict[str, float] = {}
        self.reports: dict[str, list[Path]] = {}
        self.key_objects: dict[str, list[Path]] = {}
        self.captures: dict[str, Path] = {}
        self._complete: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def listening(self) -> Iterator[Peer]:
        """Listen on a free port of the loopback interface."""
        from pynetdicom import AE, evt

        from dicom_node.contexts import VERIFICATION
        from dicom_node.ours import OUR_SOP_CLASSES

        entity = AE(AE_TITLE)
        for uid in (VERIFICATION, *sorted(OUR_SOP_CLASSES)):
            entity.add_supported_context(uid)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_CONN_CLOSE, self._close)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        try:
            yield Peer(AE_TITLE, "127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

        ds = event.dataset
        path = self.folder / f"{ds.SOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        study = str(ds.StudyInstanceUID)
        with self._changed:
            if ds.SOPClassUID == SecondaryCaptureImageStorage:
                self.captures[str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID)] = path
            elif ds.SOPClassUID == KeyObjectSelectionDocumentStorage:
                self.key_objects.setdefault(study, []).append(path)
            else:
                self.reports.setdefault(study, []).append(path)
                self.arrived[study] = time.monotonic()
        return 0x0000

    def _close(self, _: Any) -> None:
        """Count what came as whole: the companions come with the report, in one association."""
        with self._changed:
            self._complete |= self.arrived.keys()
            self._changed.notify_all()

    def wait_for(self, uids: set[str], timeout_s: float) -> None:
        """Wait until the report of each study has come, and all with it, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: uids <= self._complete, timeout_s)
