"""May the model judge this image? What its pixels say, in the network's own feature space.

Two questions, both answered from the pooled features of the one forward pass that also gives the
probabilities: does a linear head recognise a known misfit (an adult, a rotated or inverted chest,
no chest), and how far from the training children does the image lie at all?

References
----------
Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.fitness import NOT_CHEST, OUTSIDE_POPULATION

Floats = NDArray[np.float64]
BLANK = "BLANK"
BLANK_DEVIATION = 0.02  # of a prepared image, which otherwise spans [0, 1]


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
        What each head recognises, R names.
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
        recognised = {r: s for r, s in zip(self.reasons, scores, strict=True) if s > 0}
        outside = recognised.pop(OUTSIDE_POPULATION, None) is not None
        if recognised:
            return max(recognised, key=lambda reason: recognised[reason])
        if distance > (self.outer_limit if outside else self.limit):
            return NOT_CHEST
        return OUTSIDE_POPULATION if outside else None

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


def fit_gate(
    children: NDArray[Any],
    held_out: NDArray[Any],
    misfits: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    *,
    passing: float = 0.997,
    axes: int = 64,
    ridge: float = 30.0,
) -> PixelGate:
    """Fit the statistics.

    Parameters
    ----------
    children
        Features of training children, shape (N, F).
    held_out
        Features of children not trained on, shape (V, F): they set every threshold.
    misfits
        Reason -> features of such images to fit its head, and others to place its threshold.
    passing
        Share of the held-out children that each single test lets pass.
    axes
        Number of principal axes.
    ridge
        Penalty on the heads' weights.
    """
    base = _fit_distance(children, axes)
    limit = float(np.quantile(base.distance(held_out), passing))
    outer_limit = limit
    upright = base.standardise(children)
    if OUTSIDE_POPULATION in misfits:
        outside = misfits[OUTSIDE_POPULATION][0]
        outer_limit = max(limit, float(np.quantile(base.distance(outside), 0.99)))
        upright = np.vstack([upright, base.standardise(outside)])
    heads = []
    for reason, (fitted, others) in misfits.items():
        fit = base.standardise(children) if reason == OUTSIDE_POPULATION else upright
        weight, bias = _fit_head(fit, base.standardise(fitted), ridge)
        passed = float(np.quantile(base.standardise(held_out) @ weight + bias, passing))
        caught = float(np.quantile(base.standardise(others) @ weight + bias, 0.05))
        # Where the two are well apart, half way: images of another hospital get some room.
        heads.append((weight, bias - max(passed, (passed + caught) / 2)))
    return replace(
        base,
        limit=limit,
        outer_limit=outer_limit,
        reasons=tuple(misfits),
        weights=np.stack([w for w, _ in heads], axis=1),
        bias=np.array([b for _, b in heads]),
    )


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


def _fit_head(fit: Floats, misfit: Floats, ridge: float, rounds: int = 20) -> tuple[Floats, float]:
    """Fit a ridge logistic regression by Newton's method; both sides weigh alike."""
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
