"""The model card, generated from the artifact's description alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# File name pattern of a public set -> what its terms ask to be said.
ATTRIBUTIONS: tuple[tuple[str, str], ...] = (
    (
        r"person\d+_(bacteria|virus)_|(NORMAL2-)?IM-\d+-",
        'D. Kermany, K. Zhang, M. Goldbaum, "Labeled Optical Coherence Tomography (OCT) and Chest '
        'X-Ray Images for Classification", Mendeley Data, 2018, CC BY 4.0; paper: Kermany et al., '
        "Cell 172(5), 2018.",
    ),
    (
        r"COVID-\d+|Normal-\d+",
        "COVID-19 Radiography Database (M. E. H. Chowdhury et al., IEEE Access 8, 2020; T. Rahman "
        "et al., Computers in Biology and Medicine 132, 2021), for research use.",
    ),
    (
        r"\d{8}_\d{3}",
        "NIH ChestX-ray14, provided by the National Institutes of Health Clinical Center (X. Wang "
        "et al., CVPR 2017).",
    ),
)


RESEARCH = "for research use"
CC_BY = "CC BY 4.0"

LIMITS = (
    "## Limits",
    "",
    "- One hospital, one country, one acquisition style; labels from expert reading, not from",
    "  microbiology.",
    "- Adults are outside the population: such networks answer them wrongly, so the gate and",
    "  the header withhold the answer.",
    "- No localisation, no severity, no other disease.",
    "- Nothing here was tried prospectively or in clinical use.",
    "",
)


def attribution(names: Iterable[str], inherited: str = "") -> str:
    """Return what the terms of the public sets ask to be said.

    Parameters
    ----------
    names
        File names, by which the sets are recognised.
    inherited
        The attribution of the artifact that lent its weights.
    """
    found = {text for name in names for pattern, text in ATTRIBUTIONS if re.match(pattern, name)}
    found |= {text for _, text in ATTRIBUTIONS if text in inherited}
    return " ".join(text for _, text in ATTRIBUTIONS if text in found) or "Data not attributed."


def licence(said: str) -> str:
    """Return under what terms weights may be used, given the attribution of their images."""
    if RESEARCH in said:
        return f"{RESEARCH}, as part of the images they were trained on; of the rest {CC_BY}."
    if CC_BY in said:
        return f"{CC_BY}, as the images they were trained on."
    return "as the images they were trained on."


def render(description: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    return "\n".join(
        [
            f"# Model card: {description['name']} {description['version']}",
            "",
            "Generated from the released artifact by `python model/export.py card`; do not edit.",
            "",
            *_use(description),
            *_training(description),
            *_validation(description["metrics"]["validation"], description),
            *_disturbed(description["metrics"].get("disturbed")),
            *_gate(description["metrics"].get("gate")),
            *LIMITS,
            "## Data and licence",
            "",
            f"{description['attribution']}",
            "",
            f"Weights: {description['licence']}",
            "",
        ]
    )


def _use(description: Mapping[str, Any]) -> list[str]:
    return [
        "## Intended use",
        "",
        "Research only; not a medical device. Frontal (AP) chest radiographs of children of one to",
        "five years. The answer is a probability of pneumonia and, given a pneumonia, how likely",
        "it is bacterial rather than viral; the second is far less certain than the first.",
        "",
        f"- classes: {', '.join(description['labels'])}",
        "",
    ]


def _training(description: Mapping[str, Any]) -> list[str]:
    training, spec = description["training"], description["preprocessing"]
    return [
        "## Training",
        "",
        f"- network: {training['backbone']} on one grey channel, input"
        f" {spec['size']} x {spec['size']}",
        f"- started from: {_start(description)}",
        f"- precision while training: {training['precision']}; released in half, served in single"
        " precision",
        f"- libraries: {', '.join(f'{k} {v}' for k, v in description['libraries'].items())}",
        "",
        *(line for number, run in enumerate(_runs(description), 1) for line in _run(number, run)),
    ]


def _start(description: Mapping[str, Any]) -> str:
    start = description.get("started_from")
    if start:
        first = _runs(description)[0]
        scratch = " (from random weights)" if not first.get("started_from") else ""
        return f"the first training below{scratch}, digest `{str(start['digest'])[:16]}`"
    return {
        "none": "random weights (from scratch: no transfer)",
        "imagenet": "keras-hub's ImageNet weights",
    }.get(description["training"]["weights"], "weights from a file")


def _runs(description: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the trainings that led to an artifact, the first one first."""
    start = description.get("started_from")
    return [*(_runs(start) if start else []), description]


