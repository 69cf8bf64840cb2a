"""A file that is written while it comes: its bytes, its hash, and what the disk does not take."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest

from dicom_node.draft import Draft

MEBIBYTE = 1 << 20


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def space_for(limit: int, asked: list[int]):
    def require(size: int) -> None:
        asked.append(size)
        if sum(asked) > limit:
            raise OSError(errno.ENOSPC, "the disk is full")

    return require


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_in_any_parts_is_what_is_kept(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.choice([0, 1, MEBIBYTE - 1, MEBIBYTE, 3 * MEBIBYTE + 5]))
    draft = Draft(opened(tmp_path), lambda _: None)
    at = 0
    while at < len(data):
        size = chance.choice([1, 12, 131_072, 2 * MEBIBYTE])
        draft.write(memoryview(data)[at : at + size])
        at += size
        assert draft.size == min(at, len(data))
        with draft.open() as file:
            assert file.read() == data[:at]
    assert draft.sha256 == hashlib.sha256(data).hexdigest()
    folder = opened(tmp_path)
    draft.finish("name", folder)
    draft.discard()
    os.close(folder)
    assert (tmp_path / "name").read_bytes() == data
    assert [each.name for each in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize("size", [100, 12 * MEBIBYTE])
def test_what_the_disk_does_not_take_is_told_to_whoever_wants_it(tmp_path: Path, size: int) -> None:
    asked: list[int] = []
    draft = Draft(opened(tmp_path), space_for(0 if size == 100 else 8 * MEBIBYTE, asked))
    for _ in range(size // 100):
        draft.write(bytes(100))
    folder = opened(tmp_path)
    with pytest.raises(OSError, match="full"):
        draft.open()
    with pytest.raises(OSError, match="full"):
        draft.finish("name", folder)
    draft.discard()
    os.close(folder)
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_gathered_last_are_not_forgotten_by_its_end(tmp_path: Path) -> None:
    draft = Draft(opened(tmp_path), lambda _: None)
    draft.write(b"first")
    assert draft.sha256 == hashlib.sha256(b"first").hexdigest()
    draft.write(b"last")
    folder = opened(tmp_path)
    draft.finish("name", folder)
    draft.discard()
    os.close(folder)
    assert (tmp_path / "name").read_bytes() == b"firstlast"
