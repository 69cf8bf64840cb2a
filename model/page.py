"""An evaluation as one Markdown page for a clinician."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dicom_node.codes import FLAG_SENTENCES, NOT_ASSESSED_REASONS
from model.calibration import ABSENT, PRESENT, UNDETERMINED
from model.metrics import at_prevalence

# Figure of `model.figures.DRAWN` -> heading, and what it shows.
CAPTIONS = {
    "confusion": (
        "Answers beside the truth",
        "Each row adds up to 100 %. What is undetermined needs a person's eye.",
    ),
    "roc": (
        "Found pneumonias against false alarms",
        "The curve shows both at every possible threshold; the dot is the released one. A model "
        "that guesses lies on the dotted line.",
    ),
    "precision_recall": (
        "How far a call of pneumonia can be trusted",
        "PPV falls as more pneumonias are found. It holds for images like these only, where "
        "pneumonia is as common as the dotted line says.",
    ),
    "reliability": (
        "Do the probabilities mean what they say?",
        "Of the images given a probability of 70 %, seven in ten should show a pneumonia. Points "
        "above the dotted line: the model told too little; below: too much. Bars are 95 % "
        "intervals, numbers count images; few images make wide bars.",
    ),
    "decision": (
        "Does it do more good than treating all, or none?",
        "Net benefit for each probability from which one would act (Vickers & Elkin, 2006): "
        "acting at 20 % means that one ill child found is worth four acted on in vain. The "
        "model helps where its line is the highest.",
    ),
}
PREVALENCES = (0.05, 0.10, 0.20, 0.50)
CHILDREN = 1000  # of the table by prevalence
SMALL = 30  # images; a group of fewer says little

# Rate -> its name, and of which images it is the share.
_RATES = {
    "sensitivity": ("Sensitivity", "of the pneumonias, called pneumonia"),
    "specificity": ("Specificity", "of the normals, called normal"),
    "ppv": ("PPV", "of the calls of pneumonia, right (for images as here)"),
    "npv": ("NPV", "of the calls of normal, right (for images as here)"),
    "accuracy": ("Accuracy", "of all answers, right"),
}
_ANSWERS = {
    PRESENT: "pneumonia (PRESENT)",
    UNDETERMINED: "undetermined (UNDETERMINED)",
    ABSENT: "no pneumonia (ABSENT)",
}
_POPULATIONS = {
    "withhold": "Patients outside the intended one to five years were given no answer.",
    "flag": "Patients outside the intended one to five years were answered too, with a flag.",
    "ignore": "Patients outside the intended one to five years were answered like any other.",
}


def render(report: Mapping[str, Any]) -> str:
    """Return a report of `model.evaluate.evaluate` as Markdown."""
    model, result = report["model"], report["all"]
    lines = [
        f"# {model['name']} {model['version']} on {report['data']}",
        "",
        "**Research use only; not a medical device.** How the model's answers compare with the",
        "labels of these images. Another hospital's images may give other figures.",
        "",
        *_short(report),
    ]
    lines += ["", *_answers(report), "", *_not_assessed(report)]
    if result:
        lines += ["", *_figures(result), "", *_prevalences(result), *_pictures()]
    else:
        lines += ["", "Images of both normal and pneumonia are needed for more figures."]
    if report["subgroups"]:
        lines += ["", *_subgroups(report["subgroups"])]
    if report["mistakes"]:
        lines += ["", *_mistakes(report["mistakes"])]
    return "\n".join([*lines, "", *_made_from(report)]) + "\n"


def _short(report: Mapping[str, Any]) -> list[str]:
    answered = report["images"] - sum(report["refused"].values())
    lines = [
        "## In short",
        "",
        f"- {report['images']} images of {report['patients']} patients, {report['pneumonia']} "
        f"with pneumonia by their labels: {answered} were answered, "
        f"{report['images'] - answered} were not assessed.",
    ]
    result = report["all"]
    if not result:
        return lines
    c = result["confusion"]
    ill = c["true_positive"] + c["false_negative"]
    well = c["true_negative"] + c["false_positive"]
    return [
        *lines,
        f"- **Sensitivity {_percent(result, 'sensitivity')}**: {c['true_positive']} of {ill} "
        f"pneumonias were called so, {c['false_negative']} were missed.",
        f"- **Specificity {_percent(result, 'specificity')}**: {c['true_negative']} of {well} "
        f"normals were called so, {c['false_positive']} were false alarms.",
        f"- **AUC {_number(result['auc'], result['auc_interval'])}**: how often a pneumonia is "
        "given a higher probability than a normal image.",
        f"- {_share(result['undetermined'])} of the answers were undetermined: left to a person.",
    ]


def _answers(report: Mapping[str, Any]) -> list[str]:
    by_label = report["by_label"]
    model, (low, high) = report["model"], report["undetermined"]
    told = {**_ANSWERS, **{reason: f"not assessed: {reason}" for reason in report["refused"]}}
    rows = [
        [words, *(counts.get(answer, 0) for counts in by_label.values())]
        for answer, words in told.items()
    ]
    return [
        "## Answers",
        "",
        *_table(["answer", *(f"truth: {label}" for label in by_label)], rows),
        "",
        f"Undetermined is a probability from {low:.3f} to {high:.3f}, round the threshold",
        f"{model['threshold']:.3f}. In all figures below an undetermined answer counts on the side",
        "of the threshold where it lies, unless it is said otherwise.",
    ]


def _not_assessed(report: Mapping[str, Any]) -> list[str]:
    lines = ["## Not assessed, or with a flag", "", _POPULATIONS[report["population"]], ""]
    for flag, count in report["flagged"].items():
        words = FLAG_SENTENCES.get(flag, flag)
        lines += [f"{count} answers came with the flag {flag}: {words}.", ""]
    refused = report["refused"]
    if not refused:
        return [*lines, "Every image was answered."]
    rows = [
        [reason, NOT_ASSESSED_REASONS.get(reason, (reason, None))[0], count]
        for reason, count in sorted(refused.items(), key=lambda item: -item[1])
    ]
    lines += _table(["reason", "in words", "images"], rows)
    if report["all"] and report["pneumonia"]:
        found = report["all"]["confusion"]["true_positive"]
        lines += [
            "",
            "The figures are those of answered images. With every pneumonia that was not assessed",
            f"counted as missed, {found} of {report['pneumonia']} "
            f"({_share(found / report['pneumonia'])}) were called pneumonia.",
        ]
    return lines


def _figures(result: Mapping[str, Any]) -> list[str]:
    decided = result["decided"]
    rows = [[name, _percent(result, rate), explained] for rate, (name, explained) in _RATES.items()]
    rows += [
        [f"{_RATES[rate][0]} without undetermined", _percent(decided, rate), "decided answers only"]
        for rate in ("sensitivity", "specificity")
    ]
    auc, precision = (result["auc"], result["auc_interval"]), result["average_precision"]
    rows += [
        ["AUC", _number(*auc), "pneumonia against normal, over all thresholds"],
        ["Average precision", _number(precision), "mean PPV over all sensitivities"],
        ["Calibration error", _number(result["calibration_error"]), "0 is perfect (ECE, 10 bins)"],
    ]
    if "bacterial_auc" in result:
        of = f"among {result['kinds']} answered pneumonias whose kind is known"
        auc = result["bacterial_auc"], result["bacterial_auc_interval"]
        rows += [
            ["Bacterial or viral: AUC", _number(*auc), of],
            ["Bacterial or viral: accuracy", _percent(result, "bacterial_accuracy"), "the same"],
        ]
    return [
        "## Figures",
        "",
        f"{result['images']} answered images of {result['patients']} patients. In brackets 95 %",
        "intervals: AUC by bootstrap over patients, shares by Wilson's formula over images (with",
        "several images of a patient the truth is a little wider).",
        "",
        *_table(["figure", "value", "meaning"], rows),
    ]


def _prevalences(result: Mapping[str, Any]) -> list[str]:
    here = result["pneumonia"] / result["images"]
    rows = []
    for prevalence in PREVALENCES:
        told = at_prevalence(result["sensitivity"], result["specificity"], prevalence)
        called = round(told["called"] * CHILDREN)
        missed = prevalence * (1 - result["sensitivity"]) * CHILDREN
        rows.append(
            [
                _share(prevalence, 0),
                called,
                _share(told["ppv"]),
                CHILDREN - called,
                _share(told["npv"]),
                round(missed),
            ]
        )
    return [
        "## If pneumonia is rarer or more common",
        "",
        f"Of these images {_share(here, 0)} show a pneumonia. Where fewer children have one, more",
        "calls of pneumonia are false alarms, though the model is the same. With the sensitivity",
        f"and specificity above, of {CHILDREN} children:",
        "",
        *_table(
            ["ill", "called pneumonia", "right (PPV)", "called normal", "right (NPV)", "missed"],
            rows,
        ),
    ]


def _pictures() -> list[str]:
    lines = []
    for name, (heading, caption) in CAPTIONS.items():
        lines += ["", f"## {heading}", "", f"![{heading}]({name}.png)", "", caption]
    return lines


def _subgroups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    rates = ("sensitivity", "specificity", "ppv", "npv")
    table = [
        [
            f"{r['family']}: {r['group']}",
            r["images"],
            r["not_assessed"],
            _number(r["auc"]),
            *(_percent(r, rate) for rate in rates),
        ]
        for r in rows
    ]
    head = ["group", "answered", "not assessed", "AUC"]
    return [
        "## For whom it works how well",
        "",
        "Groups differ for certain only where their intervals do not overlap; one of fewer than",
        f"{SMALL} images says little. PPV and NPV also depend on how many of a group are ill.",
        "",
        *_table([*head, *(_RATES[rate][0] for rate in rates)], table),
        "",
        "![Sensitivity and specificity of each group](subgroups.png)",
    ]


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "## Worst mistakes",
        "",
        "The answers that were furthest from the label; sometimes it is the label that is wrong.",
        "Beside each image, in bright colours, what spoke for the answer.",
        "",
        "![Worst mistakes](mistakes.png)",
        "",
        *_table(
            ["", "file", "truth", "told probability of pneumonia"],
            [[i, r["file"], r["label"], _share(r["probability"])] for i, r in enumerate(rows, 1)],
        ),
    ]


def _made_from(report: Mapping[str, Any]) -> list[str]:
    model = report["model"]
    lines = [
        "## Made from",
        "",
        f"Model {model['name']} {model['version']}, digest {model['digest'][:16]}; all numbers are "
        "in report.json.",
    ]
    notes = list(report["notes"])
    if report["unreadable"]:
        count = len(report["unreadable"])
        first = "; ".join(report["unreadable"][:3])
        notes.append(f"files that could not be read: {count} ({first}{'; …' * (count > 3)})")
    return [*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _number(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _share(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def _percent(figures: Mapping[str, Any], name: str) -> str:
    """Return a share of `model.metrics.rates` with its interval, in per cent."""
    interval = figures.get(f"{name}_interval")
    told = f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return _share(figures[name]) + told
