"""The model that answers in this process, exchanged for another one when that is chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from model.predict import Classifier

log = logging.getLogger(__name__)


class Answering:
    """Keeps the chosen model loaded.

    Parameters
    ----------
    path
        Folder of a model, or of versions of which one is current.
    load
        Loads what is in such a folder.
    """

    def __init__(self, path: Path, load: Callable[[Path], Classifier]) -> None:
        self._path = path
        self._load = load
        self._seen: object = None
        self._classifier: Classifier | None = None

    def classifier(self) -> Classifier:
        """Give the chosen model, loaded anew if the choice changed since the last call.

        A new one that is damaged is told once, and the old one goes on answering.

        Raises
        ------
        ConfigurationError
            When the first model cannot be loaded.
        """
        seen = self._look()
        if self._classifier is None:
            self._classifier = self._load(self._path)
        elif seen != self._seen:
            self._exchange(self._classifier)
        self._seen = seen
        return self._classifier

    def _look(self) -> object:
        from model.registry import fingerprint

        try:
            return fingerprint(self._path)
        except ConfigurationError as error:
            return str(error)

    def _exchange(self, old: Classifier) -> None:
        try:
            new = self._load(self._path)
        except Exception as error:  # noqa: BLE001  whatever it is, the old model still answers
            words = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
            log.error(  # noqa: TRY400  one line for a person
                "the new model is not used, %s %s goes on answering: %s",
                old.info.name, old.info.version, words,
            )  # fmt: skip
            return
        self._classifier = new
        if new.info.digest != old.info.digest:
            log.info(
                "model %s %s, digest %s, takes over from %s %s", new.info.name, new.info.version,
                new.info.digest[:16], old.info.name, old.info.version,
            )  # fmt: skip
