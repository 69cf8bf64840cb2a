"""Heat maps for the answers of a batch: what spoke for a pneumonia that is, or may be, there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from worker.ledger import NewFinding
from worker.states import Finding

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

# Maps prepared images (N, size, size) to what spoke for pneumonia in each, (N, size, size) in
# [0, 1]. worker.answering.Answering.heatmaps is one.
Explain = Callable[["np.ndarray"], "np.ndarray"]

EXPLAINED = frozenset({Finding.PRESENT, Finding.UNDETERMINED})


def explained(
    explain: Explain, images: Mapping[int, np.ndarray], answers: Mapping[int, NewFinding | str]
) -> dict[int, NewFinding]:
    """Give those answers that have a heat map, with it; one that fails never fails its answer.

    Parameters
    ----------
    images
        Prepared, (size, size) each, by the key of their answers.
    answers
        Findings, and the errors of failed tries.
    """
    import numpy as np

    from worker.picture import encode_heat

    wanted = {
        key: answer
        for key, answer in answers.items()
        if isinstance(answer, NewFinding) and answer.finding in EXPLAINED
    }
    if not wanted:
        return {}
    try:
        maps = explain(np.stack([images[key] for key in wanted]))
        pairs = zip(wanted.items(), maps, strict=True)
        return {key: replace(answer, heatmap=encode_heat(heat)) for (key, answer), heat in pairs}
    except Exception as error:  # noqa: BLE001  whatever it is, the answers stand
        log.warning("%d answers have no heat map: %s", len(wanted), type(error).__name__)
        return {}
