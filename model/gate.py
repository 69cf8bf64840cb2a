"""May the model judge this image? What its pixels say, in the network's own feature space.

Two questions, both answered from the pooled features of the one forward pass that also gives the
probabilities: does a linear head recognise a known misfit (an adult, a rotated or inverted chest,
no chest), and how far from the training children does the image lie at all?

References
----------
Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.fitness import NOT_CHEST, OUTSIDE_POPULATION

Floats = NDArray[np.float64]
BLANK = "BLANK"
BLANK_DEVIATION = 0.02  # of a prepared image, which otherwise spans [0, 1]
PASSING = 0.99  # share of the children that all tests together let pass
EACH_PASSING = (0.997, 0.998, 0.999, 1.0)  # and each test; the first that gives `PASSING` is taken
DISTURBED_LESS = 0.02  # so much less of the disturbed children


@dataclass(frozen=True)
class PixelGate:
    """Fitness statistics; part of the artifact.

    Parameters
    ----------
    mean, scale
        Shape (F,): standardise features, by the training children.
    axes
        Shape (F, K): whitened principal axes of the standardised features.
    residual
        Mean squared length of what the axes leave out.
    limit
        Largest distance that passes; see `distance`.
    outer_limit
        Largest distance at which an image outside the population is still a chest.
    reasons
        What each head recognises, R names; several heads may share one.
    weights, bias
        Shape (F, R) and (R,): a head recognises its misfit where its score is above zero.
    """

    mean: Floats
    scale: Floats
    axes: Floats
    residual: float
    limit: float
    outer_limit: float
    reasons: tuple[str, ...]
    weights: Floats
    bias: Floats

    def standardise(self, features: NDArray[Any]) -> Floats:
        """Return features with the mean and deviation of the training children taken out."""
        return np.asarray((np.asarray(features, np.float64) - self.mean) / self.scale)

    def distance(self, features: NDArray[Any]) -> Floats:
        """Return how unlike the training children each image is, shape (N,); their mean is 1.

        The root of the mean of the squared Mahalanobis distance per axis and the squared length
        outside the axes relative to the children's.
        """
        z = self.standardise(features)
        along = z @ self.axes
        inside = (along**2).mean(axis=1)
        outside = np.maximum((z**2).sum(axis=1) - self._explained(along), 0) / self.residual
        return np.asarray(np.sqrt((inside + outside) / 2))

    def _explained(self, along: Floats) -> Floats:
        """Return the squared length along the axes, which are whitened: undo their scaling."""
        lengths = np.linalg.norm(self.axes, axis=0)
        return np.asarray(((along / lengths) ** 2).sum(axis=1))

    def scores(self, features: NDArray[Any]) -> Floats:
        """Return each head's score, shape (N, R)."""
        return np.asarray(self.standardise(features) @ self.weights + self.bias)

    def judge(self, features: NDArray[Any]) -> list[str | None]:
        """Return, for each image, why it may not be judged, or None.

        Parameters
        ----------
        features
            Shape (N, F).
        """
        scores, distances = self.scores(features), self.distance(features)
        return [self._reason(s, float(d)) for s, d in zip(scores, distances, strict=True)]

    def _reason(self, scores: Floats, distance: float) -> str | None:
        """Return the reason of one image: that it is no upright chest outweighs whose it is."""
        recognised = [(s, r) for r, s in zip(self.reasons, scores, strict=True) if s > 0]
        misfit = max((pair for pair in recognised if pair[1] != OUTSIDE_POPULATION), default=None)
        if misfit:
            return misfit[1]
        if distance > (self.outer_limit if recognised else self.limit):
            return NOT_CHEST
        return OUTSIDE_POPULATION if recognised else None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays for the artifact."""
        named = {
            "mean": self.mean,
            "scale": self.scale,
            "axes": self.axes,
            "weights": self.weights,
            "bias": self.bias,
        }
        return {f"gate/{name}": np.asarray(a, np.float32) for name, a in named.items()}

    def description(self) -> dict[str, Any]:
        """Return the rest for the artifact, as JSON values."""
        return {
            "residual": self.residual,
            "limit": self.limit,
            "outer_limit": self.outer_limit,
            "reasons": list(self.reasons),
            "blank_deviation": BLANK_DEVIATION,
        }

    @classmethod
    def from_artifact(
        cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]
    ) -> PixelGate:
        """Read a gate back from an artifact."""
        named = {
            name: arrays[f"gate/{name}"].astype(np.float64)
            for name in ("mean", "scale", "axes", "weights", "bias")
        }
        return cls(
            **named,
            residual=float(description["residual"]),
            limit=float(description["limit"]),
            outer_limit=float(description["outer_limit"]),
            reasons=tuple(description["reasons"]),
        )


def is_blank(prepared: NDArray[np.floating[Any]]) -> bool:
    """Return whether a prepared image shows nothing."""
    return float(prepared.std()) < BLANK_DEVIATION


@dataclass(frozen=True, slots=True)
class Misfits:
    """Features of one kind of images that may not be judged.

    Parameters
    ----------
    reason
        Why not.
    fitted
        To fit the kind's head, shape (N, F).
    placing
        Others, to place its threshold, shape (M, F).
    """

    reason: str
    fitted: NDArray[Any]
    placing: NDArray[Any]


def fit_gate(
    children: NDArray[Any],
    held_out: NDArray[Any],
    misfits: Sequence[Misfits],
    *,
    disturbed: NDArray[Any] | None = None,
    axes: int = 64,
    ridge: float = 3.0,
) -> PixelGate:
    """Fit the statistics.

    Parameters
    ----------
    children
        Features of training children, shape (N, F).
    held_out
        Features of children not trained on, shape (V, F): they set every threshold, such that
        `PASSING` of them pass all tests together.
    misfits
        The kinds.
    disturbed
        Features of children not trained on whose exposure, sharpness and framing were changed,
        shape (D, F): a hospital of the population whose images look somewhat different.
    axes
        Number of principal axes.
    ridge
        Penalty on the heads' weights.
    """
    base = _fit_distance(children, axes)
    adults = [m.fitted for m in misfits if m.reason == OUTSIDE_POPULATION]
    upright = np.vstack([base.standardise(f) for f in (children, *adults)])
    heads = [
        fit_head(
            base.standardise(children) if m.reason == OUTSIDE_POPULATION else upright,
            base.standardise(m.fitted),
            ridge,
        )
        for m in misfits
    ]
    weights = np.stack([w for w, _ in heads], axis=1) if heads else np.zeros((len(base.mean), 0))
    bias = np.array([b for _, b in heads])
    whole = replace(base, reasons=tuple(m.reason for m in misfits), weights=weights, bias=bias)
    for each in EACH_PASSING:
        gate = _placed(whole, held_out, disturbed, misfits, each)
        if np.mean([reason is None for reason in gate.judge(held_out)]) >= PASSING:
            break
    return gate


def _placed(
    gate: PixelGate,
    held_out: NDArray[Any],
    disturbed: NDArray[Any] | None,
    misfits: Sequence[Misfits],
    each: float,
) -> PixelGate:
    """Return the gate with the thresholds at which each test lets a share `each` pass."""

    def passing(measure: Callable[[NDArray[Any]], Floats]) -> Floats:
        most = np.quantile(measure(held_out), each, axis=0)
        if disturbed is None:
            return np.asarray(most)
        return np.maximum(most, np.quantile(measure(disturbed), each - DISTURBED_LESS, axis=0))

    limit = float(passing(gate.distance))
    far = [gate.distance(m.fitted) for m in misfits if m.reason == OUTSIDE_POPULATION]
    outer = max([limit, *(float(np.quantile(distance, 0.99)) for distance in far)])
    passed = passing(gate.scores)
    caught = [np.quantile(gate.scores(m.placing)[:, i], 0.05) for i, m in enumerate(misfits)]
    # Where the two are well apart, half way: images of another hospital get some room.
    bias = gate.bias - np.maximum(passed, (passed + np.array(caught)) / 2)
    return replace(gate, limit=limit, outer_limit=outer, bias=bias)


def _fit_distance(children: NDArray[Any], axes: int) -> PixelGate:
    x = np.asarray(children, np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = (x - mean) / scale
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    keep = np.argsort(values)[::-1][: min(axes, z.shape[1] - 1, len(z) - 1)]
    whitened = vectors[:, keep] / np.sqrt(np.maximum(values[keep], 1e-9))
    residual = float(max(values.sum() - values[keep].sum(), 1e-9))
    nothing = np.zeros((z.shape[1], 0))
    return PixelGate(mean, scale, whitened, residual, np.inf, np.inf, (), nothing, np.zeros(0))


def fit_head(fit: Floats, misfit: Floats, ridge: float, rounds: int = 20) -> tuple[Floats, float]:
    """Fit a ridge logistic regression by Newton's method; both sides weigh alike.

    Parameters
    ----------
    fit, misfit
        Standardised features, shape (N, F) and (M, F).
    ridge
        Penalty on the weights.
    rounds
        Most steps.

    Returns
    -------
    tuple
        Weights (F,) and bias; the score is above zero where `misfit` is more likely.
    """
    x = np.vstack([fit, misfit])
    x = np.hstack([x, np.ones((len(x), 1))])
    y = np.r_[np.zeros(len(fit)), np.ones(len(misfit))]
    share = np.where(y > 0, len(x) / (2 * len(misfit)), len(x) / (2 * len(fit)))
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 1e-6
    w = np.zeros(x.shape[1])
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        slope = x.T @ (share * (p - y)) + penalty * w
        curve = (x * (share * np.maximum(p * (1 - p), 1e-5))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        w -= step
        if np.abs(step).max() < 1e-4:
            break
    return w[:-1], float(w[-1])
