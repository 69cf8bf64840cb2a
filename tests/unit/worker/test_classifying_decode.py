"""What is compressed is decoded in a child: a decoder that crashes costs one instance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy.orm import Session, sessionmaker

from dicom_node import decoder_child
from dicom_node.decoder_child import Decoder
from tests.ward import Ward, chest
from worker.tables import Job

RLE = "1.2.840.10008.1.2.5"


@pytest.fixture
def ward(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ward]:
    monkeypatch.setattr(decoder_child, "_PROGRAM", "tests.unit.dicom_node.faulty_decoder")
    ward = Ward(tmp_path, sqlite_sessions)
    ward.desk = replace(ward.desk, decoder=Decoder(600))
    yield ward
    ward.desk.decoder.close()


def compressed(comment: str) -> Dataset:
    ds = chest(ImageComments=comment)
    ds.compress(RLE, generate_instance_uid=False)
    return ds


def test_a_decoder_that_crashes_harms_no_other_instance_of_the_batch(ward: Ward) -> None:
    for comment in ("", "crash", ""):
        ward.receive(compressed(comment))
    assert ward.classify() == 3
    assert sorted(str(row.reason) for row in ward.findings()) == ["None", "None", "UNDECODABLE"]


def test_an_instance_whose_decoder_was_killed_from_outside_is_tried_again(ward: Ward) -> None:
    ward.receive(compressed("is killed"))
    assert ward.classify() == 1
    assert ward.findings() == []
    assert "DecoderAway" in [job.last_error for job in ward.all(Job)]


def test_what_is_not_compressed_needs_no_child(ward: Ward) -> None:
    ward.receive(chest(ImageComments="crash"))
    ward.classify()
    assert [row.reason for row in ward.findings()] == [None]
