"""What a training wrote of its finished epochs: one JSON line each in `OUT/history.jsonl`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = "history.jsonl"


def rows(history: Path) -> list[dict[str, Any]]:
    """Return the lines: stage, epoch, seconds and scores."""
    lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
    return [json.loads(line) for line in lines]


def append(history: Path, row: Mapping[str, Any]) -> None:
    """Add a line, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; the error names the file.
    """
    before = history.stat().st_size if history.exists() else 0
    try:
        with history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")
    except OSError as error:
        with suppress(OSError):
            os.truncate(history, before)
        raise OSError(error.errno, error.strerror, str(history)) from error


def seconds_trained(history: Path) -> float:
    """Return how long all epochs took, over every time the training was resumed."""
    return float(sum(row["seconds"] for row in rows(history)))


def steps(history: Path) -> list[dict[str, Any]]:
    """Return what each stage reached on validation at its last epoch, in the order of stages."""
    last = {row["stage"]: row for row in rows(history)}
    return [
        {"step": stage, "epochs": row["epoch"]}
        | {name: value for name, value in row.items() if name.startswith("val_")}
        for stage, row in last.items()
    ]
