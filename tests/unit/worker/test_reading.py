"""From a bucket to pixels: what is there is fetched once, compressed or not."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

import fsspec
import numpy as np
import pytest
from pydicom.uid import RLELossless

from dicom_node.decoder_pool import DecoderPool
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.remote import WINDOW
from tests.datasets import image, part10
from worker.reading import open_stored, pixels_of, read_to_decode


@pytest.mark.parametrize("compressed", [True, False])
def test_pixels_are_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    noise = np.random.default_rng(1).integers(0, 4096, (2000, 2000)).astype(np.uint16)
    ds = image(noise)
    if compressed:
        ds.compress(RLELossless)
    data = part10(ds)
    assert len(data) > WINDOW  # or all of it would be at hand
    root = uuid.uuid4().hex
    archive = ObjectArchive("m", Objects(root, lambda: fsspec.filesystem("memory")), tmp_path)
    archive.make()
    path = archive.write(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID), data).path
    asked = list[tuple[int, int]]()
    part = archive.objects.part

    def noting(path: str, start: int, end: int):
        asked.append((start, end))
        return part(path, start, end)

    monkeypatch.setattr(archive.objects, "part", noting)
    with closing(DecoderPool(1, 60)) as decoder, open_stored(archive, path) as file:
        pixels = pixels_of(decoder, read_to_decode(file), file, "1.2")
    assert pixels.shape == (2000, 2000)
    assert sum(end - start for start, end in asked) == len(data)
    assert len(asked) == 2
