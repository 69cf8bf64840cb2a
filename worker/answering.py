"""The model that answers in this process, exchanged for another one when that is chosen.

With it goes what explains its answers: built when it is first wanted, and anew for each model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.predict import Classifier

log = logging.getLogger(__name__)


class Explainer(Protocol):
    """What makes heat maps; :class:`model.explain.Explainer` does."""

    def heatmaps(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map prepared images, (N, size, size): what speaks for pneumonia, in [0, 1]."""
        ...


class Answering:
    """Keeps the chosen model loaded.

    Parameters
    ----------
    path
        Folder of a model, or of versions of which one is current.
    load
        Loads what is in such a folder.
    build_explainer
        Builds what explains the answers of a model.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[Path], Classifier],
        build_explainer: Callable[[Classifier], Explainer],
    ) -> None:
        self._path = path
        self._load = load
        self._build_explainer = build_explainer
        self._seen: object = None
        self._classifier: Classifier | None = None
        self._explainer: Explainer | None = None

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

    def heatmaps(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map what spoke for pneumonia in images that the model of the last call has answered.

        Parameters
        ----------
        images
            Shape (N, size, size), prepared.

        Returns
        -------
        ndarray
            Shape (N, size, size), in [0, 1].
        """
        if self._explainer is None:
            assert self._classifier is not None  # it has answered
            self._explainer = self._build_explainer(self._classifier)
        return self._explainer.heatmaps(images)

    def warm_up_explainer(self) -> None:
        """Build the explainer and use it once, so that no patient waits for that.

        One that fails is told in a line: answers do without pictures.
        """
        import numpy as np

        side = self.classifier().info.input_size
        try:
            self.heatmaps(np.zeros((1, side, side), np.float32))
        except Exception as error:  # noqa: BLE001  whatever it is, the model answers
            log.warning("there will be no heat maps: %s", type(error).__name__)

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
        self._classifier, self._explainer = new, None
        if new.info.digest != old.info.digest:
            log.info(
                "model %s %s, digest %s, takes over from %s %s", new.info.name, new.info.version,
                new.info.digest[:16], old.info.name, old.info.version,
            )  # fmt: skip
