"""An evaluation as one Markdown page for a clinician."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Figure of `model.figures.DRAWN` -> what it shows, in a sentence.
CAPTIONS = {
    "confusion": "Each image's answer beside the truth; undetermined answers need a person.",
    "roc": "How many pneumonias are found for how many false alarms, at every threshold.",
    "precision_recall": "How many of the images called pneumonia are one. This depends on how "
    "common pneumonia is here, and will differ in another hospital.",
    "reliability": "Of the images given a probability of, say, 0.7, seven in ten should be ill: "
    "points below the dotted line tell too high a probability, points above too low.",
    "decision": "Whether acting on the model does more good than acting on every child or on none, "
    "for each probability from which one would act (Vickers & Elkin, 2006).",
}
_RATES = {
    "sensitivity": "sensitivity: pneumonias that were called so",
    "specificity": "specificity: normals that were called so",
    "ppv": "PPV: pneumonias among those called so",
    "npv": "NPV: normals among those called so",
    "accuracy": "accuracy",
}
_KINDS = {
    "bacterial_auc": "AUC, bacterial against viral",
    "bacterial_accuracy": "accuracy, bacterial against viral",
}


def render(report: Mapping[str, Any]) -> str:
    """Return a report of `model.evaluate.evaluate` as Markdown."""
    model = report["model"]
    low, high = report["undetermined"]
    lines = [
        f"# {model['name']} {model['version']} on {report['data']}",
        "",
        f"Artifact {model['digest'][:16]}. Research use only; not a medical device. Pneumonia is",
        f"called from a probability of {model['threshold']:.3f} on; from {low:.3f} to {high:.3f} "
        "the finding is undetermined.",
        "",
        "## Answers",
        "",
        *_answers(report["by_label"]),
    ]
    if report["all"]:
        lines += ["", *_figures(report["all"]), *_pictures()]
    else:
        lines += ["", "Images of both normal and pneumonia are needed for more figures."]
    if report["subgroups"]:
        lines += ["", *_subgroups(report["subgroups"])]
    if report["mistakes"]:
        lines += ["", *_mistakes(report["mistakes"])]
    if report["unreadable"]:
        lines += ["", f"{len(report['unreadable'])} files could not be read; see report.json."]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _answers(by_label: Mapping[str, Mapping[str, int]]) -> list[str]:
    answers = sorted({a for counts in by_label.values() for a in counts})
    rows = [[a, *(counts.get(a, 0) for counts in by_label.values())] for a in answers]
    return _table(["answer", *by_label], rows)


def _figures(result: Mapping[str, Any]) -> list[str]:
    counts = result["confusion"]
    rows = [["AUC, pneumonia against normal", _share(result["auc"], result["auc_interval"], 4)]]
    rows += [[told, _share(result[n], result[f"{n}_interval"])] for n, told in _RATES.items()]
    rows += [
        ["average precision", _share(result["average_precision"])],
        ["share undetermined", _share(result["undetermined"])],
        ["expected calibration error", _share(result["calibration_error"])],
    ]
    rows += [[told, _share(result[n])] for n, told in _KINDS.items() if n in result]
    return [
        "## Figures",
        "",
        f"{result['images']} images of {result['patients']} patients were answered. In brackets:",
        "95 % intervals, by bootstrap over patients for the AUC, Wilson's over images for shares.",
        "The shares are those at the threshold, undetermined findings counted too.",
        "",
        *_table(["figure", "value"], rows),
        "",
        *_table(
            ["at the threshold", "pneumonia", "normal"],
            [
                ["called pneumonia", counts["true_positive"], counts["false_positive"]],
                ["called normal", counts["false_negative"], counts["true_negative"]],
            ],
        ),
    ]


def _share(value: float | None, interval: Sequence[float] | None = None, digits: int = 3) -> str:
    if value is None:
        return "-"
    told = f"{value:.{digits}f}"
    return f"{told} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else told


def _pictures() -> list[str]:
    lines = []
    for name, caption in CAPTIONS.items():
        lines += ["", f"![{name.replace('_', ' ')}]({name}.png)", "", caption]
    return lines


def _subgroups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shares = ("sensitivity", "specificity", "ppv", "npv")
    table = [
        [
            f"{r['family']}: {r['group']}",
            r["images"],
            r["not_assessed"],
            _share(r["auc"]),
            *(_share(r[n], r[f"{n}_interval"], 2) for n in shares),
        ]
        for r in rows
    ]
    head = [
        "group",
        "answered",
        "not assessed",
        "AUC",
        *(n.upper() if len(n) < 4 else n for n in shares),
    ]
    return ["## Subgroups", "", *_table(head, table), "", "![subgroups](subgroups.png)"]


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "## Worst mistakes",
        "",
        "Beside each image, in bright colours, what spoke for the wrong answer.",
        "",
        "![mistakes](mistakes.png)",
        "",
        *_table(
            ["", "file", "truth", "told probability"],
            [[i, r["file"], r["label"], _share(r["probability"])] for i, r in enumerate(rows, 1)],
        ),
    ]
