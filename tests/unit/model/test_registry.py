"""Versions in a folder: listing, finding and choosing, and what is said of a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from model import artifact, registry
from tests.fakes import in_threads
from tests.unit.model.artifacts import write_plain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two releases and a training's artifact; the first release is current."""
    path = tmp_path / "models"
    for name, version in (("m-1.0.0", "1.0.0"), ("m-1.1.0", "1.1.0"), ("artifact", "0.0.0")):
        write_plain(path / name, version)
    (path / artifact.CURRENT).write_text("m-1.0.0\n")
    return path


def damage(folder: Path) -> None:
    weights = folder / artifact.WEIGHTS
    weights.write_bytes(weights.read_bytes() + b"\0")


def current(folder: Path) -> list[str]:
    return [v.folder.name for v in registry.versions(folder) if v.current]


def builds(_: Path) -> None:
    """Stand for a network that can be built."""


def test_every_version_is_listed_and_the_current_one_marked(folder):
    found = registry.versions(folder)
    assert [v.folder.name for v in found] == ["artifact", "m-1.0.0", "m-1.1.0"]
    assert [v.info.version for v in found if v.info] == ["0.0.0", "1.0.0", "1.1.0"]
    assert current(folder) == ["m-1.0.0"]


def test_a_damaged_version_is_listed_with_what_is_wrong(folder):
    damage(folder / "m-1.1.0")
    (broken,) = [v for v in registry.versions(folder) if v.info is None]
    assert broken.folder.name == "m-1.1.0"
    assert "digest differs" in broken.problem


def test_a_single_model_is_a_list_of_one(folder):
    (only,) = registry.versions(folder / "m-1.1.0")
    assert only.current


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"CXR_MODEL: .* holds no model"):
        registry.versions(tmp_path)


def test_without_a_valid_choice_none_is_current(folder):
    (folder / artifact.CURRENT).write_text("m-9.9.9\n")
    assert current(folder) == []


@pytest.mark.parametrize("wanted", ["1.1.0", "m-1.1.0"])
def test_a_version_is_chosen_by_its_number_or_its_folder(folder, wanted):
    assert registry.use(folder, wanted, builds).version == "1.1.0"
    assert current(folder) == ["m-1.1.0"]
    assert artifact.locate(folder).name == "m-1.1.0"
    assert sorted(p.name for p in folder.iterdir()) == ["artifact", "current", "m-1.0.0", "m-1.1.0"]


def test_what_a_training_wrote_can_be_chosen_without_a_release(folder):
    registry.use(folder, "artifact", builds)
    assert current(folder) == ["artifact"]


def test_an_unknown_version_is_told_with_those_there_are(folder):
    with pytest.raises(ConfigurationError, match=r"2\.0 is not among artifact, m-1\.0\.0, m-1\.1"):
        registry.use(folder, "2.0", builds)
    assert current(folder) == ["m-1.0.0"]


def test_a_number_that_two_share_is_not_enough(folder):
    write_plain(folder / "second-run", "0.0.0")
    with pytest.raises(ConfigurationError, match="artifact, second-run"):
        registry.find(folder, "0.0.0")
    assert registry.find(folder, "second-run").name == "second-run"


def test_a_damaged_version_is_not_chosen(folder):
    damage(folder / "m-1.1.0")
    with pytest.raises(ConfigurationError, match="digest differs"):
        registry.use(folder, "m-1.1.0", builds)
    with pytest.raises(ConfigurationError, match=r"1\.1\.0 is not among .*m-1\.1\.0 \(damaged\)"):
        registry.use(folder, "1.1.0", builds)
    assert current(folder) == ["m-1.0.0"]


def test_a_version_that_does_not_build_here_is_not_chosen(folder):
    def fail(_: Path) -> None:
        raise ConfigurationError("CXR_MODEL", "the network cannot be built by Keras 2")

    with pytest.raises(ConfigurationError, match="Keras 2"):
        registry.use(folder, "1.1.0", fail)
    assert current(folder) == ["m-1.0.0"]


def test_there_is_nothing_to_choose_in_a_single_model(folder):
    with pytest.raises(ConfigurationError, match=r"CXR_MODEL: .* is a single model"):
        registry.use(folder / "m-1.0.0", "1.0.0", builds)


def test_a_folder_that_cannot_be_written_is_told(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(registry.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(ConfigurationError, match="cannot be written: Permission denied"):
        registry.use(folder, "1.1.0", builds)
    assert current(folder) == ["m-1.0.0"]


def test_choices_at_once_never_leave_half_a_name(folder):
    names = ["m-1.0.0", "m-1.1.0", "artifact"]
    seen = in_threads(
        6, lambda n: (registry.use(folder, names[n % 3], builds), artifact.locate(folder).name)[1]
    )
    assert set(seen) <= set(names)


def test_the_fingerprint_changes_with_the_choice_and_with_the_files(folder):
    prints = [registry.fingerprint(folder)]
    assert registry.fingerprint(folder) == prints[0]
    registry.use(folder, "1.1.0", builds)
    prints.append(registry.fingerprint(folder))
    damage(folder / "m-1.1.0")
    prints.append(registry.fingerprint(folder))
    assert len(set(prints)) == 3


def test_the_fingerprint_of_a_model_without_weights_is_refused(folder):
    (folder / "m-1.0.0" / artifact.WEIGHTS).unlink()
    with pytest.raises(ConfigurationError, match="CXR_MODEL"):
        registry.fingerprint(folder)
