"""Where in an image the evidence lies: one heat map an answer, from one forward and backward pass.

HiResCAM (activation times gradient, place by place) is taken at the two stages that the network
pools, and the two maps are averaged: the map of the last stage, which alone feeds the answer, is
what each place adds to it; that of the stage before is twice as fine. Only the stage between the
two is gone through backwards, so that a map costs about as much as an answer and a half
(`benchmarks/explain.py`).

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017. Draelos & Carin, Use HiResCAM instead of Grad-CAM for
faithful explanations of convolutional neural networks, arXiv:2011.08891, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.calibration import ABSENT
from model.data import BACTERIAL, NORMAL, PNEUMONIA, VIRAL
from model.predict import Classifier, Prediction
from model.preprocess import FloatImage

BATCH = 16
STAGES = ("pool_middle", "pool_last")  # the layers of `model.network` whose input is mapped

Maps = Callable[[NDArray[np.float32], NDArray[np.float32]], Sequence[NDArray[np.float32]]]


class Explainer:
    """Heat maps of a network.

    Parameters
    ----------
    network
        From `model.network.build_network`, or `Classifier.network`.
    labels
        Its classes.
    """

    def __init__(self, network: Any, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.size = int(network.input_shape[1])
        self._maps = _graph(network, self.size)

    @classmethod
    def of(cls, classifier: Classifier) -> Explainer:
        """Explain a classifier's answers, with the weights it already holds."""
        return cls(classifier.network, classifier.info.labels)

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Explainer:
        """Read an artifact and build its network.

        Raises
        ------
        ConfigurationError
            As `Classifier.load`.
        """
        return cls.of(Classifier.load(path, device))

    def heatmaps(self, images: NDArray[Any], target: str = PNEUMONIA) -> NDArray[np.float32]:
        """Show what speaks for an answer.

        Parameters
        ----------
        images
            Shape (N, size, size), prepared.
        target
            `pneumonia`, `normal`, `bacterial` or `viral`; the last two as against each other.

        Returns
        -------
        ndarray
            Shape (N, size, size), float32, in [0, 1]: 1 where an image's evidence is strongest,
            all zeros where nothing speaks for the answer.

        Raises
        ------
        ValueError
            If the network does not tell `target`.
        """
        contrast = _contrast(self.labels, target)
        batches = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
        maps = [self._batch(np.asarray(batch, np.float32), contrast) for batch in batches]
        return np.concatenate([np.zeros((0, self.size, self.size), np.float32), *maps])

    def heatmap(self, image: NDArray[Any], target: str = PNEUMONIA) -> FloatImage:
        """Return the map (size, size) of one prepared image; see `heatmaps`."""
        return self.heatmaps(np.asarray(image)[None], target)[0]

    def _batch(
        self, images: NDArray[np.float32], contrast: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        stages = self._maps(images[..., None], contrast)
        enlarged = [[_enlarge(_scaled(m), self.size) for m in stage] for stage in stages]
        return np.stack([_scaled((m + n) / 2) for m, n in zip(*enlarged, strict=True)])


def target_of(prediction: Prediction) -> str:
    """Return the target that explains an answer: what speaks for its finding."""
    return NORMAL if prediction.finding == ABSENT else PNEUMONIA


def _contrast(labels: tuple[str, ...], target: str) -> NDArray[np.float32]:
    """Return the signs of the classes: 1 for the target, -1 against it, 0 of no concern."""
    if target in (BACTERIAL, VIRAL) and {BACTERIAL, VIRAL} <= set(labels):
        signs = [float(la == target) - float(la not in (NORMAL, target)) for la in labels]
    elif target in (PNEUMONIA, NORMAL):
        signs = [1.0 if (la == NORMAL) == (target == NORMAL) else -1.0 for la in labels]
    else:
        raise ValueError(f"a network of {', '.join(labels)} does not tell {target}")
    return np.array(signs, np.float32)


def _graph(network: Any, size: int) -> Maps:
    """Return images (N, size, size, 1), signs (C,) -> a map (N, rows, columns) for each stage."""
    import keras
    import tensorflow as tf

    inputs = [network.get_layer(name).input for name in STAGES]
    logits = network.outputs[0]
    whole = keras.Model(network.inputs[0], [*inputs, logits])

    def smooth(gradient: Any) -> Any:
        # A stride of 2 passes most of its gradient to every other place; (1, 2, 1) / 4 evens it.
        padded = tf.pad(gradient, [(0, 0), (1, 1), (1, 1), (0, 0)], "SYMMETRIC")
        return tf.nn.avg_pool2d(tf.nn.avg_pool2d(padded, 2, 1, "VALID"), 2, 1, "VALID")

    def total(outputs: Any, chosen: Any) -> Any:
        return tf.reduce_logsumexp(tf.where(chosen, outputs, -1e9), axis=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, size, size, 1), tf.float32),
            tf.TensorSpec((logits.shape[1],), tf.float32),
        ]
    )
    def maps(images: Any, signs: Any) -> Any:
        with tf.GradientTape() as tape:
            *stages, outputs = whole(images, training=False)
            outputs = tf.cast(outputs, tf.float32)
            score = total(outputs, signs > 0) - total(outputs, signs < 0)  # log odds
        gradients = tape.gradient(score, stages)
        return [
            tf.reduce_sum(smooth(tf.cast(g, tf.float32)) * tf.cast(s, tf.float32), axis=-1)
            for g, s in zip(gradients, stages, strict=True)
        ]

    return lambda images, signs: [m.numpy() for m in maps(images, signs)]


def _scaled(heat: NDArray[np.float32]) -> FloatImage:
    positive = np.maximum(heat, 0)
    return np.asarray(positive / max(float(positive.max()), 1e-12), np.float32)


def _enlarge(heat: FloatImage, side: int) -> FloatImage:
    enlarged = Image.fromarray(heat).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(enlarged, np.float32)
