"""Artifacts that take no training: random weights in a tiny network, and a gate that passes all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import artifact
from tests.unit.model.tiny import make_tiny

SIDE = 32


def description(version: str = "0.0.0", **changes: Any) -> dict[str, Any]:
    """What an artifact says of itself, without a network."""
    return {
        "name": "cxr-tiny", "version": version, "labels": ["normal", "bacterial", "viral"],
        "preprocessing": {"size": SIDE, "low": 0.5, "high": 99.5, "via": 224},
        "temperature": 0.9, "calibrated": True, "attribution": "nobody's data",
        "operating_point": {"threshold": 0.5, "low": 0.4, "high": 0.6, "sensitivity": 0.95},
        "metrics": {"validation": {"auc": 0.91}}, "card": f"# cxr-tiny {version}",
        **changes,
    }  # fmt: skip


def write_plain(folder: Path, version: str = "0.0.0", **changes: Any) -> str:
    """Write an artifact that can be read and described, but not built; give its digest."""
    said = description(version, architecture="none", **changes)
    return artifact.write(folder, said, artifact.network_arrays([np.zeros(3, np.float32)]))


def write_small(folder: Path, version: str = "0.0.0", seed: int = 1) -> str:
    """Write an artifact that answers; give its digest."""
    import keras

    from model.network import build_network

    keras.utils.set_random_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        network = build_network("tiny", SIDE, 3)
    count = network.outputs[1].shape[1]
    reasons = ["OUTSIDE_POPULATION", "NOT_CHEST"]
    gate = {"residual": 1.0, "limit": 1e9, "outer_limit": 1e9, "reasons": reasons}
    arrays = {
        "gate/mean": np.zeros(count), "gate/scale": np.ones(count),
        "gate/axes": np.zeros((count, 1)), "gate/weights": np.zeros((count, 2)),
        "gate/bias": -np.ones(2),
    }  # fmt: skip
    said = description(version, architecture=network.to_json(), gate=gate)
    return artifact.write(folder, said, artifact.network_arrays(network.get_weights()) | arrays)


def need_openvino() -> None:
    """Skip without OpenVINO; `pytest.importorskip` would import it with its telemetry."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
