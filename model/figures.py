"""Pictures of a model's figures and answers, for files and TensorBoard alike.

Matplotlib comes with the extra `train` and is imported late; no state of it is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.calibration import ABSENT, PRESENT, UNDETERMINED
from model.curves import Rows

# Okabe and Ito's colours, which the colour blind tell apart.
BLUE, RED, GREY = "#0072B2", "#D55E00", "#999999"
DOTS_PER_INCH = 110
COLUMNS = 4  # of a sheet of images

Figures = Mapping[str, Any]
Draw = Callable[[Any, Figures], None]


@dataclass(frozen=True)
class Shown:
    """One image of a sheet.

    Parameters
    ----------
    image, heatmap
        Shape (size, size), in [0, 1].
    title
        What is written above.
    """

    image: NDArray[Any]
    heatmap: NDArray[Any]
    title: str


def draw(name: str, figures: Figures) -> Any:
    """Return one matplotlib figure.

    Parameters
    ----------
    name
        A key of `DRAWN`.
    figures
        From `model.judgement.figures`.
    """
    figure = _figure(5, 4.2)
    DRAWN[name](figure.add_subplot(), figures)
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _percent_axes(axes: Any, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)


def _column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows]


def _roc(axes: Any, figures: Figures) -> None:
    rows = figures["roc"]
    low, high = figures["auc_interval"]
    x, y = _column(rows, "false_positive_rate"), _column(rows, "sensitivity")
    label = f"AUC {figures['auc']:.3f} ({low:.3f} to {high:.3f})"
    axes.step([0, *x], [0, *y], where="post", color=BLUE, label=label)
    axes.plot([0, 1], [0, 1], ":", color=GREY)
    at = (1 - figures["specificity"], figures["sensitivity"])
    axes.plot(*at, "o", color=RED, label="at the threshold")
    axes.set_title("Pneumonia against normal: ROC")
    axes.legend(loc="lower right")
    _percent_axes(axes, "1 - specificity", "sensitivity")


def _precision_recall(axes: Any, figures: Figures) -> None:
    rows = figures["precision_recall"]
    label = f"average precision {figures['average_precision']:.3f}"
    axes.plot(_column(rows, "sensitivity"), _column(rows, "ppv"), color=BLUE, label=label)
    share = figures["pneumonia"] / figures["images"]
    axes.axhline(share, ls=":", color=GREY, label=f"share of pneumonia here {share:.2f}")
    if figures["ppv"] is not None:
        at = (figures["sensitivity"], figures["ppv"])
        axes.plot(*at, "o", color=RED, label="at the threshold")
    axes.set_title("Precision and recall")
    axes.legend(loc="lower left")
    _percent_axes(axes, "sensitivity (recall)", "PPV (precision)")


def _reliability(axes: Any, figures: Figures) -> None:
    rows = figures["calibration"]
    x, y = _column(rows, "predicted"), _column(rows, "observed")
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="perfect")
    label = f"calibration error {figures['calibration_error']:.3f}"
    ends = np.array([row["observed_interval"] for row in rows]).T
    axes.errorbar(x, y, np.abs(ends - y), fmt="o-", color=BLUE, elinewidth=1, label=label)
    for at_x, at_y, row in zip(x, y, rows, strict=True):
        side, align = (-5, "right") if at_x > 0.9 else (5, "left")
        place = {"xytext": (side, -10), "textcoords": "offset points", "ha": align}
        axes.annotate(str(row["count"]), (at_x, at_y), size=7, **place)
    axes.set_title("Reliability (bars: 95 %; numbers: images)")
    axes.legend(loc="upper left")
    _percent_axes(axes, "told probability of pneumonia", "observed share of pneumonia")


def _decision(axes: Any, figures: Figures) -> None:
    rows = figures["decision"]
    x = _column(rows, "probability")
    axes.plot(x, _column(rows, "model"), color=BLUE, label="act on the model")
    axes.plot(x, _column(rows, "everyone"), color=RED, label="act on every child")
    axes.axhline(0, color=GREY, ls=":", label="act on none")
    axes.set(
        title="Decision curve",
        xlabel="probability from which one would act",
        ylabel="net benefit",
        xlim=(0, 1),
        ylim=(-0.1, 1.05 * figures["pneumonia"] / figures["images"]),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")


def _confusion(axes: Any, figures: Figures) -> None:
    findings = (ABSENT, UNDETERMINED, PRESENT)
    truths = ("normal", "pneumonia")
    counts = np.array([[figures["findings"][t].get(f, 0) for f in findings] for t in truths])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        text = f"{count}\n{share:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(findings)), [f.lower() for f in findings])
    axes.set_yticks(range(len(truths)), truths)
    axes.set(title="Findings", xlabel="answer", ylabel="truth")


DRAWN: dict[str, Draw] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "reliability": _reliability,
    "decision": _decision,
    "confusion": _confusion,
}


def subgroups(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return sensitivity and specificity of each group, with their intervals.

    Parameters
    ----------
    rows
        From `model.subgroups.compare`.
    """
    figure = _figure(7, 1.4 + 0.32 * len(rows))
    axes = figure.add_subplot()
    for offset, name, colour in ((-0.12, "sensitivity", BLUE), (0.12, "specificity", RED)):
        known = [(i, r) for i, r in enumerate(rows) if r[f"{name}_interval"]]
        for i, row in known:
            axes.plot(row[f"{name}_interval"], [i + offset] * 2, color=colour)
        label = f"{name} (95 % interval)"
        axes.plot([r[name] for _, r in known], [i + offset for i, _ in known], "o", color=colour)
        axes.plot([], [], "o-", color=colour, label=label)
    labels = [f"{r['family']}: {r['group']} ({r['images']})" for r in rows]
    axes.set_yticks(range(len(rows)), labels)
    for number in range(1, len(rows)):  # a line between families
        if rows[number]["family"] != rows[number - 1]["family"]:
            axes.axhline(number - 0.5, color=GREY, lw=0.5)
    axes.set(title="Subgroups at the threshold (answered images)", xlabel="share")
    axes.set_xlim(right=1.01)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def sheet(title: str, shown: Iterable[Shown]) -> Any:
    """Return images side by side, each with its heat map laid over a second copy."""
    items = list(shown)
    rows = max(1, -(-len(items) // COLUMNS))
    figure = _figure(3.2 * COLUMNS, 1.85 * rows + 0.4)
    figure.suptitle(title)
    grid = np.atleast_2d(figure.subplots(rows, COLUMNS))
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, item in zip(grid.flat, items, strict=False):
        axes.imshow(np.concatenate([_grey(item.image), overlay(item.image, item.heatmap)], axis=1))
        axes.set_title(item.title, size=8)
    return figure


def _grey(image: NDArray[Any]) -> NDArray[np.float32]:
    return np.repeat(np.asarray(image, np.float32)[..., None], 3, axis=2)


def overlay(image: NDArray[Any], heatmap: NDArray[Any], strength: float = 0.5) -> NDArray[Any]:
    """Lay a heat map over an image.

    Parameters
    ----------
    image, heatmap
        Shape (size, size), in [0, 1].
    strength
        How much of the colour covers the image where the map is 1; it shows nothing where it is 0.

    Returns
    -------
    ndarray
        Shape (size, size, 3), float32, in [0, 1].
    """
    from matplotlib import colormaps

    share = strength * np.asarray(heatmap, np.float32)[..., None]
    colour = np.asarray(colormaps["inferno"](heatmap)[..., :3], np.float32)
    return (1 - share) * _grey(image) + share * colour


def as_pixels(figure: Any) -> NDArray[np.uint8]:
    """Return a figure as pixels (rows, columns, 3), as TensorBoard takes them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3]
