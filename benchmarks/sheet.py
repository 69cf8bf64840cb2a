"""The sheet that every benchmark of `make bench` fills in: figures, and what each is held against.

A benchmark measures, and says so; it judges nothing and fails for no figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dicom_node.errors import PacsWorkerError


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Parameters
    ----------
    what
        What was measured, in words.
    measured
        The median, with its unit.
    beside
        What was measured beside it in the same run, such as a peer's figure with its name.
    goal
        What it should be.
    """

    what: str
    measured: str
    beside: str = ""
    goal: str = ""


Measure = Callable[[argparse.Namespace], list[Figure]]


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark's own command."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rounds", type=int, default=5, help="how often each figure is taken")
    made.add_argument("--json", type=Path, help="write the figures to this file too")
    return made


def run(measure: Measure, options: argparse.Namespace) -> int:
    """Measure, and print the figures as a Markdown table."""
    try:
        figures = measure(options)
    except PacsWorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures]))
    return 0


def table(figures: Sequence[Figure]) -> str:
    """Give figures as a Markdown table."""
    lines = ["| | measured | beside it, same run | goal |", "|---|---|---|---|"]
    lines += [f"| {f.what} | {f.measured} | {f.beside} | {f.goal} |" for f in figures]
    return "\n".join(lines)


def spread(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """Give the median of several with the least and the greatest."""
    low, middle, high = (
        f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} {unit} ({low} to {high})"


def machine() -> str:
    """Describe this machine in a line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
