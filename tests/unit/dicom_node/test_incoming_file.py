"""An instance that comes as a file is the C-STORE request that it would have been."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node import incoming_file
from dicom_node.archive import Archive
from dicom_node.file_start import file_start
from dicom_node.incoming import draft_of
from dicom_node.incoming_file import IncomingFile, NotTaken
from dicom_node.status import Status
from tests.datasets import image, part10


def fed(archive: Archive, data: bytes, size: int) -> IncomingFile:
    file = IncomingFile(archive, SimpleNamespace())
    for start in range(0, len(data), size):
        file.write(data[start : start + size])
    return file


def data_set_of(ds: Dataset) -> bytes:
    data = part10(ds)
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.mark.parametrize("size", [1, 7, 128, 143, 144, 1000, 1 << 20])
def test_file_is_the_same_in_whatever_pieces_it_comes(tmp_path: Path, size: int) -> None:
    ds = image()
    event: Any = fed(Archive(tmp_path), part10(ds), size).event()
    assert event.request.AffectedSOPInstanceUID == ds.SOPInstanceUID
    assert event.context.transfer_syntax == ExplicitVRLittleEndian
    start = file_start(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian)
    assert event.encoded_dataset() == start + data_set_of(ds)


def test_large_file_is_a_draft_that_is_removed_when_nobody_stores_it(tmp_path: Path) -> None:
    ds = image(np.zeros((1 << 10, 1 << 10), np.uint16))
    file = fed(Archive(tmp_path), part10(ds), 1 << 16)
    draft = draft_of(file.event().request)
    assert draft is not None
    with draft.open() as opened:
        start = file_start(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian)
        assert opened.read() == start + data_set_of(ds)
    file.discard()
    assert len(list(tmp_path.iterdir())) == 1  # the archive's mark


def without_length() -> bytes:
    data = part10(image())
    return data[:132] + data[144:]


def with_endless_meta() -> bytes:
    data = part10(image())
    return data[:140] + b"\xff\xff\xff\x7f" + data[144:]


def without_uid() -> bytes:
    data = part10(image())
    return data.replace(b"\x02\x00\x03\x00UI", b"\x02\x00\x05\x00UI", 1)


@pytest.mark.parametrize(
    "make",
    [bytes, lambda: b"DICM", lambda: bytes(4096), without_length, with_endless_meta, without_uid],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_such_file_cannot_be_understood(tmp_path: Path, make: Any, size: int) -> None:
    file = fed(Archive(tmp_path), make(), size)
    with pytest.raises(NotTaken) as caught:
        file.event()
    assert caught.value.status == Status.CANNOT_UNDERSTAND


def test_deflated_file_is_not_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = image()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    fed(Archive(tmp_path), part10(ds), 100).event()
    monkeypatch.setattr(incoming_file, "_MOST_DEFLATED", 100)
    file = fed(Archive(tmp_path), part10(ds), 100)
    with pytest.raises(NotTaken) as caught:
        file.event()
    assert caught.value.sop_instance_uid == ds.SOPInstanceUID
