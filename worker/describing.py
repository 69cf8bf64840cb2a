"""What ``cxr-worker model show`` and ``model list`` say of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from model.predict import ModelInfo
    from model.registry import Version

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
    for name, value in facts_of(info):
        table.add_row(name, value)
    return table


def facts_of(info: ModelInfo) -> list[tuple[str, str]]:
    """Give what a model is and what was measured of it, each with its name."""
    return [*_facts(info), *_figures(info.metrics)]


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


def versions_table(versions: Sequence[Version]) -> Table:
    """Show versions a line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "version", "name", "digest", "AUC", "folder"):
        table.add_column(name, justify="right" if name == "AUC" else "left", overflow="fold")
    for version in versions:
        table.add_row("*" if version.current else "", *_cells(version), version.folder.name)
    return table


def _cells(version: Version) -> tuple[str, str, str, str]:
    info = version.info
    if info is None:
        return "-", f"damaged: {version.problem}", "", ""
    auc = info.metrics.get("validation", {}).get("auc")
    return info.version, info.name, info.digest[:12], "" if auc is None else f"{auc:.4f}"
