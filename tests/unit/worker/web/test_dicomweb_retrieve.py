"""WADO-RS: files, metadata, frames, long values and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from tests import datasets
from tests.dicomweb import (
    ANY_SYNTAX,
    BASE,
    datasets_of,
    instance_path,
    parts_of,
    program,
    receive,
    reported,
    web_over,
)
from tests.ward import chest
from tests.web import Web
from worker.tables import Instance
from worker.web.dicomweb import objects, rendered

FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    return web_over(tmp_path, sqlite_sessions)


@pytest.fixture
def client(web: Web) -> TestClient:
    return program(web)


def kept(web: Web, ds: Dataset) -> bytes:
    """Give the bytes of an instance in the archive."""
    (row,) = (each for each in web.ward.all(Instance) if each.sop_instance_uid == ds.SOPInstanceUID)
    return web.ward.archive.read(row.path)


def in_syntax(syntax: str, **attributes: Any) -> Dataset:
    """A chest image of 8 x 8 pixels in a transfer syntax."""
    ds = chest(**attributes)
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
        return ds
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    return ds


# --- files -----------------------------------------------------------------------------------


def test_study_comes_back_byte_for_byte_with_our_report(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    web.ward.work(60)
    (report,) = web.ward.reports()
    answer = client.get(f"{BASE}/studies/{ds.StudyInstanceUID}", headers={"Accept": ANY_SYNTAX})
    parts = parts_of(answer)
    assert {kind for kind, _ in parts} == {
        f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    }
    assert parts[0][1] == kept(web, ds)
    assert [dcmread(BytesIO(each)).SOPInstanceUID for _, each in parts] == [
        ds.SOPInstanceUID, report.SOPInstanceUID
    ]  # fmt: skip


def test_series_and_instance_are_parts_of_their_study(web: Web, client: TestClient) -> None:
    one = chest()
    other = chest(one.StudyInstanceUID, SeriesInstanceUID=f"{one.StudyInstanceUID}.2")
    for each in (one, other):
        receive(web, each)
    for path in (instance_path(one), instance_path(one).partition("/instances")[0]):
        ((_, body),) = parts_of(client.get(path, headers={"Accept": ANY_SYNTAX}))
        assert body == kept(web, one)


def test_single_instance_may_come_without_parts(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    answer = client.get(instance_path(ds), headers={"Accept": "application/dicom"})
    assert answer.content == kept(web, ds)
    assert answer.headers["content-type"].startswith("application/dicom;")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_default_transfer_syntax_is_made_of_what_is_simple(
    web: Web, client: TestClient, syntax: str
) -> None:
    ds = in_syntax(syntax)
    receive(web, ds)
    for accept in ('multipart/related; type="application/dicom"', "*/*"):
        ((kind, body),) = parts_of(client.get(instance_path(ds), headers={"Accept": accept}))
        assert kind.endswith(f"transfer-syntax={ExplicitVRLittleEndian}")
        read = dcmread(BytesIO(body))
        assert read.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert read.PixelData == ds.PixelData
        assert read.PatientName == ds.PatientName
    ((kind, body),) = parts_of(client.get(instance_path(ds), headers={"Accept": ANY_SYNTAX}))
    assert (kind.rpartition("=")[2], body) == (syntax, kept(web, ds))


def test_transfer_syntax_that_is_not_made_is_not_acceptable(web: Web, client: TestClient) -> None:
    ds = in_syntax(RLELossless)
    receive(web, ds)
    for syntax, status in (
        (JPEG2000Lossless, 406), (ExplicitVRLittleEndian, 406), (RLELossless, 200)
    ):  # fmt: skip
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        answer = client.get(instance_path(ds), headers={"Accept": accept})
        assert answer.status_code == status
    assert (
        RLELossless
        in client.get(
            instance_path(ds), headers={"Accept": "application/dicom;transfer-syntax=1.2"}
        ).json()["detail"]
    )


def test_files_are_opened_once_however_much_is_wished_for(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = in_syntax(RLELossless)
    receive(web, ds)
    opened: list[Any] = []

    def open_stored(*args: Any) -> Any:
        opened.append(args)
        return stored(*args)

    stored = objects.open_stored
    monkeypatch.setattr(objects, "open_stored", open_stored)
    many = ",".join(["*/*;transfer-syntax=1"] * 187)
    answer = client.get(instance_path(ds), headers={"Accept": many})
    assert answer.status_code == 406
    assert RLELossless in answer.json()["detail"]
    assert len(opened) == 1


def test_dearest_of_many_wishes_is_fulfilled(web: Web, client: TestClient) -> None:
    ds = in_syntax(RLELossless)
    receive(web, ds)
    many = ",".join(["*/*;transfer-syntax=1;q=0.5"] * 20)
    for dear, status in (("1", 200), ("0.4", 406)):  # the last comes after all that is read
        asked = f"{many},application/dicom;transfer-syntax=*;q={dear}"
        assert client.get(instance_path(ds), headers={"Accept": asked}).status_code == status


def test_what_is_not_here_and_what_was_removed_are_told_apart(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    study = f"{BASE}/studies/{ds.StudyInstanceUID}"
    accept = {"Accept": ANY_SYNTAX}
    assert client.get(f"{BASE}/studies/1.2.3", headers=accept).status_code == 404
    assert client.get(f"{study}/series/1.2.3", headers=accept).status_code == 404
    with web.ward.sessions() as session, session.begin():
        session.execute(update(Instance).values(removed_at=web.ward.clock(), path=""))
    assert client.get(study, headers=accept).status_code == 410
    assert client.get(instance_path(ds), headers=accept).status_code == 410
    assert client.get(f"{instance_path(ds)}/frames/1").status_code == 410


def test_file_that_is_gone_is_left_out_and_an_archive_that_is_away_is_said(
    web: Web, client: TestClient
) -> None:
    one, other = chest(), None
    other = chest(one.StudyInstanceUID)
    for each in (one, other):
        receive(web, each)
    (path,) = (r.path for r in web.ward.all(Instance) if r.sop_instance_uid == one.SOPInstanceUID)
    web.ward.archive.absolute(path).unlink()
    study = f"{BASE}/studies/{one.StudyInstanceUID}"
    answer = client.get(study, headers={"Accept": ANY_SYNTAX})
    assert answer.status_code == 206
    assert [body for _, body in parts_of(answer)] == [kept(web, other)]
    root = web.ward.archive.root
    root.rename(root.with_name("unmounted"))
    assert client.get(study, headers={"Accept": ANY_SYNTAX}).status_code == 503


def test_transfer_is_in_the_audit_trail(web: Web, client: TestClient) -> None:
    study = web.ward.receive_study(PatientID="P-17")
    client.get(f"{BASE}/studies/{study}", headers={"Accept": ANY_SYNTAX})
    assert 'csd-code="110104"' in web.audited()
    client.get(f"{BASE}/studies/{study}/metadata")
    assert 'csd-code="110103"' in web.audited()
    assert web.audited().count(study) == 2


def test_path_that_is_no_uid_is_refused(client: TestClient) -> None:
    answer = client.get(f"{BASE}/studies/..%2Fetc")
    assert answer.status_code in (400, 404)
    assert client.get(f"{BASE}/studies/abc/metadata").status_code == 400


# --- metadata --------------------------------------------------------------------------------


def test_metadata_says_what_the_instance_says_but_its_pixels(web: Web, client: TestClient) -> None:
    ds = chest(PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192")
    ds.add_new(0x00091001, "OB", b"x" * 4096)
    ds.add_new(0x00090010, "LO", "MAKER")
    receive(web, ds)
    (read,) = datasets_of(client.get(f"{BASE}/studies/{ds.StudyInstanceUID}/metadata"))
    expected = dcmread(BytesIO(kept(web, ds)), stop_before_pixels=True)
    for element in expected:
        if element.tag not in (0x00091001, 0x00080005):
            assert read[element.tag].value == element.value
    assert read.AvailableTransferSyntaxUID == ExplicitVRLittleEndian
    (told,) = client.get(f"{BASE}/studies/{ds.StudyInstanceUID}/metadata").json()
    assert told["7FE00010"]["vr"] == "OW"
    assert "Value" not in told["7FE00010"]
    pixels = client.get(told["7FE00010"]["BulkDataURI"])
    assert parts_of(pixels) == [("application/octet-stream", ds.PixelData)]
    private = client.get(
        told["00091001"]["BulkDataURI"], headers={"Accept": "application/octet-stream"}
    )
    assert private.content == b"x" * 4096


def test_report_is_read_back_from_its_metadata(web: Web, client: TestClient) -> None:
    study = reported(web)
    (report,) = web.ward.reports()
    path = f"{BASE}/studies/{study}/series/{report.SeriesInstanceUID}/metadata"
    (read,) = datasets_of(client.get(path))
    del read.AvailableTransferSyntaxUID
    read.SpecificCharacterSet = report.SpecificCharacterSet
    assert read == report


def test_value_that_json_cannot_say_is_left_out(web: Web, client: TestClient) -> None:
    ds = datasets.with_element(chest(), "InstanceNumber", "IS", b"first ")
    receive(web, ds)
    (read,) = datasets_of(client.get(f"{BASE}/studies/{ds.StudyInstanceUID}/metadata"))
    assert "InstanceNumber" not in read
    assert read.SOPInstanceUID == ds.SOPInstanceUID


# --- frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    ],
)  # fmt: skip
def test_frame_is_in_little_endian_whatever_is_stored(
    web: Web, client: TestClient, syntax: str
) -> None:
    ds = in_syntax(syntax)
    receive(web, ds)
    ((kind, body),) = parts_of(client.get(f"{instance_path(ds)}/frames/1"))
    assert kind == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    assert body == chest().PixelData


def test_compressed_frame_comes_as_it_is_stored(web: Web, client: TestClient) -> None:
    ds = in_syntax(RLELossless)
    receive(web, ds)
    path = f"{instance_path(ds)}/frames/1"
    for accept, kind in (
        (FRAME, "application/octet-stream"),
        ('multipart/related; type="image/dicom-rle"', "image/dicom-rle"),
        ("*/*", "image/dicom-rle"),
    ):
        ((told, body),) = parts_of(client.get(path, headers={"Accept": accept}))
        assert told == f"{kind}; transfer-syntax={RLELossless}"
        assert body == get_frame(ds.PixelData, 0, number_of_frames=1)
    plain = 'multipart/related; type="application/octet-stream"'
    assert client.get(path, headers={"Accept": plain}).status_code == 406


def test_frames_of_several_are_told_apart(web: Web, client: TestClient) -> None:
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
    ds = chest(NumberOfFrames=3)
    ds.BitsAllocated, ds.PixelData = 8, pixels.tobytes()
    receive(web, ds)
    parts = parts_of(client.get(f"{instance_path(ds)}/frames/3,1"))
    assert [body for _, body in parts] == [pixels[2].tobytes(), pixels[0].tobytes()]
    assert client.get(f"{instance_path(ds)}/frames/4").status_code == 404
    assert client.get(f"{instance_path(ds)}/frames/0").status_code == 400


def test_pixels_that_are_cut_off_are_not_given(web: Web, client: TestClient) -> None:
    ds = chest()
    ds.PixelData = ds.PixelData[:20]
    receive(web, ds)
    assert client.get(f"{instance_path(ds)}/frames/1").status_code == 404


# --- pictures --------------------------------------------------------------------------------


def picture(answer: Any, kind: str = "PNG") -> Image.Image:
    assert answer.status_code == 200, answer.text
    image = Image.open(BytesIO(answer.content))
    assert image.format == kind
    return image


def test_rendered_image_is_what_the_pages_show(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    path = f"{BASE}/../studies/{ds.StudyInstanceUID}/images/{ds.SOPInstanceUID}/picture.png"
    with web.browser("viewer") as browser:
        shown = browser.get(path.replace(f"{BASE}/..", "")).content
    for last in ("rendered", "frames/1/rendered"):
        answer = client.get(f"{instance_path(ds)}/{last}", headers={"Accept": "image/png"})
        assert answer.content == shown
    picture(client.get(f"{instance_path(ds)}/rendered"), "JPEG")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_window_of_the_request_wins(web: Web, client: TestClient, syntax: str) -> None:
    ds = in_syntax(syntax, WindowCenter=10, WindowWidth=5)
    receive(web, ds)
    path, accept = f"{instance_path(ds)}/rendered", {"Accept": "image/png"}
    wide = {"window": "2048,4096,linear"}
    image = np.asarray(picture(client.get(path, params=wide, headers=accept)))
    stored = np.arange(64).reshape(8, 8) * 64
    assert np.abs(image - stored / 4095 * 255).max() <= 1
    assert (np.asarray(picture(client.get(path, headers=accept))) == 255).sum() == 63


def test_viewport_cuts_and_scales(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    path, accept = f"{instance_path(ds)}/rendered", {"Accept": "image/png"}
    for viewport, size in (
        ("4,100", (4, 4)),
        ("16,8,0,0,4,8", (4, 8)),
        ("20,40,4,0,99,8", (20, 40)),
    ):
        answer = client.get(path, params={"viewport": viewport}, headers=accept)
        assert picture(answer).size == size
    thumbnail = client.get(f"{instance_path(ds)}/thumbnail")
    assert picture(thumbnail, "JPEG").size == (256, 256)


@pytest.mark.parametrize(
    "parameters",
    [
        {"window": "1"}, {"window": "1,2,cubic"}, {"window": "nan,2,linear"},
        {"window": "1,0,linear"}, {"viewport": "0,1"}, {"viewport": "99999,1"},
        {"viewport": "4,4,50,50,1,1"}, {"viewport": "4,4,1e308,0,1.7e308,1"},
        {"viewport": "4097,1"}, {"quality": "0"}, {"quality": "best"}, {"quality": "9" * 5000},
    ],
)  # fmt: skip
def test_view_that_is_none_is_refused(
    web: Web, client: TestClient, parameters: dict[str, str]
) -> None:
    ds = chest()
    receive(web, ds)
    assert client.get(f"{instance_path(ds)}/rendered", params=parameters).status_code == 400


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png"])
def test_picture_is_written_in_the_place_that_it_was_read_in(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    taken: list[bool] = []

    @contextmanager
    def decoding() -> Iterator[None]:
        taken.append(True)
        yield
        taken.append(False)

    def save(image: Image.Image, *args: Any, **kwargs: Any) -> None:
        assert taken[-1:] == [True]
        written(image, *args, **kwargs)

    written = Image.Image.save
    monkeypatch.setattr(rendered, "decoding", decoding)
    monkeypatch.setattr(Image.Image, "save", save)
    ds = chest()
    receive(web, ds)
    answer = client.get(f"{instance_path(ds)}/rendered", headers={"Accept": kind})
    assert answer.status_code == 200
    assert taken == [True, False]


def test_colours_of_our_picture_are_kept(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    web = web_over(
        tmp_path, sqlite_sessions, CXR_DESTINATIONS="PACS@192.0.2.1:104?companions=picture"
    )
    study, client = reported(web), program(web)
    (ds,) = datasets_of(client.get(f"{BASE}/studies/{study}/instances", params={"Modality": "OT"}))
    answer = client.get(f"{ds.RetrieveURL}/rendered", headers={"Accept": "image/png"})
    image = np.asarray(picture(answer))
    ((_, body),) = parts_of(client.get(ds.RetrieveURL, headers={"Accept": ANY_SYNTAX}))
    assert (image == dcmread(BytesIO(body)).pixel_array).all()


def test_report_is_no_picture(web: Web, client: TestClient) -> None:
    study = reported(web)
    (report,) = web.ward.reports()
    answer = client.get(f"{instance_path(report)}/rendered")
    assert study in instance_path(report)
    assert answer.status_code == 415
    assert client.get(f"{instance_path(report)}/frames/1").status_code == 404
