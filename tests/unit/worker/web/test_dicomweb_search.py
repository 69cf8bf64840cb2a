"""QIDO-RS: who may search, what is found, and what is told of it."""

from __future__ import annotations

import re
import threading
from base64 import b64decode
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from dicom_node.query import attributes_of
from tests import datasets
from tests.dicomweb import BASE, datasets_of, program, receive, reported, web_over
from tests.ward import chest
from tests.web import Web
from worker.audit.trail import NotRecorded
from worker.web.dicomweb import places, search

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "dicomweb.md"
ATTRIBUTES = attributes_of("IMAGE")


@pytest.fixture
def web(tmp_path: Path, sessions: sessionmaker[Session]) -> Web:
    """A web on each kind of database."""
    return web_over(tmp_path, sessions)


@pytest.fixture
def client(web: Web) -> TestClient:
    return program(web)


@pytest.fixture
def sqlite_client(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> TestClient:
    web = web_over(tmp_path, sqlite_sessions)
    receive(web, chest())
    return program(web)


# --- who may ask -----------------------------------------------------------------------------


def test_nobody_searches_without_a_token_or_a_session(web: Web) -> None:
    answer = TestClient(web.app).get(f"{BASE}/studies")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_token_in_the_url_is_not_taken(web: Web, client: TestClient) -> None:
    token = client.headers.pop("Authorization").removeprefix("Bearer ")
    assert client.get(f"{BASE}/studies", params={"token": token}).status_code == 401


def test_browser_that_is_signed_in_needs_no_token(web: Web) -> None:
    receive(web, chest())
    with web.browser("viewer") as browser:
        assert browser.get(f"{BASE}/studies").status_code == 200
        web.ward.clock.forward(60 * 60)
        assert browser.get(f"{BASE}/studies").status_code == 401


def test_search_is_written_to_the_audit_trail_before_it_is_answered(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(web, chest(PatientID="P-17"))
    assert client.get(f"{BASE}/studies", params={"PatientID": "P-17"}).status_code == 200
    assert 'csd-code="110112"' in web.audited()

    def fail(*_: object) -> None:
        raise NotRecorded("full")

    monkeypatch.setattr(web.trail, "record", fail)
    assert client.get(f"{BASE}/studies").status_code == 503


def test_audit_trail_says_what_was_searched_whatever_the_query_says(
    web: Web, client: TestClient
) -> None:
    ds = chest()
    receive(web, ds)
    path = f"{BASE}/studies/{ds.StudyInstanceUID}/series"
    for key in ("StudyInstanceUID", "0020000D", "0020000d"):
        assert client.get(path, params={key: "1.2.3"}).status_code == 400
    assert 'csd-code="110112"' not in web.audited()
    asked = [("includefield", "PatientName"), ("includefield", "StationName")]
    assert client.get(path, params=asked).status_code == 200
    (said,) = re.findall(r"<ParticipantObjectQuery>(.*?)</", web.audited())
    assert parse_qs(b64decode(said).decode()) == {
        "level": ["SERIES"],
        "StudyInstanceUID": [ds.StudyInstanceUID],
        "includefield": ["PatientName,StationName"],
    }


# --- what is found ---------------------------------------------------------------------------


def test_study_tells_what_the_standard_asks_for(web: Web, client: TestClient) -> None:
    ds = chest(PatientName="Müller^Jörg", PatientID="P-17")
    receive(web, ds)
    (found,) = datasets_of(client.get(f"{BASE}/studies"))
    assert found.StudyInstanceUID == ds.StudyInstanceUID
    assert str(found.PatientName) == "Müller^Jörg"
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (1, 1)
    assert found.ModalitiesInStudy == "CR"
    assert found.RetrieveURL == f"http://testserver{BASE}/studies/{ds.StudyInstanceUID}"


@pytest.mark.parametrize(
    ("parameters", "is_found"),
    [
        ({"PatientName": "mül*"}, True),
        ({"00100010": "M?ller*"}, True),
        ({"PatientName": "Meier*"}, False),
        ({"StudyDate": "20260101-20260131"}, True),
        ({"StudyDate": "20270101-"}, False),
        ({"AccessionNumber": "ACC1"}, True),
        ({"ModalitiesInStudy": "DX,CR"}, True),
        ({"ModalitiesInStudy": "DX"}, False),
        ({"StudyInstanceUID": "1.2.3,1.2.4"}, False),
    ],
)
def test_keys_match_as_by_c_find(
    web: Web, client: TestClient, parameters: dict[str, str], is_found: bool
) -> None:
    receive(web, chest(PatientName="Müller^Jörg"))
    answer = client.get(f"{BASE}/studies", params=parameters)
    assert answer.status_code == (200 if is_found else 204)


def test_several_uids_find_each_of_their_studies(web: Web, client: TestClient) -> None:
    uids = [web.ward.receive_study() for _ in range(3)]
    answer = client.get(f"{BASE}/studies", params={"StudyInstanceUID": ",".join(uids[:2])})
    assert {each.StudyInstanceUID for each in datasets_of(answer)} == set(uids[:2])


def test_many_uids_may_be_sought_at_once(web: Web, client: TestClient) -> None:
    ds = chest()
    receive(web, ds)
    uids = [f"{ds.StudyInstanceUID}.{number}" for number in range(999)]
    asked = {"StudyInstanceUID": ",".join([*uids, ds.StudyInstanceUID])}
    (found,) = datasets_of(client.get(f"{BASE}/studies", params=asked))
    assert found.StudyInstanceUID == ds.StudyInstanceUID


def test_our_report_is_found_beside_the_image(web: Web, client: TestClient) -> None:
    study = reported(web)
    (found,) = datasets_of(client.get(f"{BASE}/studies"))
    assert list(found.ModalitiesInStudy) == ["CR", "SR"]
    series = datasets_of(client.get(f"{BASE}/studies/{study}/series", params={"Modality": "SR"}))
    (report,) = web.ward.reports()
    assert [each.SeriesInstanceUID for each in series] == [report.SeriesInstanceUID]
    path = f"{BASE}/studies/{study}/series/{report.SeriesInstanceUID}/instances"
    (instance,) = datasets_of(client.get(path))
    assert instance.SOPInstanceUID == report.SOPInstanceUID
    assert instance.RetrieveURL.endswith(f"/instances/{report.SOPInstanceUID}")


def test_pictures_and_key_objects_are_found(
    tmp_path: Path, sessions: sessionmaker[Session]
) -> None:
    pacs = "PACS@192.0.2.1:104?companions=picture+key-object"
    web = web_over(tmp_path, sessions, CXR_DESTINATIONS=pacs)
    study = reported(web)
    found = datasets_of(program(web).get(f"{BASE}/studies/{study}/instances"))
    classes = {each.SOPClassUID for each in found}
    assert {KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage} <= classes


def test_instances_are_found_across_studies(web: Web, client: TestClient) -> None:
    first, second = chest(), chest()
    receive(web, first)
    receive(web, second)
    found = datasets_of(client.get(f"{BASE}/instances"))
    assert {each.SOPInstanceUID for each in found} == {
        first.SOPInstanceUID, second.SOPInstanceUID
    }  # fmt: skip
    answer = client.get(f"{BASE}/instances", params={"SOPInstanceUID": first.SOPInstanceUID})
    (only,) = datasets_of(answer)
    # Of the levels above it is told too, as nothing says which one is meant.
    assert (only.StudyInstanceUID, only.Modality) == (first.StudyInstanceUID, "CR")


def test_instance_that_is_unknown_is_sought_in_no_study(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(web, chest())
    monkeypatch.setattr(search, "SEARCH_LIMIT", 0)
    answer = client.get(f"{BASE}/instances", params={"SOPInstanceUID": "1.2.3"})
    assert answer.status_code == 204


def test_series_are_found_across_studies(web: Web, client: TestClient) -> None:
    uids = {web.ward.receive_study() for _ in range(2)}
    found = datasets_of(client.get(f"{BASE}/series", params={"Modality": "CR"}))
    assert {each.StudyInstanceUID for each in found} == uids


def test_fields_are_told_that_are_asked_for(web: Web, client: TestClient) -> None:
    receive(web, chest(PatientComments="keep calm"))
    (usual,) = datasets_of(client.get(f"{BASE}/studies"))
    assert "PatientComments" not in usual
    for asked in ("PatientComments", "00104000", "all", "StudyTime,00104000"):
        (found,) = datasets_of(client.get(f"{BASE}/studies", params={"includefield": asked}))
        assert found.PatientComments == "keep calm"


def test_instance_with_a_broken_value_is_found_without_it(web: Web, client: TestClient) -> None:
    ds = datasets.with_element(chest(), "InstanceNumber", "IS", b"first ")
    receive(web, ds)
    (found,) = datasets_of(client.get(f"{BASE}/instances"))
    assert found.SOPInstanceUID == ds.SOPInstanceUID
    assert "InstanceNumber" not in found
    answer = client.get(f"{BASE}/instances", params={"InstanceNumber": "1"})
    assert answer.status_code == 204


def test_items_of_a_sequence_are_matched(web: Web, client: TestClient) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID = "SPS7"
    receive(web, chest(RequestAttributesSequence=[item]))
    path, key = f"{BASE}/series", "RequestAttributesSequence.ScheduledProcedureStepID"
    (found,) = datasets_of(client.get(path, params={key: "SPS7", "00400275": ""}))
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS7"
    assert client.get(path, params={"00400275.00400009": "SPS8"}).status_code == 204


def test_search_that_is_shown_in_the_document_finds(web: Web, client: TestClient) -> None:
    receive(web, chest(PatientName="Meier^Mia"))
    (url,) = re.findall(r'"http://localhost:8080(/dicom-web/[^"]+)"', DOCUMENT.read_text())
    (found,) = datasets_of(client.get(url))
    assert found.PatientName == "Meier^Mia"


# --- how much, and how well ------------------------------------------------------------------


def test_pages_hold_each_study_once(web: Web, client: TestClient) -> None:
    uids = [web.ward.receive_study() for _ in range(5)]
    found: list[str] = []
    for offset in (0, 2, 4):
        answer = client.get(f"{BASE}/studies", params={"limit": 2, "offset": offset})
        found += [each.StudyInstanceUID for each in datasets_of(answer)]
        assert ("additional results" in answer.headers.get("warning", "")) == (offset < 4)
    assert sorted(found) == sorted(uids)


def test_fuzzy_matching_is_answered_with_the_warning_of_the_standard(
    web: Web, client: TestClient
) -> None:
    receive(web, chest())
    answer = client.get(f"{BASE}/studies", params={"fuzzymatching": "true"})
    assert answer.headers["warning"] == (
        '299 cxr-worker "The fuzzymatching parameter is not supported. '
        'Only literal matching has been performed."'
    )


def test_key_that_is_not_matched_is_named_in_a_warning(web: Web, client: TestClient) -> None:
    receive(web, chest())
    answer = client.get(f"{BASE}/studies", params={"KVP": "80"})
    assert answer.status_code == 200
    assert "KVP" in answer.headers["warning"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "-1"},
        {"limit": "many"},
        {"offset": "1.5"},
        {"NoSuchKeyword": "1"},
        {"0010001": "x"},
        {"includefield": "NoSuchKeyword"},
        {"SeriesNumber": "one"},
        {"PatientName.PatientID": "x"},
        {"PatientID": "A", "00100020": "B"},
        {"level": "STUDY"},
        {"PatientName": "*a" * 513},
        {"StudyDescription": "a*\\" * 65},
        {"RequestAttributesSequence.ScheduledProcedureStepID": "x" * 1025},
        {"Modality": ",".join(["CR"] * 65)},
        {"StudyInstanceUID": ",".join(["1.2"] * 1001)},
    ],
)
def test_what_is_not_understood_is_said(client: TestClient, parameters: dict[str, str]) -> None:
    answer = client.get(f"{BASE}/series", params=parameters)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_xml_is_not_offered(client: TestClient) -> None:
    accept = {"Accept": 'multipart/related; type="application/dicom+xml"'}
    assert client.get(f"{BASE}/studies", headers=accept).status_code == 406


def test_search_for_everything_there_is_ends(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        web.ward.receive_study()
    monkeypatch.setattr(search, "SEARCH_LIMIT", 2)
    answer = client.get(f"{BASE}/studies", params={"PatientName": "Nobody*"})
    assert answer.status_code == 413
    assert "date" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["instances", "series"])
def test_search_for_a_series_that_is_nowhere_ends(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    studies = [web.ward.receive_study(2) for _ in range(3)]
    monkeypatch.setattr(search, "SEARCH_LIMIT", 4)
    nowhere = {"SeriesInstanceUID": "9.9"}
    assert client.get(f"{BASE}/{path}", params=nowhere).status_code == 413
    answer = client.get(f"{BASE}/studies/{studies[0]}/{path}", params=nowhere)
    assert answer.status_code == 204


def test_searches_beyond_a_few_are_told_when_to_come_again(
    web: Web, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(web, chest())
    taken = threading.BoundedSemaphore(1)
    for place in ("_AT_ONCE", "_WAITING"):
        with monkeypatch.context() as patch, taken:
            patch.setattr(places, place, taken)
            patch.setattr(places, "_PATIENCE_S", 0.01)
            answer = client.get(f"{BASE}/studies")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    for _ in range(20):  # and every place is given back, whatever the answer
        assert client.get(f"{BASE}/studies").status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(search, "SEARCH_LIMIT", 0)
            assert client.get(f"{BASE}/studies").status_code == 413


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.dictionaries(
        st.sampled_from([*ATTRIBUTES, "limit", "offset", "includefield", "fuzzymatching", "accept"])
        | st.text(max_size=12),
        st.text(max_size=20) | st.sampled_from(["*", "?", "1-2", "-", ",", "\\", "all"]),
        max_size=4,
    ),
    accept=st.sampled_from(
        ['a;b="c', '"', ",;=", "multipart/related", "*/*;q=0", "application/json"]
    ),
)
def test_no_request_is_a_fault_of_the_server(
    sqlite_client: TestClient, keys: dict[str, str], accept: str
) -> None:
    for level in ("studies", "series", "instances"):
        query = urlencode(
            {
                key.encode(errors="replace"): value.encode(errors="replace")
                for key, value in keys.items()
            }
        )
        answer = sqlite_client.get(f"{BASE}/{level}?{query}", headers={"Accept": accept})
        assert answer.status_code in (200, 204, 400, 406), (answer.text, keys)
