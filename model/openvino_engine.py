"""OpenVINO on this CPU: a network that Keras exports to it, tried against TensorFlow, and kept.

Where the CPU computes in bfloat16 (AMX, AVX-512), so does the network, but for its first layers:
rounded to bfloat16, a pixel keeps less than the eight bits it came with, and that alone is half of
the error. It does so only if its answers stay near enough to TensorFlow's in float32.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import ConfigurationError
from model.artifact import Artifact
from model.engines import Forward, forward_graph
from model.preprocess import FloatImage

log = logging.getLogger(__name__)

# The most by which a probability of pneumonia may differ from TensorFlow's in float32.
AGREEMENT = 0.005
PROBES, ROUNDS = 16, 7
KEPT_FORMAT = 1  # of a kept file; another one is made anew


@dataclass(frozen=True, slots=True)
class Exported:
    """A network as OpenVINO reads it, and how it did when it was tried.

    Parameters
    ----------
    graph, weights
        The two files of OpenVINO's intermediate representation.
    precision
        `bfloat16` or `float32`.
    difference
        Bound on the difference in probability of pneumonia to TensorFlow, from the probes.
    speed
        How many times as fast as TensorFlow it answered one image.
    """

    graph: bytes
    weights: bytes
    precision: str
    difference: float
    speed: float


@dataclass(frozen=True, slots=True)
class Started:
    """A network that OpenVINO runs; see `Exported`."""

    forward: Forward
    precision: str
    difference: float
    speed: float


def runtime() -> Any:
    """Import OpenVINO without its telemetry, which would tell a third party of each import.

    OpenVINO itself does without it when it is not installed, and so it is made to look.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def load(released: Artifact, build: Callable[[], Any], cache: Path | None) -> Started:
    """Start a network, from the folder `cache` when it was exported before.

    Parameters
    ----------
    released
        The artifact.
    build
        Builds its Keras network; called only when it must be exported.
    cache
        Where exported networks are kept; what cannot be kept is made anew at each start.

    Raises
    ------
    ConfigurationError
        If OpenVINO answers otherwise than TensorFlow.
    """
    core = runtime().Core()
    known = _identity(core, released)
    kept = cache and cache / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}.ov"
    exported = kept and _read(kept, known)
    if not exported:
        exported = _export(core, released, build())
        if kept:
            _keep(kept, known, exported)
    forward = compile_(core, exported.graph, exported.weights, exported.precision)
    return Started(forward, exported.precision, exported.difference, exported.speed)


def write_ir(
    network: Any, folder: Path, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
) -> None:
    """Let Keras write a network as `model.xml` and `model.bin`, with these names if they matter."""
    openvino = runtime()
    path = folder / "model.xml"
    network.export(str(path), format="openvino", verbose=False)
    if inputs or outputs:
        # In memory, as the weights that are read would else lie in the file that is written.
        model = openvino.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
        for port, name in zip([*model.inputs, *model.outputs], [*inputs, *outputs], strict=True):
            port.set_names({name})
        openvino.save_model(model, path, compress_to_fp16=False)


