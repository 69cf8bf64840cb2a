"""DICOMweb over a real connection, asked by a client that others wrote."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import uvicorn
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_auth
from PIL import Image
from pydicom import Dataset
from requests.auth import AuthBase
from sqlalchemy.orm import Session, sessionmaker

from tests.datasets import part10, read_back
from tests.dicomweb import BASE, in_parts, program, reported, token_of, web_over
from tests.e2e.programs import free_port
from tests.ward import chest
from tests.web import Web
from worker.states import JobKind
from worker.tables import Instance
from worker.web.patience import ImpatientProtocol

ORIGIN = "https://ohif.example.org"


class Quick(ImpatientProtocol):
    """Has so little patience that an upload would be cut off, did it not come on."""

    patience_s = 3.0


class Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    return web_over(tmp_path, sqlite_sessions, CXR_DICOMWEB_ORIGINS=ORIGIN)


@contextmanager
def served(web: Web, protocol: type[ImpatientProtocol]) -> Iterator[str]:
    """Serve the web; give the URL of DICOMweb."""
    port = free_port()
    config = uvicorn.Config(
        web.app, "127.0.0.1", port, http=protocol, log_config=None, lifespan="off"
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}{BASE}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def url(web: Web) -> Iterator[str]:
    with served(web, ImpatientProtocol) as url:
        yield url


@pytest.fixture
def client(web: Web, url: str) -> DICOMwebClient:
    return DICOMwebClient(url, session=create_session_from_auth(Bearer(token_of(web, "reader"))))


def uids(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def test_what_is_stored_is_found_and_comes_back(web: Web, client: DICOMwebClient) -> None:
    ds = read_back(chest(PatientName="Müller^Jörg"))
    answer = client.store_instances([ds])
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID

    filters = {"PatientName": "mül*"}
    (study,) = map(Dataset.from_json, client.search_for_studies(search_filters=filters))
    assert study.StudyInstanceUID == ds.StudyInstanceUID
    (series,) = map(Dataset.from_json, client.search_for_series(ds.StudyInstanceUID))
    assert series.SeriesInstanceUID == ds.SeriesInstanceUID
    (instance,) = map(Dataset.from_json, client.search_for_instances(*uids(ds)[:2]))
    assert instance.SOPInstanceUID == ds.SOPInstanceUID
    assert client.search_for_studies(search_filters={"PatientName": "Nobody"}) == []

    for found in (
        client.retrieve_instance(*uids(ds)),
        *client.retrieve_series(*uids(ds)[:2]),
        *client.retrieve_study(ds.StudyInstanceUID),
    ):
        found.file_meta = ds.file_meta
        assert found == ds
    metadata = Dataset.from_json(client.retrieve_instance_metadata(*uids(ds)), lambda *_: b"")
    assert metadata.PatientName == ds.PatientName


def test_pixels_come_as_frames_as_bytes_and_as_pictures(web: Web, client: DICOMwebClient) -> None:
    pixels = np.arange(1 << 20, dtype=np.uint16).reshape(1 << 10, 1 << 10)
    ds = read_back(chest(pixels=pixels))
    client.store_instances([ds])
    (frame,) = client.retrieve_instance_frames(*uids(ds), frame_numbers=[1])
    assert frame == ds.PixelData
    metadata = client.retrieve_instance_metadata(*uids(ds))
    uri = metadata["7FE00010"]["BulkDataURI"]
    # This client tells its host without the port, so that the URI has none either.
    (value,) = client.retrieve_bulkdata(client.base_url + uri.partition(BASE)[2])
    assert value == ds.PixelData
    png = client.retrieve_instance_rendered(*uids(ds), media_types=("image/png",))
    assert Image.open(BytesIO(png)).size == (1 << 10, 1 << 10)
    jpeg = client.retrieve_instance_frames_rendered(
        *uids(ds), frame_numbers=[1], media_types=("image/jpeg",)
    )
    assert Image.open(BytesIO(jpeg)).format == "JPEG"


def test_report_is_read_by_the_client(web: Web, client: DICOMwebClient) -> None:
    study = reported(web)
    (report,) = web.ward.reports()
    (found,) = client.search_for_series(study, search_filters={"Modality": "SR"})
    series = Dataset.from_json(found).SeriesInstanceUID
    (read,) = client.retrieve_series(study, series)
    read.file_meta = report.file_meta
    assert read == report


def test_upload_that_takes_longer_than_patience_is_not_cut_off(web: Web) -> None:
    ds = chest(pixels=np.zeros((1 << 11, 1 << 11), np.uint16))
    body = b"--x\r\n\r\n" + part10(ds) + b"\r\n--x--\r\n"

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]
            time.sleep(0.8)  # together more than twice the patience

    headers = {
        "Content-Type": "multipart/related; boundary=x",
        "Authorization": f"Bearer {token_of(web, 'reader')}",
    }
    with served(web, Quick) as url:
        answer = requests.post(f"{url}/studies", slowly(), headers=headers, timeout=60)
    assert answer.status_code == 200
    assert [row.sop_instance_uid for row in web.ward.all(Instance)] == [ds.SOPInstanceUID]


def test_upload_that_breaks_off_leaves_what_was_whole_and_nothing_else(
    web: Web, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = chest(), chest(pixels=np.zeros((1 << 10, 1 << 10), np.uint16))
    request = in_parts(map(part10, (whole, cut)))
    head = (
        f"POST {BASE}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token_of(web, 'reader')}\r\n"
        f"Content-Type: {request['headers']['Content-Type']}\r\n"
        f"Content-Length: {len(request['content'])}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as connection:
        connection.sendall(head.encode() + request["content"][:-1000])
    deadline = time.monotonic() + 60
    while len(web.ward.bells.rung) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [bell.kind for bell in web.ward.bells.rung] == [JobKind.CLASSIFY, JobKind.REPORT]
    assert [row.sop_instance_uid for row in web.ward.all(Instance)] == [whole.SOPInstanceUID]
    files = [each for each in web.ward.archive.root.rglob("*") if each.is_file()]
    assert len(files) == 2  # the archive's mark, and what was whole
    assert "Traceback" not in caplog.text


# --- pages of others -------------------------------------------------------------------------


def test_viewer_of_a_known_origin_may_read_with_a_token(web: Web, url: str) -> None:
    web.ward.receive(chest())
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "authorization"
    answer = requests.options(f"{url}/studies", headers=asked, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in answer.headers
    headers = {"Origin": ORIGIN, "Authorization": f"Bearer {token_of(web)}"}
    answer = requests.get(f"{url}/studies", headers=headers, timeout=60)
    assert (answer.status_code, len(answer.json())) == (200, 1)
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_viewer_of_another_origin_may_not(web: Web, url: str) -> None:
    asked = {"Origin": "https://evil.example.org", "Access-Control-Request-Method": "GET"}
    answer = requests.options(f"{url}/studies", headers=asked, timeout=60)
    assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert requests.options(f"{url}/studies", headers=asked, timeout=60).status_code == 400


def test_no_origin_is_known_by_default(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    web = web_over(tmp_path, sqlite_sessions)
    answer = program(web).get(f"{BASE}/studies", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers
