"""Judge a model: `python model/evaluate.py --model M --data DIR --out DIR`.

DIR holds NORMAL/ and PNEUMONIA/ with JPEG, PNG or DICOM images. OUT gets `report.json` and
`report.md`. The figures are those of the answers: what the gate refuses is counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.errors import ConfigurationError
from model import data
from model.calibration import OperatingPoint
from model.data import BACTERIAL, VIRAL, DataError, Example
from model.fitness import Population
from model.metrics import auc, summary
from model.predict import Classifier, ModelInfo, Prediction

Answered = list[tuple[Example, Prediction]]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python model/evaluate.py", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an artifact")
    parser.add_argument("--data", type=Path, required=True, help="folder with labelled images")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--population", choices=["withhold", "flag", "ignore"], default="withhold")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; a problem is one line on stderr and exit code 2."""
    options = parse(arguments)
    try:
        report = evaluate(options.model, options.data, options.population)
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2) + "\n"
        (options.out / "report.json").write_text(text, encoding="utf-8")
        (options.out / "report.md").write_text(render(report), encoding="utf-8")
    except (ConfigurationError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(render(report))
    return 0


def evaluate(model: Path, folder: Path, population: Population = "withhold") -> dict[str, Any]:
    """Answer for every image of a labelled folder and return the figures as JSON values.

    Raises
    ------
    ConfigurationError
        If there is no such model.
    DataError
        If there is nothing to evaluate on.
    """
    examples = data.find_examples(folder)
    classifier = Classifier.load(model)
    loaded = data.load(examples, classifier.spec)
    predictions = classifier.predict(loaded.images, population)
    pairs = list(zip(loaded.examples, predictions, strict=True))
    return {
        "model": {n: getattr(classifier.info, n) for n in ("name", "version", "digest")},
        "data": folder.name,
        "unreadable": [f"{path.name}: {reason}" for path, reason in loaded.unreadable],
        "refused": dict(Counter(p.reason for p in predictions if p.reason)),
        "all": figures(pairs, classifier.info, classifier.point),
        "by_label": {
            label: _answers([p for e, p in pairs if e.label == label])
            for label in sorted({e.label for e in loaded.examples})
        },
    }


def figures(pairs: Answered, info: ModelInfo, point: OperatingPoint) -> dict[str, Any] | None:
    """Return the figures of what was answered; None when nothing was, or of one class only."""
    answered = [(e, p.pneumonia, p.bacterial) for e, p in pairs if p.pneumonia is not None]
    truth = np.array([e.pneumonia for e, _, _ in answered], bool)
    if truth.all() or not truth.any():
        return None
    probability = np.array([pneumonia for _, pneumonia, _ in answered], np.float64)
    result = summary(truth, probability, [e.patient for e, _, _ in answered], point)
    kinds = [(e.label == BACTERIAL, b) for e, _, b in answered if e.label in (BACTERIAL, VIRAL)]
    if {BACTERIAL, VIRAL} <= set(info.labels) and kinds:
        kind, score = np.array([k for k, _ in kinds]), np.array([b for _, b in kinds], np.float64)
        result["bacterial_auc"] = auc(kind, score)
        result["bacterial_accuracy"] = float(((score > 0.5) == kind).mean())
    return result


def _answers(predictions: Sequence[Prediction]) -> dict[str, int]:
    return dict(Counter(p.finding or str(p.reason) for p in predictions))


def render(report: dict[str, Any]) -> str:
    """Return a report as Markdown that a clinician can read."""
    model, result = report["model"], report["all"]
    lines = [
        f"# {model['name']} {model['version']} on {report['data']}",
        "",
        f"Artifact {model['digest'][:16]}. Research use only.",
        "",
        "| answer | " + " | ".join(report["by_label"]) + " |",
        "|---" * (len(report["by_label"]) + 1) + "|",
    ]
    answers = sorted({a for counts in report["by_label"].values() for a in counts})
    for answer in answers:
        counts = [str(c.get(answer, 0)) for c in report["by_label"].values()]
        lines.append(f"| {answer} | " + " | ".join(counts) + " |")
    if result:
        lines += ["", *_figures(result)]
    if report["unreadable"]:
        lines += ["", f"{len(report['unreadable'])} files could not be read; see report.json."]
    return "\n".join(lines) + "\n"


def _figures(result: dict[str, Any]) -> list[str]:
    low, high = result["auc_interval"]
    counts = result["confusion"]
    named = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "undetermined")
    kinds = [n for n in ("bacterial_auc", "bacterial_accuracy") if n in result]
    return [
        f"{result['images']} images of {result['patients']} patients were answered.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| AUC (95 % by patient) | {result['auc']:.4f} ({low:.4f} to {high:.4f}) |",
        *(f"| {name} | {result[name]:.3f} |" for name in named),
        f"| expected calibration error | {result['calibration_error']:.3f} |",
        *(f"| {name.replace('_', ' ')} | {result[name]:.3f} |" for name in kinds),
        "",
        "At the released threshold:",
        "",
        "| | pneumonia | normal |",
        "|---|---|---|",
        f"| called pneumonia | {counts['true_positive']} | {counts['false_positive']} |",
        f"| called normal | {counts['false_negative']} | {counts['true_negative']} |",
    ]


if __name__ == "__main__":
    sys.exit(main())
