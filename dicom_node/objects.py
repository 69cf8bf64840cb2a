"""Objects below a prefix of a bucket, through fsspec; what fails is told as a disk would tell it.

An object is there with all its bytes or not at all: it is written by one request, with its hash,
which the store holds against what came. So there are no parts to be given up.
"""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

# What S3 takes in one request.
MOST_BYTES: Final = 5 << 30
_PAGE: Final = 1000
_LIBRARIES: Final = frozenset({"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs", "urllib3"})
# One is there, or is just being written by another.
_THERE: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_UNKNOWN_CONDITION: Final = frozenset({"NotImplemented", "501"})
_DENIED: Final = frozenset(
    {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)


class StoreAway(OSError):
    """The object store does not answer, or failed: a matter of waiting."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object: its path below the prefix, its size, and when it was written (since 1970)."""

    path: str
    size: int
    written_at: float


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object, with the size of all of it, and what tells its versions apart."""

    data: bytes
    size: int
    version: str


class Objects:
    """What lies below a prefix; safe to share between threads, and with processes forked off.

    Parameters
    ----------
    root : str
        Bucket and prefix, as the file system names them.
    build : callable
        Makes the fsspec file system. It has a thread of its own, which does not cross a fork: so
        each process makes one when it first needs it.
    """

    def __init__(self, root: str, build: Callable[[], Any]) -> None:
        self._root, self._build = root.strip("/"), build
        self._made: tuple[int, Any] | None = None
        self._inherited: list[Any] = []
        self._is_conditional = True

    @property
    def _fs(self) -> Any:
        made = self._made
        # Two threads may make two at first, of which one is forgotten. A lock would be worse: one
        # that another thread holds as a process is forked off stays locked there.
        if made is None or made[0] != os.getpid():
            # To be let go of, the one from before a fork would close what is not ours alone.
            self._inherited.append(made)
            made = self._made = (os.getpid(), self._build())
        return made[1]

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}"

    def put(self, path: str, data: bytes | memoryview | Path, sha256: str, *, anew: bool) -> None:
        """Write an object from memory or a file.

        Parameters
        ----------
        sha256 : str
            Of the data, in lower-case hexadecimal.
        anew : bool
            Only where there is none.

        Raises
        ------
        FileExistsError
            When there is one, and there should be none.
        OSError
            When the store does not take it; it may have come all the same.
        """
        if anew and self._is_conditional:
            try:
                self._put(path, data, sha256, mode="create")
                return
            except NotImplementedError:  # then what is there is overwritten with the same
                self._is_conditional = False
        self._put(path, data, sha256, mode="overwrite")

    def _put(self, path: str, data: bytes | memoryview | Path, sha256: str, mode: str) -> None:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        options: dict[str, Any] = {"mode": mode}
        if self._is_s3:
            sha = base64.b64encode(bytes.fromhex(sha256)).decode()
            options |= {"ChecksumSHA256": sha, "chunksize": MOST_BYTES}
        with _told():
            if isinstance(data, Path):
                self._fs.put_file(str(data), self._key(path), **options)
            else:
                self._fs.pipe_file(self._key(path), bytes(data), **options)

    @property
    def _is_s3(self) -> bool:
        return hasattr(self._fs, "call_s3")

    def look(self, path: str) -> Entry:
        """Find an object.

        Raises
        ------
        FileNotFoundError
            When there is none.
        OSError
            When the store does not answer.
        """
        with _told():
            found = self._fs.info(self._key(path))
            if found["type"] != "file":
                raise FileNotFoundError
            return Entry(path, found["size"], _time_of(found))

    def read(self, path: str) -> bytes:
        """Return the bytes of an object; raises as `look` does."""
        with _told():
            return bytes(self._fs.cat_file(self._key(path)))

    def part(self, path: str, start: int, end: int) -> Part:
        """Return some bytes of an object, as far as it has them; raises as `look` does."""
        key, get = self._key(path), self._ranged if self._is_s3 else self._cut
        with _told():
            return get(key, start, end)

    def _ranged(self, key: str, start: int, end: int) -> Part:
        """Ask for a range: the answer says of what it is one."""
        from fsspec.asyn import sync

        fs = self._fs
        bucket, name, _ = fs.split_path(key)

        async def fetch() -> Part:
            found = await fs._call_s3(
                "get_object", Bucket=bucket, Key=name, Range=f"bytes={start}-{end - 1}"
            )
            try:
                data = await found["Body"].read()
            finally:
                found["Body"].close()
            if "ContentRange" not in found:  # then it is all of it
                return Part(data[start:end], len(data), found["ETag"])
            size = int(found["ContentRange"].rpartition("/")[2])
            return Part(data, size, found["ETag"])

        return cast(Part, sync(fs.loop, fetch))

    def _cut(self, key: str, start: int, end: int) -> Part:
        about = self._fs.info(key)
        data = bytes(self._fs.cat_file(key, start=start, end=end))
        return Part(data, about["size"], str(_time_of(about)))

    def copy(self, path: str, target: str) -> None:
        """Copy an object; raises as `look` does."""
        with _told():
            self._fs.cp_file(self._key(path), self._key(target))

    def remove(self, path: str, within_s: float | None = None) -> None:
        """Remove an object; one that is gone is no matter.

        Parameters
        ----------
        within_s : float or None
            For how long an answer is waited for, with all tries; None for as long as for any other.

        Raises
        ------
        OSError
            When the store does not answer (in time: ``ETIMEDOUT``), or not allow it.
        """
        limit = {"timeout": within_s} if self._is_s3 and within_s is not None else {}
        try:
            with _told():
                self._fs.rm_file(self._key(path), **limit)
        except FileNotFoundError:
            return

    def below(self, folder: str = "") -> Iterator[Entry]:
        """Find all objects below a folder, in the order of their names.

        Raises
        ------
        OSError
            When the store does not answer.
        """
        prefix = self._key(f"{folder}/" if folder else "")
        pages = self._pages if self._is_s3 else self._found
        for key, size, written_at in pages(prefix):
            yield Entry(key.removeprefix(f"{self._root}/"), size, written_at)

    def _pages(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """List page by page: a bucket may have more than memory takes."""
        fs, after = self._fs, ""
        bucket, start, _ = fs.split_path(prefix)
        while True:
            options = {"StartAfter": after} if after else {}
            with _told():
                page = fs.call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=start, MaxKeys=_PAGE, **options
                )
            for each in page.get("Contents", ()):
                after = each["Key"]
                yield f"{bucket}/{after}", each["Size"], each["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return

    def _found(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        with _told():
            found = self._fs.find(prefix.rstrip("/"), detail=True)
        for name, about in sorted(found.items()):
            yield name.strip("/"), about["size"], _time_of(about)


def _time_of(found: dict[str, Any]) -> float:
    """Tell when a file was written; each file system calls it otherwise."""
    written_at = found.get("LastModified") or found["created"]
    return float(written_at.timestamp() if isinstance(written_at, datetime) else written_at)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what fails as an error of the system, in words without keys: they may be logged."""
    try:
        yield
    except Exception as error:
        told = _as_told(error)
        if told is None:
            raise
        raise told from error


def _as_told(error: Exception) -> Exception | None:
    code = _code_of(error)
    name = code or type(error).__name__
    is_known = isinstance(error, OSError) or _is_of_library(error)
    told: Exception | None = None
    if code in _THERE or isinstance(error, FileExistsError):
        told = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    elif code in _UNKNOWN_CONDITION:
        told = NotImplementedError()
    elif code == "NoSuchBucket":
        told = OSError(errno.ENODEV, "the bucket of CXR_ARCHIVE does not exist")
    elif code in _DENIED or isinstance(error, PermissionError):
        words = f"the object store refuses us ({name}); check credentials and rights"
        told = PermissionError(errno.EACCES, words)
    elif isinstance(error, FileNotFoundError):
        told = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    elif isinstance(error, TimeoutError):
        told = StoreAway(errno.ETIMEDOUT, "the object store does not answer in time")
    elif is_known:
        told = StoreAway(errno.EIO, f"the object store cannot be used now ({name})")
    return told


def _is_of_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _code_of(error: BaseException | None) -> str:
    """Give the store's own code of an error, which s3fs hides behind one of the system's."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
