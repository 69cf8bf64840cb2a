"""A classifier's answers held against the truth: what evaluation and TensorBoard both show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import curves, subgroups
from model.calibration import UNDETERMINED, OperatingPoint
from model.data import BACTERIAL, NORMAL, PNEUMONIA, VIRAL, Example, Loaded
from model.explain import Explainer
from model.figures import Shown
from model.fitness import Population, Verdict, check_header
from model.metrics import (
    Floats,
    auc,
    bootstrap_interval,
    confusion,
    rate_intervals,
    rates,
    summary,
    wilson,
)
from model.predict import Classifier, Prediction
from model.subgroups import ImageFacts

WORST = 12


@dataclass(frozen=True)
class Judgement:
    """Images, what is known of them, and what a classifier answered.

    Parameters
    ----------
    classifier
        Who answered.
    loaded
        The images, prepared.
    facts, predictions
        Of each image.
    population
        What a patient outside the intended population led to.
    """

    classifier: Classifier
    loaded: Loaded
    facts: Sequence[ImageFacts]
    predictions: Sequence[Prediction]
    population: Population = "withhold"

    @property
    def examples(self) -> list[Example]:
        """The images' files and labels."""
        return self.loaded.examples

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each image shows a pneumonia, shape (N,)."""
        return np.array([e.pneumonia for e in self.examples], bool)

    @property
    def probability(self) -> Floats:
        """Probability of pneumonia of each image, shape (N,); NaN where not assessed."""
        told = [p.pneumonia for p in self.predictions]
        return np.array([np.nan if p is None else p for p in told], np.float64)

    @property
    def patients(self) -> list[str]:
        """The patient of each image."""
        return [e.patient for e in self.examples]


def judge(classifier: Classifier, loaded: Loaded, population: Population = "withhold") -> Judgement:
    """Answer for every image as the worker would: its header is asked first, then its pixels."""
    facts = [subgroups.read_facts(example.path) for example in loaded.examples]
    verdicts = [check_header(f.header, population) if f.header else Verdict() for f in facts]
    answers = classifier.predict(loaded.images, population)
    predictions = [
        Prediction(reason=verdict.reason)
        if verdict.reason
        else replace(answer, flags=tuple(dict.fromkeys(verdict.flags + answer.flags)))
        for verdict, answer in zip(verdicts, answers, strict=True)
    ]
    return Judgement(classifier, loaded, facts, predictions, population)


def report(judgement: Judgement) -> dict[str, Any]:
    """Return everything that is told of a judgement, as JSON values."""
    info, examples = judgement.classifier.info, judgement.examples
    predictions = judgement.predictions
    labelled = list(zip(examples, predictions, strict=True))
    threshold = judgement.classifier.point.threshold
    rows = subgroups.compare(
        [e.label for e in examples],
        judgement.truth,
        judgement.probability,
        judgement.facts,
        threshold,
        {"flag": ["" if p.reason else ", ".join(p.flags) or "none" for p in predictions]},
    )
    values = {
        "model": {n: getattr(info, n) for n in ("name", "version", "digest", "threshold")},
        "undetermined": list(info.undetermined),
        "images": len(examples),
        "patients": len(set(judgement.patients)),
        "pneumonia": int(judgement.truth.sum()),
        "population": judgement.population,
        "refused": dict(Counter(p.reason for p in predictions if p.reason)),
        "flagged": dict(Counter(flag for p in predictions if not p.reason for flag in p.flags)),
        "all": figures(judgement),
        "by_label": {
            label: dict(
                Counter(p.finding or str(p.reason) for e, p in labelled if e.label == label)
            )
            for label in sorted({e.label for e in examples})
        },
        "subgroups": rows,
    }
    finite: dict[str, Any] = _finite(values)
    return finite


def figures(judgement: Judgement) -> dict[str, Any] | None:
    """Return the figures of what was answered; None when nothing was, or of one class only."""
    assessed = ~np.isnan(judgement.probability)
    truth, probability = judgement.truth[assessed], judgement.probability[assessed]
    if truth.all() or not truth.any():
        return None
    patients = [p for p, known in zip(judgement.patients, assessed, strict=True) if known]
    values = measure(truth, probability, patients, judgement.classifier.point)
    return {**values, **_kinds(judgement)}


def measure(
    truth: NDArray[np.bool_], probability: Floats, patients: Sequence[str], point: OperatingPoint
) -> dict[str, Any]:
    """Return everything that is told and drawn of probabilities, as JSON values.

    Parameters
    ----------
    truth, probability, patients
        Of each image; both classes present.
    point
        Threshold and undetermined band.
    """
    values = {
        **summary(truth, probability, patients, point),
        **rate_intervals(confusion(truth, probability >= point.threshold)),
        "decided": _decided(truth, probability, point),
        "average_precision": curves.average_precision(truth, probability),
        "findings": {
            name: dict(Counter(point.finding(p) for p in probability[truth == ill]))
            for name, ill in ((NORMAL, False), (PNEUMONIA, True))
        },
        "roc": curves.roc(truth, probability),
        "precision_recall": curves.precision_recall(truth, probability),
        "decision": curves.decision(truth, probability),
    }
    finite: dict[str, Any] = _finite(values)
    return finite


def _decided(
    truth: NDArray[np.bool_], probability: Floats, point: OperatingPoint
) -> dict[str, Any]:
    """Return the rates of the answers that were not undetermined."""
    decided = np.array([point.finding(p) != UNDETERMINED for p in probability], bool)
    counts = confusion(truth[decided], probability[decided] >= point.threshold)
    return {"images": int(decided.sum()), **rates(counts), **rate_intervals(counts)}


def _kinds(judgement: Judgement) -> dict[str, Any]:
    """Return how well bacterial and viral pneumonias are told apart, where both occur."""
    told = [
        (e.label == BACTERIAL, p.bacterial, e.patient)
        for e, p in zip(judgement.examples, judgement.predictions, strict=True)
        if e.label in (BACTERIAL, VIRAL) and p.bacterial is not None
    ]
    kind, score = np.array([k for k, _, _ in told], bool), np.array([s for _, s, _ in told], float)
    if kind.all() or not kind.any():
        return {}
    right = int(((score > 0.5) == kind).sum())
    return {
        "kinds": len(told),
        "bacterial_auc": auc(kind, score),
        "bacterial_auc_interval": list(
            bootstrap_interval(auc, kind, score, [patient for _, _, patient in told])
        ),
        "bacterial_accuracy": right / len(told),
        "bacterial_accuracy_interval": wilson(right, len(told)),
    }


def _finite(value: Any) -> Any:
    """Put None in place of what is not a number: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def worst(judgement: Judgement, count: int = WORST) -> list[int]:
    """Return the places of the images that were answered most wrongly, the worst first."""
    error = np.abs(judgement.probability - judgement.truth)
    called = judgement.probability >= judgement.classifier.point.threshold
    wrong = np.flatnonzero((called != judgement.truth) & ~np.isnan(error))
    return [int(i) for i in wrong[np.argsort(-error[wrong], kind="stable")][:count]]


def show(judgement: Judgement, places: Sequence[int]) -> list[Shown]:
    """Return images with what spoke for the answer each was given, numbered from 1."""
    explainer = Explainer.of(judgement.classifier)
    shown = []
    for number, place in enumerate(places, 1):
        image, probability = judgement.loaded.images[place], judgement.probability[place]
        called = probability >= judgement.classifier.point.threshold
        heatmap = explainer.heatmap(image, PNEUMONIA if called else NORMAL)
        finding = judgement.predictions[place].finding
        doubt = ", undetermined" if finding == UNDETERMINED else ""
        title = f"{number}: {judgement.examples[place].label}, told {probability:.0%}{doubt}"
        shown.append(Shown(np.asarray(image, np.float32), heatmap, title))
    return shown
