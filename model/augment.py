"""Training-time changes of a batch that a radiographer could have made and the answer survives.

All functions take and return float32 batches of shape (N, size, size, 1) in [0, 1]. The set has
its own look (one hospital: dark collimated borders on the normals, one marker style), so the
changes aim at the look: exposure, contrast, sharpness, framing, markers.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any  # a tf.Tensor; TensorFlow ships no types


def augment(batch: Tensor) -> Tensor:
    """Apply every change, each with its own random strength per image."""
    batch = geometry(batch)
    batch = exposure(batch)
    batch = sharpness(batch)
    batch = occlusion(batch)
    return tf.clip_by_value(batch, 0.0, 1.0)


def _uniform(batch: Tensor, low: float, high: float) -> Tensor:
    """Return one random number per image, shape (N, 1, 1, 1)."""
    return tf.random.uniform((tf.shape(batch)[0], 1, 1, 1), low, high)


def geometry(batch: Tensor) -> Tensor:
    """Flip left to right, rotate up to 10 degrees, zoom, shear and shift."""
    count = tf.shape(batch)[0]
    side = tf.cast(tf.shape(batch)[1], tf.float32)
    angle = tf.random.uniform((count,), -0.175, 0.175)
    shear = tf.random.uniform((count,), -0.08, 0.08)
    zoom = tf.random.uniform((count, 2), 0.78, 1.12)
    flip = tf.sign(tf.random.uniform((count,), -1.0, 1.0))
    shift = tf.random.uniform((count, 2), -0.07, 0.07) * side
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


def exposure(batch: Tensor) -> Tensor:
    """Change gamma, contrast and brightness, and add a smooth field as scatter would."""
    gamma = tf.exp(_uniform(batch, -0.5, 0.5))
    batch = tf.pow(tf.clip_by_value(batch, 1e-4, 1.0), gamma)
    coarse = tf.random.normal((tf.shape(batch)[0], 3, 3, 1), stddev=0.06)
    batch += tf.image.resize(coarse, tf.shape(batch)[1:3], "bicubic")
    contrast, offset = _uniform(batch, 0.75, 1.25), _uniform(batch, -0.1, 0.1)
    return tf.clip_by_value((batch - 0.5) * contrast + 0.5 + offset, 0.0, 1.0)


def sharpness(batch: Tensor) -> Tensor:
    """Blur or sharpen, then add noise: resolution and JPEG quality differ between classes."""
    kernel = tf.constant([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    kernel = tf.reshape(kernel[:, None] * kernel[None, :], (5, 5, 1, 1))
    blurred = tf.nn.depthwise_conv2d(batch, kernel, [1, 1, 1, 1], "SAME")
    amount = _uniform(batch, -0.6, 1.0)
    noise = tf.random.normal(tf.shape(batch)) * _uniform(batch, 0.0, 0.035)
    return batch + amount * (blurred - batch) + noise


def occlusion(batch: Tensor) -> Tensor:
    """Cover one random rectangle with a random grey, in two images of five."""
    side = tf.shape(batch)[1]
    grid = tf.linspace(0.0, 1.0, side)
    middle_y, middle_x = _uniform(batch, 0.0, 1.0), _uniform(batch, 0.0, 1.0)
    half_y, half_x = _uniform(batch, 0.03, 0.15), _uniform(batch, 0.03, 0.15)
    rows = tf.abs(grid[None, :, None, None] - middle_y) < half_y
    columns = tf.abs(grid[None, None, :, None] - middle_x) < half_x
    covered = rows & columns & (_uniform(batch, 0.0, 1.0) < 0.4)
    return tf.where(covered, _uniform(batch, 0.0, 1.0), batch)
