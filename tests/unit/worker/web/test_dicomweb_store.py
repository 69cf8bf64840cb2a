"""STOW-RS: what is stored by the web is stored as by C-STORE, or it is said why it is not."""

from __future__ import annotations

import errno
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from dicom_node.archive import MARK, Archive
from dicom_node.file_start import file_start
from dicom_node.status import Status
from tests.dicomweb import (
    ANY_SYNTAX,
    BASE,
    in_parts,
    instance_path,
    parts_of,
    program,
    reported,
    web_over,
)
from tests.fakes import new_uid
from tests.ward import Ward, chest
from tests.web import Web
from worker import ledger
from worker.access.roles import Role
from worker.audit.trail import NotRecorded
from worker.states import JobKind
from worker.tables import Instance

STUDIES = f"{BASE}/studies"


@pytest.fixture
def web(tmp_path: Path, sessions: sessionmaker[Session]) -> Web:
    """A web on each kind of database."""
    return web_over(tmp_path, sessions)


@pytest.fixture
def reader(web: Web) -> TestClient:
    return program(web, "reader")


def as_sent(ds: Dataset) -> bytes:
    """A file as it lies in the archive once it came by C-STORE."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    start = 144 + int.from_bytes(data[140:144], "little")
    meta = ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID
    return file_start(*meta) + data[start:]


def large(**attributes: Any) -> Dataset:
    """An image that does not wait in memory."""
    return chest(pixels=np.arange(1 << 20, dtype=np.uint16).reshape(1 << 10, 1 << 10), **attributes)


def stored(answer: Any, status: int = 200) -> Dataset:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    return Dataset.from_json(answer.text)


def rows(web: Web) -> list[str]:
    return [each.sop_instance_uid for each in web.ward.all(Instance)]


def no_leftovers(web: Web) -> bool:
    files = [each for each in web.ward.archive.root.rglob("*") if each.is_file()]
    return len(files) == 1 + len(rows(web))


# --- what is stored --------------------------------------------------------------------------


def test_instance_is_stored_recorded_and_announced(web: Web, reader: TestClient) -> None:
    ds = chest(PatientID="P-17")
    answer = stored(reader.post(STUDIES, **in_parts([as_sent(ds)])))
    (item,) = answer.ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == ds.SOPInstanceUID
    assert item.RetrieveURL == f"http://testserver{instance_path(ds)}"
    assert answer.RetrieveURL == f"http://testserver{STUDIES}/{ds.StudyInstanceUID}"
    (row,) = web.ward.all(Instance)
    assert (row.sop_instance_uid, row.calling_ae_title) == (ds.SOPInstanceUID, "DICOMWEB")
    assert [bell.kind for bell in web.ward.bells.rung] == [JobKind.CLASSIFY, JobKind.REPORT]
    assert 'csd-code="110104"' in web.audited()
    assert "P-17" in web.audited()
    web.ward.work(60)
    assert len(web.ward.reports()) == 1


@pytest.mark.parametrize("make", [chest, large])
def test_file_comes_back_byte_for_byte(web: Web, reader: TestClient, make: Any) -> None:
    ds = make()
    sent = as_sent(ds)
    stored(reader.post(STUDIES, **in_parts([sent])))
    ((_, body),) = parts_of(reader.get(instance_path(ds), headers={"Accept": ANY_SYNTAX}))
    assert body == sent
    assert no_leftovers(web)


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_transfer_syntax_is_kept(web: Web, reader: TestClient, syntax: str) -> None:
    ds = chest()
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
    stored(reader.post(STUDIES, **in_parts([as_sent(ds)])))
    ((kind, body),) = parts_of(reader.get(instance_path(ds), headers={"Accept": ANY_SYNTAX}))
    assert kind.endswith(syntax)
    assert body == as_sent(ds)


def test_what_came_by_c_store_is_the_same_instance(web: Web, reader: TestClient) -> None:
    ds = chest()
    web.ward.receive(as_sent(ds))
    with_other_meta = BytesIO()
    ds.file_meta.SourceApplicationEntityTitle = "ELSEWHERE"
    ds.save_as(with_other_meta, enforce_file_format=True)
    stored(reader.post(STUDIES, **in_parts([with_other_meta.getvalue()])))
    assert rows(web) == [ds.SOPInstanceUID]


def test_many_instances_come_in_one_request(web: Web, reader: TestClient) -> None:
    study = new_uid()
    sent = [chest(study) for _ in range(5)] + [large(StudyInstanceUID=study)]
    answer = stored(reader.post(f"{STUDIES}/{study}", **in_parts(map(as_sent, sent))))
    assert len(answer.ReferencedSOPSequence) == 6
    assert sorted(rows(web)) == sorted(each.SOPInstanceUID for each in sent)
    assert web.audited().count('csd-code="110104"') == 1


def test_each_patient_of_a_study_is_in_the_audit_trail(web: Web, reader: TestClient) -> None:
    study = new_uid()
    sent = [chest(study, PatientID=each) for each in ("P-17", "P-18", "P-17")]
    stored(reader.post(STUDIES, **in_parts(map(as_sent, sent))))
    for patient in ("P-17", "P-18"):
        assert web.audited().count(patient) == 1


def test_our_own_report_is_taken_and_not_kept(web: Web, reader: TestClient) -> None:
    reported(web)
    (report,) = web.ward.reports()
    before = rows(web)
    answer = stored(reader.post(STUDIES, **in_parts([as_sent(report)])))
    assert len(answer.ReferencedSOPSequence) == 1
    assert rows(web) == before


# --- what is not -----------------------------------------------------------------------------


def test_what_fails_is_told_beside_what_is_stored(web: Web, reader: TestClient) -> None:
    study = new_uid()
    good, other = chest(study), chest()
    answer = stored(reader.post(f"{STUDIES}/{study}", **in_parts(map(as_sent, (good, other)))), 202)
    assert len(answer.ReferencedSOPSequence) == 1
    (failed,) = answer.FailedSOPSequence
    assert failed.ReferencedSOPInstanceUID == other.SOPInstanceUID
    assert failed.FailureReason == Status.DOES_NOT_MATCH_SOP_CLASS
    assert rows(web) == [good.SOPInstanceUID]


def bad_class() -> bytes:
    return as_sent(chest(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))


def bad_syntax() -> bytes:
    return as_sent(chest()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bad_class, Status.SOP_CLASS_NOT_SUPPORTED),
        (bad_syntax, Status.TRANSFER_SYNTAX_NOT_SUPPORTED),
        (lambda: b"no DICOM at all, but long enough" * 9, Status.CANNOT_UNDERSTAND),
        (lambda: b"", Status.CANNOT_UNDERSTAND),
        (lambda: as_sent(chest())[:140], Status.CANNOT_UNDERSTAND),
        (lambda: as_sent(chest(StudyInstanceUID="no uid")), Status.CANNOT_UNDERSTAND),
    ],
)
def test_reason_is_told(web: Web, reader: TestClient, make: Any, reason: Status) -> None:
    answer = stored(reader.post(STUDIES, **in_parts([make()])), 409)
    told = [*answer.get("FailedSOPSequence", []), *answer.get("OtherFailuresSequence", [])]
    assert [each.FailureReason for each in told] == [reason]
    assert rows(web) == []


def test_other_bytes_under_a_known_uid_are_refused(web: Web, reader: TestClient) -> None:
    ds = chest()
    stored(reader.post(STUDIES, **in_parts([as_sent(ds)])))
    ds.PatientComments = "changed"
    answer = stored(reader.post(STUDIES, **in_parts([as_sent(ds)])), 409)
    assert answer.FailedSOPSequence[0].FailureReason == Status.OTHER_BYTES_UNDER_THIS_UID


def test_what_is_reserved_for_reports_is_not_filled_by_the_web(
    tmp_path: Path, sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sessions)
    web = Web(ward, tmp_path, incoming=Archive(ward.archive.root, reserve_bytes=2**62))
    web.add("reader", Role.READER)
    answer = stored(program(web, "reader").post(STUDIES, **in_parts([as_sent(chest())])), 503)
    assert answer.FailedSOPSequence[0].FailureReason == Status.OUT_OF_RESOURCES
    assert rows(web) == []


@pytest.mark.parametrize("make", [chest, large])
def test_full_archive_asks_to_come_again(
    web: Web, reader: TestClient, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Archive, "_require_space", full)
    answer = stored(reader.post(STUDIES, **in_parts([as_sent(make())])), 503)
    assert answer.FailedSOPSequence[0].FailureReason == Status.OUT_OF_RESOURCES
    assert rows(web) == []


def test_archive_is_made_where_no_node_was_yet(web: Web, reader: TestClient) -> None:
    (web.ward.archive.root / MARK).unlink()
    web.ward.archive.root.rmdir()
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])))
    assert web.ward.archive.is_there()


def test_nothing_is_stored_at_the_mount_point_of_an_archive_that_is_away(
    web: Web, reader: TestClient
) -> None:
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])))
    root = web.ward.archive.root
    disk = root.rename(root.with_name("disk"))
    root.mkdir()
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])), 503)
    assert list(root.iterdir()) == []
    root.rmdir()
    disk.rename(root)
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])))


def test_database_that_is_away_asks_to_come_again(
    web: Web, reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("away"))

    monkeypatch.setattr(ledger, "record", away)
    answer = stored(reader.post(STUDIES, **in_parts([as_sent(chest())])), 503)
    assert answer.FailedSOPSequence[0].FailureReason == Status.OUT_OF_RESOURCES
    assert rows(web) == []


def test_what_cannot_be_audited_is_not_recorded(
    web: Web, reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotRecorded("full")

    monkeypatch.setattr(web.trail, "record", fail)
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])), 503)
    assert rows(web) == []


# --- requests --------------------------------------------------------------------------------


def test_viewer_may_not_store(web: Web) -> None:
    assert program(web).post(STUDIES, **in_parts([as_sent(chest())])).status_code == 403
    assert rows(web) == []
    assert 'csd-code="110132"' in web.audited()


def test_session_alone_does_not_store(web: Web) -> None:
    with web.browser("reader") as browser:
        answer = browser.client.post(STUDIES, **in_parts([as_sent(chest())]))
    assert answer.status_code == 403
    assert rows(web) == []


def test_page_of_another_site_cannot_have_a_browser_store(web: Web, reader: TestClient) -> None:
    request = in_parts([as_sent(chest())])
    request["headers"]["Sec-Fetch-Site"] = "cross-site"
    assert reader.post(STUDIES, **request).status_code == 403
    assert rows(web) == []


def test_part_that_is_no_instance_is_told_as_such(web: Web, reader: TestClient) -> None:
    answer = stored(reader.post(STUDIES, **in_parts([b"[]"], "application/dicom+json")), 409)
    assert answer.OtherFailuresSequence[0].FailureReason == Status.CANNOT_UNDERSTAND


def test_request_ends_as_an_association_does(web: Web, reader: TestClient) -> None:
    stored(reader.post(STUDIES, **in_parts([as_sent(chest())])))
    web.ward.classify()
    web.ward.clock.forward(web.ward.settings.quiet_s + 1)
    web.ward.report()
    assert len(web.ward.reports()) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/dicom+json"}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom+xml"; boundary=x'}, 415),
        ({"Content-Type": f"multipart/related; boundary={'x' * 999}"}, 400),
        ({"Content-Type": "multipart/related; boundary=another"}, 400),
        ({"Accept": "application/dicom+xml"}, 406),
    ],
)
def test_request_of_another_form_is_refused(
    web: Web, reader: TestClient, headers: dict[str, str], status: int
) -> None:
    request = in_parts([as_sent(chest())])
    answer = reader.post(STUDIES, content=request["content"], headers=request["headers"] | headers)
    assert answer.status_code == status
    assert rows(web) == []


def test_request_that_is_cut_off_stores_what_was_whole(web: Web, reader: TestClient) -> None:
    whole, cut = chest(), large()
    request = in_parts(map(as_sent, (whole, cut)))
    request["content"] = request["content"][: -len(as_sent(cut)) // 2]
    assert reader.post(STUDIES, **request).status_code == 400
    assert rows(web) == [whole.SOPInstanceUID]
    assert no_leftovers(web)


def test_request_that_is_too_long_is_refused(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    web = web_over(tmp_path, sqlite_sessions, CXR_DICOMWEB_STORE_MB="1")
    reader = program(web, "reader")
    request = in_parts([as_sent(large())])
    assert reader.post(STUDIES, **request).status_code == 413
    # Also where its length is not told before.
    pieces = iter([request["content"]])
    answer = reader.post(STUDIES, content=pieces, headers=request["headers"])
    assert answer.status_code == 413
    assert rows(web) == []
    assert no_leftovers(web)


def test_nothing_is_stored_where_it_is_turned_off(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    web = web_over(tmp_path, sqlite_sessions, CXR_DICOMWEB_STORE_MB="0")
    answer = program(web, "reader").post(STUDIES, **in_parts([as_sent(chest())]))
    assert answer.status_code == 403
    assert "CXR_DICOMWEB_STORE_MB" in answer.json()["detail"]


def test_read_file_is_an_instance(web: Web, reader: TestClient) -> None:
    ds = chest()
    stored(reader.post(STUDIES, **in_parts([as_sent(ds)])))
    (row,) = web.ward.all(Instance)
    read = dcmread(BytesIO(web.ward.archive.read(row.path)))
    assert (read.PixelData, read.PatientName) == (ds.PixelData, ds.PatientName)
