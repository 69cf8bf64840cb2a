"""Judge a model: `python model/evaluate.py --model M --data DIR --out DIR`.

DIR, or its `test/`, holds NORMAL/ and PNEUMONIA/ with JPEG, PNG or DICOM images. OUT gets
`report.md` for people, `report.json` for programs, and figures. The figures are those of the
answers: what the header or the gate refuses is counted apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from dicom_node.errors import ConfigurationError
from model import data, figures, page, sources
from model.data import DataError
from model.fitness import Population
from model.judgement import Judgement, judge, report, show, worst
from model.predict import Classifier


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python model/evaluate.py", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an artifact")
    named = "folder with labelled images, or kaggle:<owner>/<dataset>"
    parser.add_argument("--data", required=True, help=named)
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--population", choices=["withhold", "flag", "ignore"], default="withhold")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; a problem is one line on stderr and exit code 2."""
    options = parse(arguments)
    if importlib.util.find_spec("matplotlib") is None:
        print("error: figures need matplotlib: pip install 'cxr-worker[train]'", file=sys.stderr)
        return 2
    try:
        folder = sources.folder(options.data)
        text = evaluate(options.model, folder, options.out, options.population)
    except (ConfigurationError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def evaluate(model: Path, folder: Path, out: Path, population: Population = "withhold") -> str:
    """Answer for every image of a labelled folder, write the report and return its page.

    Raises
    ------
    ConfigurationError
        If there is no such model.
    DataError
        If there is nothing to evaluate on.
    OSError
        If `out` cannot be written.
    """
    folder = folder.resolve()
    chosen = data.part(folder, data.TEST) or folder
    notes: list[str] = []
    examples = data.find_examples(chosen, notes.append)
    classifier = Classifier.load(model)
    judgement = judge(classifier, data.load(examples, classifier.spec), population)
    told = {
        "data": str(chosen.relative_to(folder.parent)),
        **report(judgement),
        "mistakes": _mistakes(judgement),
        "notes": notes,
        "unreadable": [f"{path.name}: {why}" for path, why in judgement.loaded.unreadable],
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures(judgement, told).items():
        figure.savefig(out / f"{name}.png")
    numbers = json.dumps(told, indent=2, allow_nan=False) + "\n"
    (out / "report.json").write_text(numbers, encoding="utf-8")
    text = page.render(told)
    (out / "report.md").write_text(text, encoding="utf-8")
    return text


def _mistakes(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {
            "file": judgement.examples[place].path.name,
            "label": judgement.examples[place].label,
            "probability": float(judgement.probability[place]),
        }
        for place in worst(judgement)
    ]


def pictures(judgement: Judgement, told: dict[str, Any]) -> dict[str, Any]:
    """Return the matplotlib figures of a report by name.

    Parameters
    ----------
    judgement
        Whose worst mistakes are shown.
    told
        From `model.judgement.report`.
    """
    drawn = {name: figures.draw(name, told["all"]) for name in figures.DRAWN if told["all"]}
    if told["subgroups"]:
        drawn["subgroups"] = figures.subgroups(told["subgroups"])
    mistakes = worst(judgement)
    if mistakes:
        drawn["mistakes"] = figures.sheet("Worst mistakes", show(judgement, mistakes))
    return drawn


if __name__ == "__main__":
    sys.exit(main())
