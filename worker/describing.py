"""What ``cxr-worker model show`` says of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from model.predict import ModelInfo

# The sets of images a model is measured on, and what they are.
SETS = {"validation": "held-out patients", "disturbed": "the same, images changed at random"}


def model_record(info: ModelInfo) -> dict[str, Any]:
    """Give all facts of a model but its card as JSON values."""
    return {key: value for key, value in asdict(info).items() if key != "card"}


def model_table(info: ModelInfo) -> Table:
    """Show a model's facts a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (*_facts(info), *_figures(info.metrics)):
        table.add_row(name, value)
    return table


def _facts(info: ModelInfo) -> Iterator[tuple[str, str]]:
    low, high = info.undetermined
    yield "model", f"{info.name} {info.version}"
    yield "digest", info.digest
    yield "answers", ", ".join(info.labels)
    yield "input", f"{info.input_size} x {info.input_size} pixels"
    yield "threshold", f"{info.threshold:.3f}, undetermined from {low:.3f} to {high:.3f}"
    yield "calibrated", "yes" if info.calibrated else "no: the score is no probability"
    yield "attribution", info.attribution


def _figures(metrics: Any) -> Iterator[tuple[str, str]]:
    for name, meaning in SETS.items():
        if name not in metrics:
            continue
        figures = metrics[name]
        low, high = figures["auc_interval"]
        yield (
            name,
            f"{meaning}: {figures['images']} images, AUC {figures['auc']:.4f} "
            f"({low:.4f} to {high:.4f}), sensitivity {figures['sensitivity']:.3f}, "
            f"specificity {figures['specificity']:.3f}",
        )
