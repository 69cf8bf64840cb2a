"""Artifacts: one digest over everything, and a refusal in one line for what is none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from model import artifact, export
from model.predict import Classifier, load_info


@pytest.fixture
def arrays() -> artifact.Arrays:
    generator = np.random.default_rng(0)
    kernel, bias = generator.random((80, 70)), generator.random(70)
    return artifact.network_arrays([kernel.astype(np.float32), bias.astype(np.float32)])


def test_what_is_written_is_what_is_read(tmp_path, arrays):
    artifact.write(tmp_path, {"name": "x"}, arrays)
    found = artifact.read(tmp_path).network_weights()
    expected = artifact.as_released(arrays).values()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_kernels_are_kept_in_half_precision_and_biases_in_single(tmp_path, arrays):
    artifact.write(tmp_path, {}, arrays)
    assert (tmp_path / artifact.WEIGHTS).stat().st_size == 80 * 70 * 2 + 70 * 4


def test_the_digest_changes_with_a_weight(tmp_path, arrays):
    before = artifact.write(tmp_path, {"name": "x"}, arrays)
    arrays["network/0001"][0] += 1e-3
    assert artifact.write(tmp_path, {"name": "x"}, arrays) != before


def test_the_digest_changes_with_a_threshold(tmp_path, arrays):
    digests = {artifact.write(tmp_path, {"threshold": t}, arrays) for t in (0.5, 0.6)}
    assert len(digests) == 2


def test_the_same_model_has_the_same_bytes(tmp_path, arrays):
    for name in ("a", "b"):
        artifact.write(tmp_path / name, {"name": "x"}, arrays)
    for file in (artifact.DESCRIPTION, artifact.WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", [artifact.DESCRIPTION, artifact.WEIGHTS])
def test_a_tampered_artifact_is_refused(tmp_path, interrupted_run, file):
    folder = tmp_path / "model"
    shutil.copytree(interrupted_run[0] / "artifact", folder)
    changed = (folder / file).read_bytes().replace(b'"threshold"', b'"threshole"')
    (folder / file).write_bytes(changed[:-9] + bytes([changed[-9] ^ 1]) + changed[-8:])
    for load in (load_info, Classifier.load):
        with pytest.raises(ConfigurationError, match="CXR_MODEL") as caught:
            load(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{}", "not JSON", "[]"])
def test_what_is_no_artifact_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / artifact.DESCRIPTION).write_text(content)
        (tmp_path / artifact.WEIGHTS).write_bytes(b"")
    with pytest.raises(ConfigurationError, match="CXR_MODEL") as caught:
        load_info(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_current_version_is_found_in_a_folder_of_versions(tmp_path, arrays):
    for version in ("1.0.0", "1.1.0"):
        artifact.write(tmp_path / f"m-{version}", {}, arrays)
    with pytest.raises(ConfigurationError, match="2 versions"):
        artifact.locate(tmp_path)
    (tmp_path / artifact.CURRENT).write_text("m-1.1.0\n")
    assert artifact.locate(tmp_path).name == "m-1.1.0"
    (tmp_path / artifact.CURRENT).write_text("m-2.0.0\n")
    with pytest.raises(ConfigurationError, match=r"m-2\.0\.0"):
        artifact.locate(tmp_path)


def test_a_release_is_stamped_and_never_overwritten(tmp_path, interrupted_run, capsys):
    arguments = ["release", str(interrupted_run[0] / "artifact"), "--to", str(tmp_path)]
    arguments += ["--name", "cxr-tiny", "--version", "0.1.0"]
    assert export.main(arguments) == 0
    info = load_info(tmp_path)
    assert (info.name, info.version) == ("cxr-tiny", "0.1.0")
    assert info.card.startswith("# Model card: cxr-tiny 0.1.0")
    assert export.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
