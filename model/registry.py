"""The versions of a model that lie in one folder, and which of them is current."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ConfigurationError
from model import artifact
from model.predict import ModelInfo, load_info


@dataclass(frozen=True, slots=True)
class Version:
    """One version.

    Parameters
    ----------
    folder
        Where it lies.
    info
        What it says of itself; None when it is damaged.
    problem
        What is wrong with it; empty when nothing is.
    current
        Whether it is the one that answers.
    """

    folder: Path
    info: ModelInfo | None
    problem: str
    current: bool


def versions(path: Path) -> list[Version]:
    """List the versions in a folder, or the one that `path` itself is, in the order of names.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    single = (path / artifact.DESCRIPTION).is_file()
    folders = [path] if single else sorted(p.parent for p in path.glob(f"*/{artifact.DESCRIPTION}"))
    if not folders:
        artifact.locate(path)  # says what is wrong
    try:
        current = artifact.locate(path)
    except ConfigurationError:
        current = None
    return [_version(folder, current) for folder in folders]


def _version(folder: Path, current: Path | None) -> Version:
    try:
        return Version(folder, load_info(folder), "", folder == current)
    except ConfigurationError as error:
        return Version(folder, None, str(error.args[1]), folder == current)


def find(path: Path, wanted: str) -> Path:
    """Return the folder of a version, by its version or by the name of its folder.

    Raises
    ------
    ConfigurationError
        If there is no such version, or more than one.
    """
    known = versions(path)
    by_folder = [v for v in known if v.folder.name == wanted]
    found = by_folder or [v for v in known if v.info and v.info.version == wanted]
    if len(found) == 1:
        return found[0].folder
    names = ", ".join(v.folder.name + " (damaged)" * bool(v.problem) for v in found or known)
    problem = f"{wanted} is the version of {names}" if found else f"{wanted} is not among {names}"
    raise ConfigurationError("VERSION", f"{problem}; name one of these folders")


def use(path: Path, wanted: str, build: Callable[[Path], object]) -> ModelInfo:
    """Make a version current, once it is known to be whole and to build here.

    Parameters
    ----------
    path
        The folder of versions.
    wanted
        A version, or the name of a folder.
    build
        Builds the model in a folder; raises ConfigurationError when it cannot be.

    Raises
    ------
    ConfigurationError
        If there is no such version, it is damaged or cannot be built, or the choice cannot be
        written. The current version then stays what it was.
    """
    found = check(path, wanted, build)
    assert found.info is not None  # it is whole
    choose(path, found.folder.name)
    return found.info


def check(path: Path, wanted: str, build: Callable[[Path], object]) -> Version:
    """Find a version that could be made current: it is whole, and builds here.

    Raises
    ------
    ConfigurationError
        As `use` does.
    """
    if (path / artifact.DESCRIPTION).is_file():
        raise ConfigurationError(
            "CXR_MODEL",
            f"{path} is a single model, so there is nothing to choose; name a folder of versions, "
            "each in a folder of its own",
        )
    folder = find(path, wanted)
    info = load_info(folder)
    build(folder)
    return Version(folder, info, "", folder.name == current_name(path))


def current_name(path: Path) -> str:
    """Name the folder of the version that is current; empty when there is none."""
    try:
        return artifact.locate(path).name
    except ConfigurationError:
        return ""


def choose(path: Path, name: str) -> None:
    """Make the version in a folder of this name current; it was checked.

    The file is replaced at once: a worker that reads it meanwhile sees one name or the other.

    Raises
    ------
    ConfigurationError
        If the choice cannot be written.
    """
    current = path / artifact.CURRENT
    mode = current.stat().st_mode & 0o777 if current.is_file() else 0o644
    try:
        with tempfile.TemporaryDirectory(dir=path, prefix=".current-") as folder:
            scratch = Path(folder) / artifact.CURRENT
            with scratch.open("w", encoding="utf-8") as file:
                file.write(name + "\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.chmod(mode)
            scratch.replace(current)
    except OSError as error:
        raise ConfigurationError(
            "CXR_MODEL",
            f"{current} cannot be written: {error.strerror}; set CXR_MODEL to a folder of versions "
            "where it can",
        ) from error


def fingerprint(path: Path) -> tuple[object, ...]:
    """Say cheaply which artifact `path` means now: it differs when the model may have changed.

    Raises
    ------
    ConfigurationError
        If there is no artifact.
    """
    folder = artifact.locate(path)
    try:
        files = [(folder / name).stat() for name in (artifact.DESCRIPTION, artifact.WEIGHTS)]
    except OSError as error:
        raise ConfigurationError("CXR_MODEL", f"{folder}: {error.strerror}") from error
    return (folder, *((file.st_ino, file.st_size, file.st_mtime_ns) for file in files))
