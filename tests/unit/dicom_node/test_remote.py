"""A file in a bucket is read as one on a disk, in few requests, and without all of it in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.objects import Part, StoreAway
from dicom_node.remote import START, WINDOW, remote_file

SMALL, LARGE = os.urandom(1000), os.urandom(10 << 20)
PIECE = 256 << 10


@dataclass
class Kept:
    """An object that notes what is fetched of it."""

    data: bytes
    version: str = "1"
    asked: list[tuple[int, int]] = field(default_factory=list)

    def part(self, _: str, start: int, end: int) -> Part:
        self.asked.append((start, end))
        return Part(self.data[start:end], len(self.data), self.version)

    def opened(self) -> BinaryIO:
        return remote_file(self, "1.2/1.2.3.dcm")  # type: ignore[arg-type]


def in_pieces(file: BinaryIO) -> bytes:
    return b"".join(iter(lambda: file.read(PIECE), b""))


def header_then_pixels(file: BinaryIO) -> bytes:
    return file.read(5000) + file.read(len(LARGE) - 5000) + file.read(8)


@pytest.mark.parametrize("read", [in_pieces, header_then_pixels, lambda file: file.read()])
def test_a_radiograph_is_read_in_few_requests_none_of_which_asks_twice_for_a_byte(
    read: Callable[[BinaryIO], bytes],
) -> None:
    kept = Kept(LARGE)
    assert read(kept.opened()) == LARGE
    starts, ends = zip(*kept.asked, strict=True)
    assert starts == (0, *ends[:-1])
    assert (ends[0], ends[-1]) == (START, len(LARGE))
    assert len(kept.asked) == (3 if read is in_pieces else 2)


def test_who_reads_in_pieces_holds_a_window_and_not_the_whole() -> None:
    kept = Kept(LARGE)
    with kept.opened() as file:
        for _ in range(3):
            file.read(PIECE)
        assert max(end - start for start, end in kept.asked) <= WINDOW
        assert kept.asked[-1][1] < len(LARGE)


def test_what_is_small_is_one_request() -> None:
    kept = Kept(SMALL)
    with kept.opened() as file:
        assert file.read() == SMALL
        assert file.read(1) == b""
        assert file.seek(0, io.SEEK_END) == len(SMALL)
    assert len(kept.asked) == 1


def test_its_end_is_known_without_a_request() -> None:
    kept = Kept(LARGE)
    assert kept.opened().seek(0, io.SEEK_END) == len(LARGE)
    assert len(kept.asked) == 1


def test_who_goes_from_place_to_place_does_not_fetch_what_lies_between() -> None:
    kept = Kept(LARGE)
    file = kept.opened()
    for at in (3 << 20, 6 << 20, 9 << 20):
        file.seek(at)
        assert file.read(8) == LARGE[at : at + 8]
    assert sum(end - start for start, end in kept.asked) == 4 * START


def test_its_beginning_is_at_hand_for_who_comes_back() -> None:
    kept = Kept(LARGE)
    file = kept.opened()
    file.seek(9 << 20)
    file.read(8)
    file.seek(0)
    assert file.read(START) == LARGE[:START]
    assert len(kept.asked) == 2


@pytest.mark.parametrize("changed", [Kept(LARGE, "2"), Kept(LARGE[: 1 << 20])])
def test_bytes_of_two_versions_are_never_put_together(changed: Kept) -> None:
    kept = Kept(LARGE)
    file = kept.opened()
    file.read(1000)
    kept.data, kept.version = changed.data, changed.version
    with pytest.raises(StoreAway, match="written anew"):
        file.read()


def test_a_place_before_the_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        Kept(SMALL).opened().seek(-1, io.SEEK_CUR)


def test_a_place_beyond_the_end_has_nothing() -> None:
    kept = Kept(LARGE)
    file = kept.opened()
    file.seek(len(LARGE) + 5)
    assert file.read(5) == b""
    assert file.read() == b""
    assert len(kept.asked) == 1


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]),
        st.integers(-300, 300),
        st.integers(-1, 120),
    ),
    max_size=20,
)


@given(_STEPS, st.integers(0, 200))
def test_it_reads_as_a_file_does_wherever_one_goes(
    steps: list[tuple[int, int, int]], size: int
) -> None:
    data = LARGE[:size]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicom_node.remote.START", 16)
        patch.setattr("dicom_node.remote.WINDOW", 40)
        file, plain = Kept(data).opened(), io.BytesIO(data)
        for whence, offset, length in steps:
            base = {io.SEEK_SET: 0, io.SEEK_CUR: plain.tell(), io.SEEK_END: size}[whence]
            if base + offset >= 0:
                assert file.seek(offset, whence) == plain.seek(base + offset)
            assert file.read(length) == plain.read(length)
            assert file.tell() == plain.tell()
