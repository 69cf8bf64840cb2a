import errno
import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from dicom_node.archive import MARK, Archive
from dicom_node.reception import Outcome, association_id, handle_store, has_sent
from tests.datasets import image, part10


class FakeEvent:
    """A C-STORE request as pynetdicom hands it over."""

    def __init__(self, ds=None, data=None, **command):
        ds = image() if ds is None else ds
        self.data = part10(ds) if data is None else data
        command = {
            "sop_class": ds.get("SOPClassUID"),
            "instance": ds.get("SOPInstanceUID"),
        } | command
        self.request = SimpleNamespace(
            AffectedSOPClassUID=command["sop_class"], AffectedSOPInstanceUID=command["instance"]
        )
        self.context = SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1")
        self.assoc = SimpleNamespace(requestor=SimpleNamespace(ae_title="MODALITY "))

    def encoded_dataset(self):
        return self.data


class FakeRecord:
    """Records in memory; may answer something else, or fail."""

    def __init__(self, outcome=Outcome.STORED, error=None):
        self.outcome, self.error, self.received = outcome, error, []

    def __call__(self, received):
        if self.error is not None:
            raise self.error
        self.received.append(received)
        return self.outcome


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "archive")


def files(archive):
    return sorted(p for p in archive.root.rglob("*") if p.is_file() and p.name != MARK)


def test_success_comes_after_the_bytes_are_on_disk_and_recorded(archive):
    event = FakeEvent()
    seen = []

    def record(received):
        seen.append(archive.read(received.path))
        return Outcome.STORED

    assert handle_store(event, archive, record) == 0x0000
    assert seen == [event.data]


def test_what_was_received_is_told(archive):
    record, event = FakeRecord(), FakeEvent()
    handle_store(event, archive, record)
    (received,) = record.received
    ds = image()
    assert received.sop_instance_uid == ds.SOPInstanceUID
    assert received.sop_class_uid == ds.SOPClassUID
    assert received.study_instance_uid == ds.StudyInstanceUID
    assert received.series_instance_uid == ds.SeriesInstanceUID
    assert received.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert (received.patient_id, received.accession_number) == ("PID1", "ACC1")
    assert (received.study_date, received.modality) == ("20260102", "CR")
    assert received.calling_ae_title == "MODALITY"
    assert received.association_id == association_id(event.assoc)
    assert received.size == len(event.data)
    assert received.received_at.tzinfo is UTC
    assert abs((datetime.now(UTC) - received.received_at).total_seconds()) < 60


def test_a_duplicate_is_a_success(archive):
    assert handle_store(FakeEvent(), archive, FakeRecord(Outcome.DUPLICATE)) == 0x0000
    assert len(files(archive)) == 1


def test_other_bytes_under_a_known_uid_are_quarantined_and_refused(archive):
    reply = handle_store(FakeEvent(), archive, FakeRecord(Outcome.CONFLICT))
    assert 0xC000 < reply <= 0xC0FF
    assert "other content" in reply.comment
    assert [p.relative_to(archive.root).parts[0] for p in files(archive)] == ["quarantine"]


@pytest.mark.parametrize("error", [RuntimeError("database"), OSError("disk"), KeyError("x")])
def test_an_instance_that_cannot_be_recorded_is_out_of_resources(archive, error):
    reply = handle_store(FakeEvent(), archive, FakeRecord(error=error))
    assert reply == 0xA700
    assert reply.comment


def test_an_instance_that_cannot_be_written_is_out_of_resources(archive, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "write", full)
    record = FakeRecord()
    assert handle_store(FakeEvent(), archive, record) == 0xA700
    assert record.received == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish" * 30,
        b"\0" * 128 + b"DICM",
        part10(image())[:180],
        b"\0" * 132 + b"\xff" * 99,
    ],
)
def test_bytes_that_cannot_be_read_are_not_understood(archive, data):
    assert handle_store(FakeEvent(data=data), archive, FakeRecord()) == 0xC000
    assert files(archive) == []


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [b"", b"../../etc/passwd", b"1..2", b"x"])
def test_a_missing_or_invalid_uid_is_not_understood(archive, keyword, value):
    ds = image()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds[keyword]._value = value.decode()
    data = part10(ds)
    reply = handle_store(FakeEvent(ds, data=data), archive, FakeRecord())
    assert reply == 0xC000
    assert keyword in reply.comment
    assert files(archive) == []