def _run(number: int, run: Mapping[str, Any]) -> list[str]:
    """Return one training: data, command, and what each of its steps reached."""
    lines = [
        f"{number}. {run['train_images']} images ({run['train_balance']}), fingerprint"
        f" `{run['data_fingerprint'][:16]}`, {run['seconds'] / 60:.0f} minutes:",
        f"   `{run['command']}`",
        "",
    ]
    names = sorted({name for step in run.get("steps", ()) for name in step} - {"step", "epochs"})
    if not names:
        return lines
    return [
        *lines,
        f"   | step | epochs | {' | '.join(n.removeprefix('val_') for n in names)} |",
        f"   |---|---|{'---|' * len(names)}",
        *(
            f"   | {step['step']} | {step['epochs']} |"
            f" {' | '.join(f'{step[n]:.4f}' for n in names)} |"
            for step in run["steps"]
        ),
        "",
    ]


def _validation(figures: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    low, high = figures["auc_interval"]
    point = description["operating_point"]
    rows = [
        ("AUC, pneumonia against normal", f"{figures['auc']:.4f} ({low:.4f} to {high:.4f})"),
        ("sensitivity at the threshold", f"{figures['sensitivity']:.3f}"),
        ("specificity at the threshold", f"{figures['specificity']:.3f}"),
        ("accuracy at the threshold", f"{figures['accuracy']:.3f}"),
        ("share undetermined", f"{figures['undetermined']:.3f}"),
        ("expected calibration error", f"{figures['calibration_error']:.3f}"),
    ]
    if "bacterial_auc" in figures:
        rows.append(("AUC, bacterial against viral", f"{figures['bacterial_auc']:.4f}"))
        rows.append(("accuracy, bacterial against viral", f"{figures['bacterial_accuracy']:.3f}"))
    return [
        "## Validation by patient",
        "",
        f"{figures['images']} images of {figures['patients']} patients, none of them in training;",
        "95 % interval by bootstrap over patients.",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        f"Temperature {description['temperature']:.2f}; threshold {point['threshold']:.3f}, chosen",
        f"for a sensitivity of at least {point['sensitivity']:.2f} on the validation images, as",
        f"they are and disturbed; undetermined from {point['low']:.3f} to {point['high']:.3f}.",
        "",
        "**Validation flatters.** It comes from the same hospital and the same years as the",
        "training images, and temperature and threshold were chosen on it. On the official test",
        "split of this set, whose normals look different, a network of this project that validated",
        "at 0.997 scored 0.961.",
        "",
    ]


def _disturbed(figures: Mapping[str, Any] | None) -> list[str]:
    if not figures:
        return []
    return [
        "With exposure, sharpness, framing and occlusion disturbed at random, the same validation",
        f"images give an AUC of {figures['auc']:.4f}, sensitivity {figures['sensitivity']:.3f} and"
        f" specificity {figures['specificity']:.3f}.",
        "",
    ]


def _gate(figures: Mapping[str, Any] | None) -> list[str]:
    if not figures:
        return []
    kinds = sorted(figures["stopped"].items())
    never = set(figures["never_fitted"])
    return [
        "## What it refuses",
        "",
        f"Of {figures['children_images']} images of children that had no part in fitting the gate,"
        f" {figures['children_passed']:.1%} pass{_changed(figures)}. Stopped:",
        "",
        "| images | stopped |",
        "|---|---|",
        *(
            f"| {name.replace('_', ' ')}{' (never fitted)' if name in never else ''} |"
            f" {share:.1%} |"
            for name, share in kinds
        ),
        "",
        "All but the adults are made up, so real photographs and other body parts may fare worse;",
        "public collections of adults may share sources, so other adults may fare worse too.",
        "",
    ]


def _changed(figures: Mapping[str, Any]) -> str:
    share = figures.get("disturbed_children_passed")
    return f"; mildly changed in exposure, sharpness and framing, {share:.1%}" if share else ""
