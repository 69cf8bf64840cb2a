"""C-STORE into a bucket: Success only after the store's answer and the row."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from dicom_node.incoming import DataSet
from dicom_node.object_archive import ObjectArchive
from dicom_node.objects import Objects
from dicom_node.reception import Outcome, handle_store
from dicom_node.status import Status
from tests.datasets import image, part10


@pytest.fixture
def archive(tmp_path: Path) -> ObjectArchive:
    root = uuid.uuid4().hex
    made = ObjectArchive(
        "memory", Objects(root, lambda: fsspec.filesystem("memory")), tmp_path / "spool"
    )
    made.make()
    return made


class Event:
    """A C-STORE request whose data set is in memory, or was drafted."""

    def __init__(self, archive: ObjectArchive | None = None) -> None:
        ds = image()
        self.data = part10(ds)
        self.request = SimpleNamespace(
            AffectedSOPClassUID=ds.SOPClassUID, AffectedSOPInstanceUID=ds.SOPInstanceUID
        )
        if archive is not None:
            self.request.DataSet = DataSet(lambda: archive.draft(b""))
            self.request.DataSet._move()
            self.request.DataSet.write(self.data)
        self.context = SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1")
        self.assoc = SimpleNamespace(requestor=SimpleNamespace(ae_title="MODALITY "))

    def encoded_dataset(self) -> bytes:
        return self.data


@pytest.mark.parametrize("drafted", [False, True])
def test_success_comes_after_the_object_is_there_and_recorded(
    archive: ObjectArchive, drafted: bool
) -> None:
    event, seen = Event(archive if drafted else None), []

    def record(received: Any) -> Outcome:
        seen.append(archive.read(received.path))
        return Outcome.STORED

    assert handle_store(event, archive, record) == Status.SUCCESS
    assert seen == [event.data]


@pytest.mark.parametrize("drafted", [False, True])
def test_an_instance_that_the_store_does_not_take_is_refused_and_not_recorded(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch, drafted: bool
) -> None:
    event, recorded = Event(archive if drafted else None), list[Any]()

    def away(*_: object, **__: object) -> None:
        raise OSError(5, "the object store cannot be used (EndpointConnectionError)")

    monkeypatch.setattr(archive.objects, "put", away)
    assert handle_store(event, archive, recorded.append) == Status.OUT_OF_RESOURCES
    assert recorded == []


@pytest.mark.parametrize("drafted", [False, True])
def test_what_vanished_meanwhile_is_stored_once_more(archive: ObjectArchive, drafted: bool) -> None:
    event, outcomes = Event(archive if drafted else None), [Outcome.VANISHED, Outcome.DUPLICATE]
    paths = list[str]()

    def record(received: Any) -> Outcome:
        paths.append(received.path)
        if len(outcomes) == 2:
            archive.objects.remove(received.path)
        return outcomes.pop(0)

    assert handle_store(event, archive, record) == Status.SUCCESS
    assert archive.read(paths[-1]) == event.data


def test_other_bytes_under_a_known_uid_go_to_the_quarantine(archive: ObjectArchive) -> None:
    paths = list[str]()

    def record(received: Any) -> Outcome:
        paths.append(received.path)
        return Outcome.CONFLICT

    reply = handle_store(Event(), archive, record)
    assert reply == Status.OTHER_BYTES_UNDER_THIS_UID
    assert not archive.has(paths[0])
    assert archive.has(f"quarantine/{paths[0]}")
