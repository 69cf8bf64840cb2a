"""Files that settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_node.errors import ConfigurationError


def whole(path: Path) -> Path:
    """Give the whole of a path that was set."""
    return path.expanduser().absolute()


def require_pair(settings: Any, kind: str) -> None:
    """See that ``CXR_<kind>_CERTIFICATE`` and ``CXR_<kind>_KEY`` are both set, or neither.

    Raises
    ------
    ConfigurationError
        Naming the one that is missing.
    """
    names = (f"{kind}_certificate", f"{kind}_key")
    missing = [name for name in names if getattr(settings, name) is None]
    if len(missing) == 1:
        (there,) = set(names) - set(missing)
        raise ConfigurationError(
            f"CXR_{missing[0].upper()}", f"is not set, but CXR_{there.upper()} is"
        )
