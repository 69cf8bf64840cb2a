"""The released model as files: `model.json` and `weights.bin`, one digest over both.

The weights are one flat file; `model.json` holds the table of its arrays. The network's kernels
are kept in half precision; everything small (biases, normalisation, fitness statistics) in single.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError

FORMAT = 1
DESCRIPTION, WEIGHTS, CURRENT = "model.json", "weights.bin", "current"
HALF_FROM = 4096  # network arrays of at least so many values are kept in half precision

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Artifact:
    """A released model in memory.

    Parameters
    ----------
    description
        What `model.json` holds, the array table included.
    arrays
        Name -> float32 array; the network's are named `network/<nnn>`, in Keras order.
    """

    description: dict[str, Any]
    arrays: Arrays

    def network_weights(self) -> list[NDArray[np.float32]]:
        """Return the network's weights in the order `keras.Model.set_weights` wants."""
        return [self.arrays[name] for name in sorted(self.arrays) if name.startswith("network/")]


def network_arrays(weights: list[NDArray[np.float32]]) -> Arrays:
    """Name a network's weights for an artifact."""
    return {f"network/{i:04d}": np.asarray(w, np.float32) for i, w in enumerate(weights)}


def as_released(arrays: Arrays) -> Arrays:
    """Return the arrays as they come back from a file: measured is what is served."""
    return {n: a.astype(_dtype(n, a)).astype(np.float32) for n, a in arrays.items()}


def _dtype(name: str, array: NDArray[Any]) -> str:
    return "<f2" if name.startswith("network/") and array.size >= HALF_FROM else "<f4"


def write(folder: Path, description: Mapping[str, Any], arrays: Arrays) -> str:
    """Write an artifact and return its digest.

    Parameters
    ----------
    folder
        Made if missing; an artifact in it is overwritten.
    description
        JSON values; the keys `format`, `arrays` and `digest` are set here.
    arrays
        What the weights file holds.
    """
    table, blobs, offset = [], [], 0
    for name in sorted(arrays):
        dtype = _dtype(name, arrays[name])
        blob = arrays[name].astype(dtype).tobytes()
        shape = list(arrays[name].shape)
        table.append({"name": name, "dtype": dtype, "shape": shape, "offset": offset})
        blobs.append(blob)
        offset += len(blob)
    payload = b"".join(blobs)
    whole = {**description, "format": FORMAT, "arrays": table}
    whole["digest"] = digest(whole, payload)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(payload)
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    return str(whole["digest"])


def digest(description: Mapping[str, Any], payload: bytes) -> str:
    """Return the SHA-256 over the description (its own digest left out) and the weights."""
    rest = {key: value for key, value in description.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8") + b"\0" + payload).hexdigest()


def locate(path: Path) -> Path:
    """Return the artifact folder meant by `path`: itself, or the current version inside it.

    A folder of versions says which is current in a file named `current`; a single version
    needs none.

    Raises
    ------
    ConfigurationError
        If there is no artifact.
    """
    if (path / DESCRIPTION).is_file():
        return path
    current = path / CURRENT
    if current.is_file():
        chosen = path / current.read_text(encoding="utf-8").strip()
        if (chosen / DESCRIPTION).is_file():
            return chosen
        raise _refusal(f"{current} names {chosen.name}, which is not there")
    versions = sorted(p.parent for p in path.glob(f"*/{DESCRIPTION}"))
    if len(versions) == 1:
        return versions[0]
    what = f"{len(versions)} versions and no file 'current'" if versions else "no model"
    raise _refusal(f"{path} holds {what}")


def _refusal(problem: str) -> ConfigurationError:
    return ConfigurationError(
        "CXR_MODEL", f"{problem}; name a folder with {DESCRIPTION} and {WEIGHTS}"
    )


def describe(path: Path) -> dict[str, Any]:
    """Return the description of the artifact at `path`, its digest checked against the bytes.

    Raises
    ------
    ConfigurationError
        If there is no artifact, it is of another format, or it was changed.
    """
    return _checked(locate(path))[0]


def read(path: Path) -> Artifact:
    """Read and check an artifact.

    Raises
    ------
    ConfigurationError
        As `describe`.
    """
    description, payload = _checked(locate(path))
    arrays = {row["name"]: _array(payload, row) for row in description["arrays"]}
    return Artifact(description, arrays)


def _checked(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        payload = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise _refusal(f"{folder} cannot be read ({type(error).__name__})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _refusal(f"{folder} is not a model of format {FORMAT}")
    if description.get("digest") != digest(description, payload):
        raise _refusal(f"{folder} was changed after its release: digest differs")
    return description, payload


def _array(payload: bytes, row: Mapping[str, Any]) -> NDArray[np.float32]:
    count = int(np.prod(row["shape"], dtype=np.int64))
    flat = np.frombuffer(payload, row["dtype"], count, row["offset"])
    return flat.reshape(row["shape"]).astype(np.float32)
