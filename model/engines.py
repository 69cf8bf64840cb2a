"""What runs the network: TensorFlow anywhere, OpenVINO on a CPU where it is the faster one.

TensorFlow is loaded by what needs it only: where OpenVINO answers, that is its first start.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ConfigurationError
from model.artifact import Artifact
from model.quiet import without_greeting

log = logging.getLogger(__name__)

Forward = Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]]

ENGINES = ("auto", "tensorflow", "openvino")
DEVICES = ("auto", "cpu", "gpu")
HALF = "mixed_float16"  # on a GPU: every one that TensorFlow supports has it, unlike bfloat16

# How Linux shows a GPU that TensorFlow could use: CUDA, ROCm, and CUDA in WSL 2.
_GPU_NODES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class Engine(NamedTuple):
    """A running network.

    Parameters
    ----------
    name
        Engine and precision, for people.
    forward
        Images (N, size, size, 1) -> logits (N, C) and features (N, F), both float32.
    pads
        Whether it should see few sizes of batches; see `model.batches`.
    """

    name: str
    forward: Forward
    pads: bool = False


def start(
    released: Artifact,
    build: Callable[[], Any],
    device: str = "auto",
    engine: str = "tensorflow",
    cache: Path | None = None,
    gpu_memory_mb: int | None = None,
) -> Engine:
    """Start the engine that is asked for.

    Parameters
    ----------
    released
        The artifact.
    build
        Builds its Keras network; called only when it is needed.
    device
        `auto`, `cpu` or `gpu`.
    engine
        `tensorflow`, `openvino`, or `auto`: TensorFlow on a GPU; on a CPU OpenVINO, where it is
        installed and answered faster when it was tried on this machine; else TensorFlow.
    cache
        Folder where the network is kept as OpenVINO reads it; it may be emptied at any time.
    gpu_memory_mb
        The most memory of a GPU to use; by default as much as is needed.

    Raises
    ------
    ConfigurationError
        If there is no such device or engine here, or the network cannot be built.
    """
    if choose(device, engine) == "openvino":
        started = _start_openvino(released, build, cache, insisted=engine == "openvino")
        if started is not None:
            return started
    place = place_of(device)
    on_gpu = place.startswith("/GPU")
    if on_gpu:
        limit_gpu_memory(gpu_memory_mb)  # before anything is on it
    network = build()
    if on_gpu:
        use_half_precision(network)
    size = int(released.description["preprocessing"]["size"])
    precision = "float16" if on_gpu else "float32"
    return Engine(f"tensorflow {precision}", forward_graph(network, size, place), pads=on_gpu)


def choose(device: str, engine: str) -> str:
    """Return the engine to try, without loading any.

    Raises
    ------
    ConfigurationError
        If there is no such engine or device here.
    """
    for key, value, known in (("ENGINE", engine, ENGINES), ("DEVICE", device, DEVICES)):
        if value not in known:
            raise ConfigurationError(f"CXR_{key}", f"must be one of {', '.join(known)}")
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "openvino":
        if device == "gpu":
            advice = "set CXR_DEVICE=cpu, or CXR_ENGINE=tensorflow"
            raise ConfigurationError("CXR_ENGINE", f"openvino runs on the CPU here; {advice}")
        if not installed:
            advice = "pip install openvino scipy, or set auto"
            raise ConfigurationError("CXR_ENGINE", f"openvino is not installed; {advice}")
        return engine
    if engine == "tensorflow" or not installed or device == "gpu":
        return "tensorflow"
    return "tensorflow" if device == "auto" and _has_gpu() else "openvino"


def _has_gpu() -> bool:
    if sys.platform == "linux" and not any(Path(node).exists() for node in _GPU_NODES):
        return False  # known without loading TensorFlow
    return place_of("auto").startswith("/GPU")


def _start_openvino(
    released: Artifact, build: Callable[[], Any], cache: Path | None, *, insisted: bool
) -> Engine | None:
    """Start OpenVINO; None when it is not worth it and nobody insists."""
    from model import openvino_engine

    try:
        started = openvino_engine.load(released, build, cache)
    except ConfigurationError:
        raise
    except Exception as error:
        # Its libraries raise what they like; TensorFlow answers as well, only later.
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if insisted:
            raise ConfigurationError("CXR_ENGINE", f"openvino cannot be used: {problem}") from error
        log.warning("OpenVINO cannot be used, TensorFlow answers: %s", problem)
        return None
    if started.speed < 1 and not insisted:
        log.info("TensorFlow answers: OpenVINO was slower here (%.2f times)", started.speed)
        return None
    return Engine(f"openvino {started.precision}", started.forward)


# --- TensorFlow ------------------------------------------------------------------------------


def build_network(released: Artifact, device: str = "auto") -> Any:
    """Build an artifact's Keras network, with its weights.

    Raises
    ------
    ConfigurationError
        If Keras cannot build it, or there is no such device.
    """
    with without_greeting():
        import keras
        import tensorflow as tf

    with tf.device(place_of(device)):
        try:
            network = keras.models.model_from_json(released.description["architecture"])
            network.set_weights(released.network_weights())
        except (ValueError, TypeError, KeyError) as error:
            problem = " ".join(str(error).split())[:300]
            raise ConfigurationError(
                "CXR_MODEL", f"the network cannot be built by Keras {keras.__version__}: {problem}"
            ) from error
    return network


def place_of(device: str) -> str:
    """Return TensorFlow's name of a device.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    with without_greeting():
        import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ConfigurationError("CXR_DEVICE", "gpu was asked for, but TensorFlow sees none")
    if device not in DEVICES:
        raise ConfigurationError("CXR_DEVICE", f"must be one of {', '.join(DEVICES)}")
    return "/GPU:0" if gpus and device != "cpu" else "/CPU:0"


def limit_gpu_memory(most_mb: int | None) -> None:
    """Let this process take memory of its GPUs as it needs it, and no more than is said.

    TensorFlow would take all of it at once, and leave nothing to others.
    """
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            if most_mb is None:
                tf.config.experimental.set_memory_growth(gpu, True)
            else:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=most_mb)
                tf.config.set_logical_device_configuration(gpu, [limit])
        except RuntimeError:  # it is in use: by a model that was loaded before this one
            return


def may_use_gpu(device: str, engine: str) -> bool:
    """Tell whether an engine may run on a GPU of this machine, without loading any."""
    if device == "cpu" or engine == "openvino":
        return False
    return device == "gpu" or any(Path(node).exists() for node in _GPU_NODES)


def use_half_precision(network: Any) -> None:
    """Let a network compute its feature maps in half precision; its answers stay float32."""
    import keras

    for layer in network.layers:
        if not isinstance(layer, keras.layers.InputLayer) and len(layer.output.shape) == 4:
            layer.dtype_policy = HALF


def forward_graph(network: Any, size: int, place: str = "/CPU:0") -> Forward:
    """Return images (N, size, size, 1) -> (logits, features), traced once for every N."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, size, size, 1), tf.float32)]
    graph = tf.function(lambda images: network(images, training=False), input_signature=signature)

    def forward(images: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            with tf.device(place):
                logits, features = graph(tf.constant(images))
            return logits.numpy(), features.numpy()
        # A GPU says the one, oneDNN on a CPU the other, where memory does not suffice.
        except (tf.errors.ResourceExhaustedError, tf.errors.AbortedError) as error:
            raise MemoryError(place) from error

    return forward
