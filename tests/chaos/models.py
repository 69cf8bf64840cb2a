"""Two versions of a model that find pneumonia in different images; one is chosen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import model
from model import artifact, openvino_engine, registry

RELEASED = Path(str(model.__file__)).parent / "released"
# From which probability on the finding is present: with the first in most studies of a run, with
# the second in a third of them.
EAGER, RESERVED = "eager", "reserved"
PRESENT_FROM = {EAGER: 0.65, RESERVED: 0.8}
ANYTHING = 1e9  # is near enough to a chest


class Models:
    """The folder of versions of a run, as CXR_MODEL has it."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        released = artifact.read(base)
        self._versions = {name: _version(released, name) for name in PRESENT_FROM}
        for name, version in self._versions.items():
            artifact.write(folder / name, version.description, version.arrays)
        self.choose(RESERVED)

    def switch(self) -> str:
        """Choose the other version; give its name."""
        (other,) = set(PRESENT_FROM) - {registry.current_name(self.folder)}
        return self.choose(other)

    def choose(self, name: str) -> str:
        registry.choose(self.folder, name)
        return name

    def share_network(self, engines: Path) -> None:
        """Keep OpenVINO's form of the one network for both: it takes long to make."""
        core = openvino_engine.runtime().Core()
        known = {
            name: openvino_engine._identity(core, artifact.read(self.folder / name))
            for name in PRESENT_FROM
        }
        made = openvino_engine._read(_place(engines, known[RESERVED]), known[RESERVED])
        if made is not None:
            openvino_engine._keep(_place(engines, known[EAGER]), known[EAGER], made)


def _version(released: artifact.Artifact, name: str) -> artifact.Artifact:
    """Let any image be judged, and its score lead to one answer or another."""
    description, present_from = released.description, PRESENT_FROM[name]
    point = {**description["operating_point"], "threshold": present_from}
    gate = {**description["gate"], "limit": ANYTHING, "outer_limit": ANYTHING}
    arrays = released.arrays
    blind = {"gate/weights": 0 * arrays["gate/weights"], "gate/bias": 0 * arrays["gate/bias"] - 1}
    return replace(
        released,
        description={
            **description,
            "version": f"{description['version']}-{name}",
            "gate": gate,
            "operating_point": {**point, "low": present_from - 0.1, "high": present_from},
        },
        arrays={**arrays, **blind},
    )


def _place(engines: Path, known: dict[str, object]) -> Path:
    """Name the file of a network as `openvino_engine.load` does."""
    return engines / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}.ov"