def compile_(core: Any, graph: bytes, weights: bytes, precision: str) -> Forward:
    """Make an exported network answer: images (N, size, size, 1) -> (logits, features)."""
    model = core.read_model(graph, weights)
    stages = _stages(model) if precision == "bfloat16" else [(model, "f32")]
    *first, last = [
        core.compile_model(
            stage, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        )
        for stage, hint in stages
    ]

    def forward(images: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            for stage in first:
                images = stage([images])[0]
            logits, features = last([images]).values()
        except RuntimeError as error:  # the one kind it has, whatever happened
            if "alloc" in str(error):
                raise MemoryError("OpenVINO") from error
            raise
        return logits, features

    return forward


def _stages(model: Any) -> list[tuple[Any, str]]:
    """Cut a ResNet where its first layers end, at its only maximum pooling; with the precisions."""
    openvino = runtime()
    pooling = [op for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool"]
    if len(pooling) != 1:
        return [(model, "bf16")]
    output, results = pooling[0].output(0), model.get_results()
    readers = list(output.get_target_inputs())
    received = openvino.opset13.parameter(output.partial_shape, np.float32)
    for reader in readers:
        reader.replace_source_output(received.output(0))
    first = openvino.Model([openvino.opset13.result(output)], model.get_parameters())
    return [(first, "f32"), (openvino.Model(results, [received]), "bf16")]


# --- trying ----------------------------------------------------------------------------------


def _export(core: Any, released: Artifact, network: Any) -> Exported:
    with tempfile.TemporaryDirectory(prefix="cxr-openvino-") as name:
        folder = Path(name)
        write_ir(network, folder)
        graph, weights = ((folder / f"model.{end}").read_bytes() for end in ("xml", "bin"))
    description = released.description
    probes = generated_chests(int(description["preprocessing"]["size"]), PROBES)
    reference = forward_graph(network, probes.shape[1])
    expected = reference(probes)[0]
    normal, temperature = description["labels"].index("normal"), description["temperature"]
    fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision in ("bfloat16", "float32")[not fast :]:
        forward = compile_(core, graph, weights, precision)
        found = _difference(forward(probes)[0], expected, normal, temperature)
        if found < AGREEMENT:
            speed = _speed(forward, reference, probes[:1])
            log.info(
                "OpenVINO in %s: %.1f times as fast as TensorFlow, probabilities within %.4f",
                precision, speed, found,
            )  # fmt: skip
            return Exported(graph, weights, precision, found, speed)
    raise ConfigurationError(
        "CXR_ENGINE", f"openvino answers otherwise than tensorflow, by {found:.3f}"
    )


def _difference(
    logits: NDArray[Any], expected: NDArray[Any], normal: int, temperature: float
) -> float:
    """Bound the difference in probability: it is greatest where the odds are even."""
    odds = [_log_odds(np.asarray(each, np.float64), normal) for each in (logits, expected)]
    return float(np.abs(odds[0] - odds[1]).max() / temperature / 4)


def _log_odds(logits: NDArray[np.float64], normal: int) -> NDArray[np.float64]:
    others = np.delete(logits, normal, axis=1)
    return np.logaddexp.reduce(others, axis=1) - logits[:, normal]


def _speed(forward: Forward, reference: Forward, image: NDArray[np.float32]) -> float:
    """Return how many times as fast one image is answered.

    The engines take turns, and the best turn of each counts: other programs make none shorter.
    """
    seconds: dict[Forward, list[float]] = {forward: [], reference: []}
    for _ in range(ROUNDS):
        for each, taken in seconds.items():
            begin = time.perf_counter()
            each(image)
            taken.append(time.perf_counter() - begin)
    return min(seconds[reference]) / min(seconds[forward])


def generated_chests(size: int, count: int) -> NDArray[np.float32]:
    """Return images (count, size, size, 1) in [0, 1]: dark lungs, ribs, and grain, all at random.

    No answer matters, only that two engines give the same; always the same images.
    """
    generator = np.random.default_rng(0)
    return np.stack([_chest(generator, size) for _ in range(count)])[..., None]


def _chest(generator: np.random.Generator, size: int) -> FloatImage:
    y, x = np.mgrid[0:size, 0:size] / size
    image = generator.uniform(0.55, 0.8) + 0.03 * generator.standard_normal((size, size))
    ribs = 0.05 * np.sin(2 * np.pi * (generator.uniform(6, 10) * y + 2 * np.abs(x - 0.5)))
    for middle in (0.3, 0.7):
        lung = np.hypot((x - middle) / 0.16, (y - generator.uniform(0.4, 0.5)) / 0.33)
        image -= generator.uniform(0.3, 0.6) / (1 + np.exp(12 * (lung - 1)))
    coarse = Image.fromarray(generator.standard_normal((9, 9)).astype(np.float32))
    cloud = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    shown = image + ribs + generator.uniform(0, 0.15) * cloud
    return np.asarray(shown.clip(0, 1), np.float32)


# --- keeping ---------------------------------------------------------------------------------


def _identity(core: Any, released: Artifact) -> dict[str, Any]:
    """Say of what and where an export was made and tried: it is of use nowhere else."""
    return {
        "format": KEPT_FORMAT,
        "digest": released.description["digest"],
        "openvino": runtime().__version__,
        "processor": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "processors": os.cpu_count(),
    }


def _read(path: Path, known: dict[str, Any]) -> Exported | None:
    """Read a kept export: SHA-256 of the rest, a line of facts, graph, weights."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    checksum, rest = whole[:32], whole[32:]
    if hashlib.sha256(rest).digest() != checksum:
        log.warning("%s is damaged and is made anew", path)
        return None
    line, _, files = rest.partition(b"\n")
    facts = json.loads(line)
    if facts.pop("of") != known:
        return None
    length = facts.pop("graph_bytes")
    return Exported(graph=files[:length], weights=files[length:], **facts)


def _keep(path: Path, known: dict[str, Any], exported: Exported) -> None:
    """Write an export so that a reader sees all of it or nothing, whoever else writes it too."""
    facts = {k: v for k, v in asdict(exported).items() if k not in ("graph", "weights")}
    line = json.dumps({"of": known, "graph_bytes": len(exported.graph), **facts}).encode()
    rest = b"\n".join([line, exported.graph + exported.weights])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(hashlib.sha256(rest).digest() + rest)
                file.close()
                Path(file.name).replace(path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): OpenVINO's form of the model is made at each start",
            path.parent, error.strerror,
        )  # fmt: skip
