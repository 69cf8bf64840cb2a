"""Training-time changes of a batch that a radiographer could have made and the answer survives.

All functions take and return float32 batches of shape (N, size, size, 1) in [0, 1]. The set has
its own look (one hospital: dark collimated borders on the normals, one marker style), so the
changes aim at the look: exposure, contrast, sharpness, framing, markers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Tensor = Any  # a tf.Tensor; TensorFlow ships no types


def augment(batch: Tensor, strength: float = 1.0) -> Tensor:
    """Apply every change, each with its own random extent per image.

    Parameters
    ----------
    batch
        Images.
    strength
        Factor on extent and frequency of every change but mirroring, from 0 to 1.
    """
    batch = geometry(batch, strength)
    batch = exposure(batch, strength)
    batch = resolution(batch, strength)
    batch = sharpness(batch, strength)
    batch = markers(batch, strength)
    batch = occlusion(batch, strength)
    return tf.clip_by_value(batch, 0.0, 1.0)


def disturbed(images: NDArray[np.floating[Any]], strength: float = 1.0) -> NDArray[np.float32]:
    """Return images (N, size, size) with every change applied, in the same shape."""
    whole = np.asarray(images, np.float32)[..., None]
    parts = [augment(tf.constant(whole[i : i + 64]), strength) for i in range(0, len(whole), 64)]
    return np.concatenate([part.numpy() for part in parts])[..., 0]


def _uniform(batch: Tensor, low: float, high: float) -> Tensor:
    """Return one random number per image, shape (N, 1, 1, 1)."""
    return tf.random.uniform((tf.shape(batch)[0], 1, 1, 1), low, high)


def _chosen(batch: Tensor, share: float) -> Tensor:
    """Choose about this share of the images, shape (N, 1, 1, 1)."""
    return _uniform(batch, 0.0, 1.0) < share


def geometry(batch: Tensor, strength: float) -> Tensor:
    """Mirror, rotate up to 10 degrees, zoom, shear and shift; the two sides zoom by themselves."""
    count = tf.shape(batch)[0]
    side = tf.cast(tf.shape(batch)[1], tf.float32)
    angle = strength * tf.random.uniform((count,), -0.175, 0.175)
    shear = strength * tf.random.uniform((count,), -0.08, 0.08)
    zoom = 1.0 + strength * tf.random.uniform((count, 2), -0.2, 0.12)
    flip = tf.sign(tf.random.uniform((count,), -1.0, 1.0))
    shift = strength * tf.random.uniform((count, 2), -0.07, 0.07) * side
    a, b = tf.cos(angle) * zoom[:, 0] * flip, -tf.sin(angle + shear) * zoom[:, 1]
    c, d = tf.sin(angle) * zoom[:, 0] * flip, tf.cos(angle + shear) * zoom[:, 1]
    centre = (side - 1.0) / 2.0
    dx = centre - (a + b) * centre + shift[:, 0]
    dy = centre - (c + d) * centre + shift[:, 1]
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=batch,
        transforms=tf.stack([a, b, dx, c, d, dy, zero, zero], axis=1),
        output_shape=tf.shape(batch)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def exposure(batch: Tensor, strength: float) -> Tensor:
    """Change gamma, contrast and brightness, and add a smooth field as scatter would."""
    gamma = tf.exp(strength * _uniform(batch, -0.4, 0.4))
    batch = tf.pow(tf.clip_by_value(batch, 1e-4, 1.0), gamma)
    coarse = tf.random.normal((tf.shape(batch)[0], 3, 3, 1), stddev=0.06)
    batch += strength * tf.image.resize(coarse, tf.shape(batch)[1:3], "bicubic")
    contrast = 1.0 + strength * _uniform(batch, -0.3, 0.15)
    offset = strength * _uniform(batch, -0.08, 0.08)
    return tf.clip_by_value((batch - 0.5) * contrast + 0.5 + offset, 0.0, 1.0)


def resolution(batch: Tensor, strength: float) -> Tensor:
    """Reduce two images of five and enlarge them again: detectors and archives differ in detail."""
    side = tf.shape(batch)[1]
    reduced = tf.cast(tf.cast(side, tf.float32) * tf.random.uniform((), 0.35, 0.9), tf.int32)
    small = tf.image.resize(batch, (reduced, reduced), "area")
    coarse = tf.image.resize(small, (side, side), "bilinear")
    return tf.where(_chosen(batch, 0.4 * strength), coarse, batch)


def sharpness(batch: Tensor, strength: float) -> Tensor:
    """Blur or sharpen, then add noise: resolution and JPEG quality differ between classes."""
    kernel = tf.constant([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    kernel = tf.reshape(kernel[:, None] * kernel[None, :], (5, 5, 1, 1))
    blurred = tf.nn.depthwise_conv2d(batch, kernel, [1, 1, 1, 1], "SAME")
    amount = strength * _uniform(batch, -0.6, 1.0)
    noise = strength * tf.random.normal(tf.shape(batch)) * _uniform(batch, 0.0, 0.03)
    return batch + amount * (blurred - batch) + noise


def markers(batch: Tensor, strength: float) -> Tensor:
    """Blank each upper corner in one image of three: side markers tell the source, not the lung."""
    grid = tf.linspace(0.0, 1.0, tf.shape(batch)[1])
    row, column = grid[None, :, None, None], grid[None, None, :, None]
    for corner in (column, 1.0 - column):
        inside = (row < _uniform(batch, 0.08, 0.3)) & (corner < _uniform(batch, 0.08, 0.3))
        blanked = inside & _chosen(batch, 0.33 * strength)
        batch = tf.where(blanked, _uniform(batch, 0.0, 0.4), batch)
    return batch


def occlusion(batch: Tensor, strength: float) -> Tensor:
    """Cover one random rectangle with a random grey, in two images of five."""
    side = tf.shape(batch)[1]
    grid = tf.linspace(0.0, 1.0, side)
    middle_y, middle_x = _uniform(batch, 0.0, 1.0), _uniform(batch, 0.0, 1.0)
    half_y, half_x = _uniform(batch, 0.03, 0.15), _uniform(batch, 0.03, 0.15)
    rows = tf.abs(grid[None, :, None, None] - middle_y) < half_y
    columns = tf.abs(grid[None, None, :, None] - middle_x) < half_x
    covered = rows & columns & _chosen(batch, 0.4 * strength)
    return tf.where(covered, _uniform(batch, 0.0, 1.0), batch)