@pytest.mark.parametrize("command", [{"sop_class": "1.2.3"}, {"instance": "1.2.3"}])
def test_a_dataset_that_is_not_what_the_command_says_does_not_match(archive, command):
    assert handle_store(FakeEvent(**command), archive, FakeRecord()) == 0xA900
    assert files(archive) == []


def test_a_class_that_was_not_negotiated_is_not_stored(archive):
    ct = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    assert handle_store(FakeEvent(ct), archive, FakeRecord()) == 0x0122
    assert files(archive) == []


SR, KEY_OBJECT, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("88.34", "88.59", "7"))


@pytest.mark.parametrize("sop_class", [SR, KEY_OBJECT, CAPTURE])
def test_what_a_cxr_worker_made_is_answered_with_success_and_not_kept(archive, sop_class):
    event, record = FakeEvent(image(SOPClassUID=sop_class, Manufacturer="cxr-worker")), FakeRecord()
    assert handle_store(event, archive, record) == 0x0000
    assert (files(archive), record.received) == ([], [])
    assert not has_sent(event.assoc)


@pytest.mark.parametrize("sop_class", [SR, KEY_OBJECT])
def test_documents_of_others_are_refused_with_a_comment(archive, sop_class):
    reply = handle_store(FakeEvent(image(SOPClassUID=sop_class)), archive, FakeRecord())
    assert (reply, reply.comment) == (0x0122, "This SOP class is not stored here")
    assert files(archive) == []


def test_a_secondary_capture_of_others_is_stored(archive):
    assert handle_store(FakeEvent(image(SOPClassUID=CAPTURE)), archive, FakeRecord()) == 0x0000
    assert len(files(archive)) == 1


def test_no_comment_is_longer_than_its_vr_allows_or_holds_patient_data(archive):
    events = [
        (FakeEvent(data=b"rubbish"), FakeRecord()),
        (FakeEvent(instance="1.2"), FakeRecord()),
        (FakeEvent(sop_class="1.2"), FakeRecord()),
        (FakeEvent(image(SeriesInstanceUID=None)), FakeRecord()),
        (FakeEvent(), FakeRecord(Outcome.CONFLICT)),
        (FakeEvent(), FakeRecord(error=RuntimeError("PID1"))),
        (FakeEvent(), FakeRecord(error=OSError(5, "PID1", "/a/PID1"))),
    ]
    for event, record in events:
        reply = handle_store(event, archive, record)
        assert 0 < len(reply.comment) <= 64
        assert "PID1" not in reply.comment
        assert reply.to_dataset().ErrorComment == reply.comment


def test_no_log_line_holds_patient_data(archive, caplog):
    secret = {"PatientID": "SECRET1", "PatientName": "SECRET^2", "StudyDate": "SECRET3"}
    ds = image(**secret)
    with caplog.at_level(logging.DEBUG):
        handle_store(FakeEvent(ds), archive, FakeRecord(error=RuntimeError("SECRET1")))
        handle_store(FakeEvent(ds), archive, FakeRecord(Outcome.CONFLICT))
        handle_store(FakeEvent(ds, instance="1.2"), archive, FakeRecord())
        handle_store(FakeEvent(ds), archive, FakeRecord())
    assert len(caplog.records) == 4
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("uid", "named"), [(image().SOPInstanceUID, image().SOPInstanceUID), ("1\n2", "an invalid UID")]
)
def test_a_failure_names_the_instance_and_who_sent_it(archive, caplog, uid, named):
    handle_store(FakeEvent(data=b"rubbish", instance=uid), archive, FakeRecord())
    assert caplog.messages == [
        f"C-STORE of {named} from 'MODALITY' refused, 0xC000: The data set cannot be parsed"
    ]


def test_an_association_has_one_id_and_another_has_another():
    one, other = SimpleNamespace(), SimpleNamespace()
    assert association_id(one) == association_id(one) != association_id(other)
    assert not has_sent(one), "which has an id from its beginning"


@pytest.mark.parametrize("again", [Outcome.STORED, Outcome.DUPLICATE])
def test_a_file_that_was_removed_meanwhile_is_stored_once_more(archive, again):
    event, seen = FakeEvent(), []

    def record(received):
        seen.append(received)
        if len(seen) == 1:
            archive.absolute(received.path).unlink()
            return Outcome.VANISHED
        return again

    assert handle_store(event, archive, record) == 0x0000
    assert archive.read(seen[1].path) == event.data


def test_a_file_that_is_removed_again_and_again_is_not_acknowledged(archive):
    assert handle_store(FakeEvent(), archive, FakeRecord(Outcome.VANISHED)) == 0xA700
