"""What the commands have in common: how each begins, and how a table is shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from worker.settings import Settings


def begin(role: str = "") -> Settings:
    """Read the settings, and log as they say.

    Parameters
    ----------
    role
        Named in each line of a log in JSON; a command that is no role has none.
    """
    from worker import composition, logs

    settings = composition.settings()
    logs.configure(settings.log_level, settings.log_format, role)
    return settings


def given(reason: str) -> str:
    """Give the reason of what asks for one, or refuse where it is none."""
    if not reason.strip():
        raise typer.BadParameter("says why", param_hint="--reason")
    return reason.strip()


def show(text: object) -> None:
    """Print what rich knows, such as a table; in a pipe it is wide."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(text)
