"""The model that the integration tests run with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import model
from model.predict import load_info

# Read now: the tests themselves run without our settings.
CHOSEN = os.environ.get("CXR_MODEL")


@pytest.fixture(scope="session")
def model_setting() -> dict[str, str]:
    """The settings that choose the model: none for the released one."""
    load_info(Path(CHOSEN) if CHOSEN else Path(str(model.__file__)).parent / "released")
    return {"CXR_MODEL": CHOSEN} if CHOSEN else {}
