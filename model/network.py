"""The network: a keras-hub ResNet on one grey channel, pooled at two depths.

References
----------
He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

# Backbone -> blocks per stage, kind of block (He et al., table 1).
BACKBONES: dict[str, tuple[list[int], str]] = {
    "resnet18": ([2, 2, 2, 2], "basic_block"),
    "resnet34": ([3, 4, 6, 3], "basic_block"),
    "resnet50": ([3, 4, 6, 3], "bottleneck_block"),
    "resnet101": ([3, 4, 23, 3], "bottleneck_block"),
    "resnet152": ([3, 8, 36, 3], "bottleneck_block"),
}
HEAD = "logits"

# ImageNet's mean and deviation per channel, which the public weights expect taken out.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

Weights = list[NDArray[np.float32]]


def build_network(backbone: str, size: int, classes: int, *, dropout: float = 0.2) -> keras.Model:
    """Build a network with random weights.

    Parameters
    ----------
    backbone
        A key of `BACKBONES`.
    size
        Side of the input, pixels.
    classes
        Number of outputs.
    dropout
        Share of the pooled features dropped while training.

    Returns
    -------
    keras.Model
        From (N, size, size, 1) in [0, 1] to two outputs, both float32: logits (N, classes) and
        features (N, F), the pooled third and fourth stages side by side. It is made of plain
        Keras layers only, so that loading it needs no keras-hub.
    """
    stages = _backbone(backbone, size, channels=1)
    middle = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool_middle")(
        stages.pyramid_outputs["P4"]
    )
    last = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool_last")(stages.output)
    features = keras.layers.Concatenate(dtype="float32", name="features")([middle, last])
    dropped = keras.layers.Dropout(dropout, dtype="float32", name="dropout")(last)
    logits = keras.layers.Dense(classes, dtype="float32", name=HEAD)(dropped)
    return keras.Model(stages.input, [logits, features], name=backbone)


def _backbone(backbone: str, size: int, channels: int) -> Any:
    import keras_hub

    blocks, kind = BACKBONES[backbone]
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=kind,
        image_shape=(size, size, channels),
    )


def load_imagenet(network: keras.Model, backbone: str) -> None:
    """Start from keras-hub's ImageNet weights (downloaded by keras-hub, or from its cache)."""
    import keras_hub

    preset = backbone.replace("resnet", "resnet_") + "_imagenet"
    load_colour_weights(network, keras_hub.models.Backbone.from_preset(preset))


def load_weights_file(network: keras.Model, backbone: str, path: Path) -> None:
    """Start from a `.weights.h5` or `.keras` file of the same keras-hub backbone in colour.

    Raises
    ------
    ValueError
        If the file holds another architecture.
    """
    if path.suffix == ".keras":
        source: Any = keras.models.load_model(path, compile=False)
    else:
        source = _backbone(backbone, 224, channels=3)
        source.load_weights(path)
    load_colour_weights(network, source)


def load_colour_weights(network: keras.Model, source: Any) -> None:
    """Copy a colour backbone's weights into the grey network; the head stays as it is.

    A grey image shown in three equal channels gives the sum of the first kernel over its
    channels, so the copy answers as the original would (but for the padded rim).
    """
    theirs = [w for layer in source.layers for w in layer.get_weights()]
    ours = [layer for layer in network.layers if layer.name != HEAD and layer.weights]
    shapes = [tuple(w.shape) for layer in ours for w in layer.weights]
    if [w.shape for w in theirs[1:]] != shapes[1:]:
        raise ValueError(f"the weights are not those of a {network.name}")
    kernel = theirs[0] / _DEVIATION[None, None, :, None]
    shift = (kernel * _MEAN[None, None, :, None]).sum(axis=(0, 1, 2))
    theirs[0] = kernel.sum(axis=2, keepdims=True)
    start = 0
    for layer in ours:
        count = len(layer.weights)
        layer.set_weights(theirs[start : start + count])
        start += count
    first_norm = next(la for la in ours if isinstance(la, keras.layers.BatchNormalization))
    # conv((x - mean) / deviation) = conv'(x) - shift, and the normalisation after it takes a shift.
    first_norm.moving_mean.assign(first_norm.moving_mean + shift)


def transfer(network: keras.Model, weights: Weights) -> bool:
    """Copy an artifact's weights; return whether the head fitted too (else it stays random).

    Raises
    ------
    ValueError
        If the artifact holds another architecture.
    """
    own = network.get_weights()
    if [w.shape for w in own[:-2]] != [w.shape for w in weights[:-2]]:
        raise ValueError(f"the artifact's network is not a {network.name}")
    fits = [w.shape for w in own] == [w.shape for w in weights]
    network.set_weights(weights if fits else [*weights[:-2], *own[-2:]])
    return fits
