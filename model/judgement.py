"""A classifier's answers held against the truth: what evaluation and TensorBoard both show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import curves, subgroups
from model.calibration import UNDETERMINED
from model.data import BACTERIAL, NORMAL, PNEUMONIA, VIRAL, Example, Loaded
from model.explain import Explainer
from model.figures import Shown
from model.fitness import Population, check_header
from model.metrics import Floats, auc, confusion, rate_intervals, summary
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
    """

    classifier: Classifier
    loaded: Loaded
    facts: Sequence[ImageFacts]
    predictions: Sequence[Prediction]

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
        """The patient of each image: the header's, else the file name's."""
        pairs = zip(self.facts, self.examples, strict=True)
        return [facts.patient or example.patient for facts, example in pairs]


def judge(classifier: Classifier, loaded: Loaded, population: Population = "withhold") -> Judgement:
    """Answer for every image as the worker would: its header is asked first, then its pixels."""
    facts = [subgroups.read_facts(example.path) for example in loaded.examples]
    verdicts = [check_header(f.header, population).reason if f.header else None for f in facts]
    answers = classifier.predict(loaded.images, population)
    predictions = [
        Prediction(reason=reason) if reason else answer
        for reason, answer in zip(verdicts, answers, strict=True)
    ]
    return Judgement(classifier, loaded, facts, predictions)


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
    )
    values = {
        "model": {n: getattr(info, n) for n in ("name", "version", "digest", "threshold")},
        "undetermined": list(info.undetermined),
        "refused": dict(Counter(p.reason for p in predictions if p.reason)),
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
    point = judgement.classifier.point
    values = {
        **summary(truth, probability, patients, point),
        **rate_intervals(confusion(truth, probability >= point.threshold)),
        "average_precision": curves.average_precision(truth, probability),
        "findings": {
            name: dict(Counter(point.finding(p) for p in probability[truth == ill]))
            for name, ill in ((NORMAL, False), (PNEUMONIA, True))
        },
        "roc": curves.roc(truth, probability),
        "precision_recall": curves.precision_recall(truth, probability),
        "decision": curves.decision(truth, probability),
        **_kinds(judgement),
    }
    finite: dict[str, Any] = _finite(values)
    return finite


def _kinds(judgement: Judgement) -> dict[str, float]:
    pairs = zip(judgement.examples, judgement.predictions, strict=True)
    known = [(e.label == BACTERIAL, p.bacterial) for e, p in pairs if e.label in (BACTERIAL, VIRAL)]
    told = [(kind, score) for kind, score in known if score is not None]
    if not told:
        return {}
    kind, score = np.array([k for k, _ in told]), np.array([s for _, s in told], np.float64)
    right = float(((score > 0.5) == kind).mean())
    return {"bacterial_auc": auc(kind, score), "bacterial_accuracy": right}


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
        title = f"{number}: {judgement.examples[place].label}, told {probability:.2f}{doubt}"
        shown.append(Shown(np.asarray(image, np.float32), heatmap, title))
    return shown
