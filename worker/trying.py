"""The candidate as it is loaded in this process; a model of its own beside the one that answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from worker.ledger.candidates import Artifact

_NONE: Any = None


class Trying:
    """Keeps the candidate loaded.

    Parameters
    ----------
    path
        Folder of versions; the candidate is one of them.
    load
        Loads what is in the folder of one.
    """

    def __init__(self, path: Path, load: Callable[[Path], Any]) -> None:
        self._path, self._load = path, load
        self._digest, self._classifier = "", _NONE

    def classifier(self, model: Artifact) -> Any:
        """Give a candidate, loaded anew if it is another one than at the last call.

        Raises
        ------
        ConfigurationError
            When it is damaged, is not here, or is not what it was when the trial began.
        """
        if self._digest != model.digest:
            self.forget()
            loaded = self._load(self._path / model.folder)
            if loaded.info.digest != model.digest:
                raise ConfigurationError(
                    "CXR_MODEL", f"{model.folder} is not what it was when its trial began; "
                    "`cxr-worker model shadow` begins another one",
                )  # fmt: skip
            self._digest, self._classifier = model.digest, loaded
        return self._classifier

    def forget(self) -> None:
        """Give its memory back."""
        self._digest, self._classifier = "", _NONE
