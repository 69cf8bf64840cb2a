"""Where labelled images come from: a folder here, or a public set that is fetched by its name.

`kaggle:<owner>/<dataset>` goes through kagglehub, the extra `kaggle`: it downloads once and keeps a
copy; on Kaggle itself it mounts the set instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from model.data import FOLDER_LABELS, DataError

KAGGLE = "kaggle:"
JUNK = "__MACOSX"  # what macOS packs beside the files: folders of the same names, without images

Download = Callable[[str], str]

# Status of an HTTP answer -> what a person should know.
_REFUSALS = {
    401: "Kaggle wants to know who asks: sign in with kagglehub.login()",
    403: "there is no such data set, or it is not open to you: check the name on its page",
    404: "there is no such data set: check the name on its page",
    429: "Kaggle asks to wait: try again later",
}


def folder(source: str | Path, download: Download | None = None) -> Path:
    """Return the folder that `--data` names, fetched first if it is a public set.

    Parameters
    ----------
    source
        A folder, or `kaggle:<owner>/<dataset>`, to which `/versions/<number>` may be added.
    download
        Fetches `<owner>/<dataset>` and returns its folder; default kagglehub.

    Raises
    ------
    DataError
        If the set cannot be fetched, or holds no labelled images.
    """
    named = str(source)
    if not named.startswith(KAGGLE):
        return Path(source)
    handle = named.removeprefix(KAGGLE)
    fetch = download or _kagglehub()
    try:
        fetched = Path(fetch(handle))
    except Exception as error:  # kagglehub raises kinds of its own, of requests and of the system
        raise DataError(f"{named} cannot be fetched: {_reason(error)}") from error
    return labelled_folder(fetched)


def labelled_folder(root: Path) -> Path:
    """Return the folder nearest to `root` that holds `train/` or label folders.

    Archives wrap their content in folders, the public paediatric set even holds a second copy of
    itself one level deeper.

    Raises
    ------
    DataError
        If there is none.
    """
    waiting = deque([root])
    while waiting:
        here = waiting.popleft()
        inside = sorted(d for d in here.iterdir() if d.is_dir() and not _is_junk(d))
        names = {d.name for d in inside}
        if "train" in names or any(name.lower() in FOLDER_LABELS for name in names):
            return here
        waiting.extend(inside)
    raise DataError(f"{root} has neither train/ nor label folders (such as NORMAL and PNEUMONIA)")


def _is_junk(directory: Path) -> bool:
    return directory.name == JUNK or directory.name.startswith(".")


def _kagglehub() -> Download:
    try:
        from kagglehub import dataset_download
    except ImportError as error:
        raise DataError(
            f"--data {KAGGLE}... needs kagglehub: pip install 'cxr-worker[kaggle]'"
        ) from error
    return dataset_download


def _reason(error: Exception) -> str:
    """Say in one line what stood in the way."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return _REFUSALS.get(status, f"Kaggle answered with HTTP status {status}")
    if isinstance(error, OSError):  # those of requests carry no text of the system's
        return error.strerror or "Kaggle cannot be reached: check the network"
    form = f" (the form is {KAGGLE}<owner>/<dataset>)" if isinstance(error, ValueError) else ""
    return (str(error) or type(error).__name__).splitlines()[0] + form
