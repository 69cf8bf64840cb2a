"""Engines: the same answers whatever runs the network, and the faster one where it is faster."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from model import artifact, engines, openvino_engine
from model.calibration import softmax
from model.data import read_image
from model.engines import choose
from model.explain import Explainer
from model.openvino_engine import AGREEMENT, generated_chests
from model.predict import Classifier
from tests.fakes import in_threads
from tests.unit.model.artifacts import SIDE, need_openvino, write_small

CHECKOUT = Path(__file__).parents[3]
openvino_here = pytest.mark.skipif(
    not engines.importlib.util.find_spec("openvino"), reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> artifact.Artifact:
    folder = tmp_path_factory.mktemp("small")
    write_small(folder)
    return artifact.read(folder)


@pytest.fixture(scope="module")
def network(small):
    return engines.build_network(small)


@pytest.fixture(scope="module")
def kept(small, network, tmp_path_factory) -> Path:
    """A folder that holds the small model as OpenVINO reads it."""
    need_openvino()
    cache = tmp_path_factory.mktemp("engines")
    openvino_engine.load(small, lambda: network, cache)
    return cache


def not_again() -> None:
    raise AssertionError("the network is built again")


def pneumonia(logits: np.ndarray, temperature: float) -> np.ndarray:
    return 1 - softmax(logits, temperature)[:, 0]


# --- choosing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "engine", "installed", "gpu", "expected"),
    [
        ("auto", "auto", True, False, "openvino"),
        ("auto", "auto", True, True, "tensorflow"),
        ("auto", "auto", False, False, "tensorflow"),
        ("cpu", "auto", True, True, "openvino"),
        ("gpu", "auto", True, True, "tensorflow"),
        ("cpu", "tensorflow", True, False, "tensorflow"),
        ("auto", "openvino", True, True, "openvino"),
    ],
)
def test_the_engine_follows_what_is_asked_for_and_what_is_here(
    monkeypatch, device, engine, installed, gpu, expected
):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: installed or None)
    monkeypatch.setattr(engines, "_has_gpu", lambda: gpu)
    assert choose(device, engine) == expected


@pytest.mark.parametrize(
    ("device", "engine", "installed", "told"),
    [
        ("gpu", "openvino", True, "CXR_ENGINE: openvino runs on the CPU"),
        ("cpu", "openvino", False, "CXR_ENGINE: openvino is not installed"),
        ("cpu", "abacus", True, "CXR_ENGINE: must be one of"),
        ("abacus", "auto", True, "CXR_DEVICE: must be one of"),
    ],
)
def test_an_engine_that_cannot_be_had_is_one_line_that_names_the_setting(
    monkeypatch, device, engine, installed, told
):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: installed or None)
    with pytest.raises(ConfigurationError, match=told) as caught:
        choose(device, engine)
    assert "\n" not in str(caught.value)


def started(speed: float) -> openvino_engine.Started:
    return openvino_engine.Started(lambda images: (images, images), "float32", 0.0, speed)


@pytest.mark.parametrize(
    ("engine", "speed", "name"),
    [
        ("auto", 2.0, "openvino float32"),
        ("auto", 0.9, "tensorflow float32"),
        ("openvino", 0.9, "openvino float32"),
    ],
)
def test_the_engine_that_was_slower_here_answers_only_when_insisted_on(
    monkeypatch, small, network, engine, speed, name
):
    monkeypatch.setattr(engines, "choose", lambda *_: "openvino")
    monkeypatch.setattr(openvino_engine, "load", lambda *_: started(speed))
    assert engines.start(small, lambda: network, "cpu", engine).name == name


def test_openvino_that_fails_leaves_the_answers_to_tensorflow_unless_insisted_on(
    monkeypatch, small, network, caplog
):
    def fail(*_: object) -> None:
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(engines, "choose", lambda *_: "openvino")
    monkeypatch.setattr(openvino_engine, "load", fail)
    assert engines.start(small, lambda: network, "cpu", "auto").name == "tensorflow float32"
    assert "RuntimeError: no such instruction" in caplog.text
    with pytest.raises(ConfigurationError, match="CXR_ENGINE"):
        engines.start(small, lambda: network, "cpu", "openvino")


# --- agreement -------------------------------------------------------------------------------


def test_openvino_answers_as_tensorflow_does(small, network, kept):
    started = openvino_engine.load(small, not_again, kept)
    images = generated_chests(SIDE, 5)
    logits, features = engines.forward_graph(network, SIDE)(images)
    found_logits, found_features = started.forward(images)
    difference = np.abs(pneumonia(found_logits, 0.9) - pneumonia(logits, 0.9)).max()
    assert difference <= started.difference + 1e-6
    assert started.difference < AGREEMENT
    assert found_features.shape == features.shape
    assert np.abs(found_features - features).max() < 0.05 * np.abs(features).max()


@openvino_here
@pytest.mark.parametrize(
    ("limit", "precision"), [(1e-6 + 1e-5, "float32"), (1.0, None)], ids=["strict", "lenient"]
)
def test_bfloat16_is_used_only_where_it_agrees(monkeypatch, small, network, limit, precision):
    monkeypatch.setattr(openvino_engine, "AGREEMENT", limit)
    core = openvino_engine.runtime().Core()
    fast = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = openvino_engine.load(small, lambda: network, None)
    assert found.precision == (precision or ("bfloat16" if fast else "float32"))


@openvino_here
def test_an_engine_that_answers_otherwise_is_refused(monkeypatch, small, network):
    monkeypatch.setattr(openvino_engine, "AGREEMENT", -1.0)
    with pytest.raises(ConfigurationError, match="CXR_ENGINE: openvino answers otherwise"):
        openvino_engine.load(small, lambda: network, None)


class Gpus:
    """Stands for `tensorflow.config` on a machine with two GPUs."""

    def __init__(self, in_use: bool = False) -> None:
        self.in_use = in_use
        self.told: list[tuple[object, ...]] = []
        self.experimental = self

    def list_physical_devices(self, _: str) -> list[str]:
        return ["first", "second"]

    def LogicalDeviceConfiguration(self, memory_limit: int) -> int:
        return memory_limit

    def _note(self, *words: object) -> None:
        if self.in_use:
            raise RuntimeError
        self.told.append(words)

    set_memory_growth = set_logical_device_configuration = _note


@pytest.mark.parametrize(("most", "said"), [(None, True), (2048, [2048])])
def test_memory_of_a_gpu_is_taken_as_it_is_needed_or_as_it_is_told(monkeypatch, most, said):
    tensorflow = pytest.importorskip("tensorflow")
    gpus = Gpus()
    monkeypatch.setattr(tensorflow, "config", gpus)
    engines.limit_gpu_memory(most)
    assert gpus.told == [("first", said), ("second", said)]


def test_a_gpu_that_is_in_use_keeps_the_memory_it_has(monkeypatch):
    tensorflow = pytest.importorskip("tensorflow")
    monkeypatch.setattr(tensorflow, "config", Gpus(in_use=True))
    engines.limit_gpu_memory(None)


def test_on_a_gpu_memory_is_limited_before_the_network_is_there(monkeypatch, small, network):
    order: list[object] = []
    monkeypatch.setattr(engines, "choose", lambda *_: "tensorflow")
    monkeypatch.setattr(engines, "place_of", lambda _: "/GPU:0")
    monkeypatch.setattr(engines, "limit_gpu_memory", order.append)
    monkeypatch.setattr(engines, "use_half_precision", lambda _: order.append("half"))
    started = engines.start(
        small, lambda: order.append("built") or network, "gpu", gpu_memory_mb=300
    )
    assert order == [300, "built", "half"]
    assert (started.name, started.pads) == ("tensorflow float16", True)


def test_on_a_cpu_nothing_is_padded(small, network):
    assert not engines.start(small, lambda: network, "cpu").pads


@pytest.mark.parametrize(
    ("device", "engine", "nodes", "may"),
    [
        ("cpu", "auto", ["/dev/null"], False),
        ("auto", "openvino", ["/dev/null"], False),
        ("auto", "auto", ["/dev/null"], True),
        ("auto", "tensorflow", ["/dev/no-such-node"], False),
        ("gpu", "auto", [], True),
    ],
)
def test_whether_a_gpu_may_be_used_is_known_without_an_engine(
    monkeypatch, device, engine, nodes, may
):
    monkeypatch.setattr(engines, "_GPU_NODES", nodes)
    assert engines.may_use_gpu(device, engine) is may


def test_half_precision_for_a_gpu_answers_as_single_does(small, network):
    """On a CPU, as there need not be a GPU: the same layers in the same types."""
    half = engines.build_network(small)
    engines.use_half_precision(half)
    assert {layer.compute_dtype for layer in half.layers} == {"float16", "float32"}
    images = generated_chests(SIDE, 4)
    logits, features = engines.forward_graph(half, SIDE)(images)
    expected = engines.forward_graph(network, SIDE)(images)[0]
    assert logits.dtype == features.dtype == np.float32
    difference = np.abs(pneumonia(logits, 0.9) - pneumonia(expected, 0.9)).max()
    assert 0 < difference < AGREEMENT


@openvino_here
def test_the_engines_agree_about_the_released_model_on_real_radiographs(released, real_data):
    fast = Classifier.load(released, "cpu", "openvino")
    paths = sorted((real_data / "chest_xray_224" / "train").glob("*/*.jpeg"))[::90]
    paths += sorted((real_data / "adult_chest_224").glob("*/*.jpeg"))[::25]
    assert len(paths) > 50
    images = np.stack([fast.prepare(read_image(path)) for path in paths])
    found, features = fast.forward(images)
    reference = engines.forward_graph(fast.network, fast.spec.size)
    expected, expected_features = reference(images[..., None])
    temperature = fast.info.temperature
    assert np.abs(pneumonia(found, temperature) - pneumonia(expected, temperature)).max() < 0.005
    judged = [fast.gate.judge(each) for each in (features, expected_features)]
    other = sum(a != b for a, b in zip(*judged, strict=True))
    assert other <= len(images) // 50, "but for one that lies on the line"


# --- keeping ---------------------------------------------------------------------------------


def test_what_was_exported_once_is_not_exported_again(small, kept):
    assert len(list(kept.iterdir())) == 1
    openvino_engine.load(small, not_again, kept)


def test_another_artifact_is_not_answered_from_a_kept_one(small, kept):
    other = artifact.Artifact({**small.description, "digest": "0" * 64}, small.arrays)
    with pytest.raises(AssertionError, match="built again"):
        openvino_engine.load(other, not_again, kept)


def test_a_kept_form_that_was_damaged_is_made_anew(small, network, kept, tmp_path, caplog):
    (source,) = kept.iterdir()
    damaged = bytearray(source.read_bytes())
    damaged[-9] ^= 1
    (tmp_path / source.name).write_bytes(damaged)
    openvino_engine.load(small, lambda: network, tmp_path)
    assert "is damaged and is made anew" in caplog.text
    openvino_engine.load(small, not_again, tmp_path)


def test_a_folder_that_cannot_be_written_costs_time_but_no_answers(
    small, network, tmp_path, caplog
):
    need_openvino()
    (tmp_path / "file").touch()
    found = openvino_engine.load(small, lambda: network, tmp_path / "file" / "engines")
    assert found.forward(generated_chests(SIDE, 1))[0].shape == (1, 3)
    assert "cannot be written" in caplog.text


def test_workers_that_start_at_once_leave_one_whole_form(small, kept, tmp_path):
    (source,) = kept.iterdir()
    core = openvino_engine.runtime().Core()
    known = openvino_engine._identity(core, small)
    exported = openvino_engine._read(source, known)
    assert exported is not None
    path = tmp_path / "engines" / source.name
    in_threads(6, lambda _: openvino_engine._keep(path, known, exported))
    assert [each.name for each in path.parent.iterdir()] == [source.name]
    assert openvino_engine._read(path, known) == exported


def test_a_start_from_a_kept_form_loads_no_tensorflow_and_tells_nobody(small, kept, tmp_path):
    """OpenVINO's telemetry would leave its marks in the home folder, and call a third party."""
    folder, home = tmp_path / "model", tmp_path / "home"
    home.mkdir()
    write = "digest", "arrays", "format"
    artifact.write(
        folder, {k: v for k, v in small.description.items() if k not in write}, small.arrays
    )
    code = (
        "import sys; from pathlib import Path; from model.predict import Classifier;"
        f"c = Classifier.load({str(folder)!r}, 'cpu', 'openvino', Path({str(kept)!r}));"
        "import numpy as np; c.predict(np.random.rand(2, 32, 32));"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env={"HOME": str(home)}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


def test_an_answer_of_openvino_is_explained_by_the_keras_network(small, kept):
    classifier = Classifier(small, "cpu", "openvino", kept)
    assert "network" not in vars(classifier)
    heat = Explainer.of(classifier).heatmap(generated_chests(SIDE, 1)[0, ..., 0])
    assert heat.shape == (SIDE, SIDE)


def test_the_digest_that_is_quoted_is_that_of_the_artifact(small, kept):
    fast = Classifier(small, "cpu", "openvino", kept)
    assert fast.info.digest == small.description["digest"]
    assert fast.engine.startswith("openvino")


def test_trying_the_engines_is_told_once(small, network, caplog):
    need_openvino()
    with caplog.at_level(logging.INFO, logger="model.openvino_engine"):
        openvino_engine.load(small, lambda: network, None)
    assert [r.getMessage().split(" in ")[0] for r in caplog.records] == ["OpenVINO"]


def test_what_tensorflow_says_without_memory_is_said_as_python_does():
    import tensorflow as tf

    def network(images, training):
        rows = tf.shape(images)[0] * (1 << 24)
        return tf.zeros([rows, 1 << 24]), images  # a petabyte

    with pytest.raises(MemoryError):
        engines.forward_graph(network, 8)(np.zeros((1, 8, 8, 1), np.float32))


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ("Failed to allocate 39337984 bytes of memory", MemoryError),
        ("Convolution node with name 'x' can't alloc", MemoryError),
        ("std::bad_alloc", MemoryError),
        ("shapes differ", RuntimeError),
    ],
)
def test_what_openvino_says_without_memory_is_said_as_python_does(said, raised):
    def stage(inputs):
        raise RuntimeError(said)

    core = SimpleNamespace(read_model=lambda *_: None, compile_model=lambda *_: stage)
    forward = openvino_engine.compile_(core, b"", b"", "float32")
    with pytest.raises(raised):
        forward(np.zeros((1, 8, 8, 1), np.float32))
