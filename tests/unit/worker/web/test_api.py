"""The REST API: whom it answers, what, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pydicom import dcmread
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from dicom_node.errors import ConfigurationError
from model.predict import Prediction
from tests.fakes import model_info, new_uid
from tests.unit.worker.test_results import notified
from tests.ward import PACS, Ward
from tests.web import PASSWORD, Web
from worker.access import tokens, users
from worker.access.roles import Role
from worker.audit.trail import NotRecorded
from worker.describing import model_record
from worker.tables import Decision
from worker.web.api.records import ModelRecord, StudyRecord

V1 = "/api/v1"


@pytest.fixture
def web(tmp_path: Path, sessions: sessionmaker[Session]) -> Web:
    """A web on each kind of database, with a user of each role."""
    web = Web(Ward(tmp_path, sessions), tmp_path)
    for role in Role:
        web.add(role.value, role)
    return web


@pytest.fixture
def client(web: Web) -> Iterator[TestClient]:
    """A program that asks with the token of a viewer."""
    with program(web) as client:
        yield client


def program(web: Web, name: str = "viewer", token: str = "") -> TestClient:
    client = TestClient(web.app, raise_server_exceptions=False, follow_redirects=False)
    client.headers["Authorization"] = f"Bearer {token or made(web, name)}"
    return client


def made(web: Web, name: str = "viewer") -> str:
    with web.ward.sessions() as session, session.begin():
        return tokens.add(session, name, "test", web.ward.clock(), timedelta(days=1))


def reported(web: Web, **attributes: Any) -> str:
    study = web.ward.receive_study(1, **attributes)
    web.ward.classify()
    web.ward.clock.forward(60)
    web.ward.report()
    return study


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Give what is said to be wrong."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    assert told["detail"]
    return told


# --- who may ask -----------------------------------------------------------------------------


def test_nothing_is_told_without_a_token(web: Web) -> None:
    study = reported(web)
    with TestClient(web.app) as client:
        for path in ("/studies", f"/studies/{study}", f"/studies/{study}/report", "/model"):
            answer = client.get(V1 + path)
            problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = client.post(f"{V1}/studies/{study}/requeue", content="{no json")
        problem(answer, 401)
    assert web.audited() == ""


def test_a_session_of_the_pages_counts_for_nothing_here_nor_a_token_there(web: Web) -> None:
    with web.browser("admin") as browser:
        problem(browser.get(f"{V1}/studies"), 401)
    with program(web, "admin") as client:
        for path in ("/", "/model", f"/studies/{new_uid()}"):
            assert client.get(path).headers["location"].startswith("/sign-in")


def test_wrong_tokens_are_audited_and_after_a_few_no_longer_looked_at(web: Web) -> None:
    right = made(web)
    with program(web, token="cxr_" + "x" * 43) as stranger:
        for _ in range(5):
            answer = stranger.get(f"{V1}/studies")
            problem(answer, 401)
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        answer = stranger.get(f"{V1}/studies")
        problem(answer, 429)
        assert answer.headers["retry-after"] == "60"
    assert web.audited().count("(token)@") == 6
    assert 'EventOutcomeIndicator="8"' in web.audited()
    assert "cxr_" not in web.audited()
    with program(web, token=right) as client:
        assert client.get(f"{V1}/studies").status_code == 200, "from the same address"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer \u00fc", "x" * 9]
)
def test_what_is_no_token_is_none(web: Web, header: str) -> None:
    with TestClient(web.app) as client:
        answer = client.get(f"{V1}/studies", headers={"Authorization": header.encode()})
        problem(answer, 401)


def test_who_is_disabled_or_has_another_role_is_so_at_once(web: Web) -> None:
    study = reported(web)
    with program(web, "reader") as client:
        path, why = f"{V1}/studies/{study}/requeue", {"reason": "again"}
        told = problem(client.post(path, json=why), 403)
        assert told["detail"] == "This needs the role admin."
        assert "110132" in web.audited()
        change(web, users.set_role, "reader", Role.ADMIN)
        assert client.post(path, json=why).status_code == 202
        change(web, users.disable, "reader")
        problem(client.get(f"{V1}/studies"), 401)


def change(web: Web, what: Any, *words: Any) -> None:
    with web.ward.sessions() as session, session.begin():
        what(session, *words)


# --- studies ---------------------------------------------------------------------------------


def test_a_study_is_told_as_the_command_line_tells_it(web: Web, client: TestClient) -> None:
    study = reported(web)
    web.ward.deliver(PACS)
    (record,) = web.ward.records()
    answer = client.get(f"{V1}/studies/{study}")
    assert answer.json() == record
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(f"{V1}/studies").json() == {"studies": [record], "next": None}


def test_the_described_form_is_that_of_every_study(web: Web) -> None:
    """Both ways: nothing is told that is not described, nothing described that is not told."""
    ward = web.ward
    ward.receive_study(2, AccessionNumber="A1")
    told = reported(web)
    ward.deliver(PACS)
    notified(ward, told)
    ward.classifier.answer = Prediction(0.5, 0.3, 0.2, "UNDETERMINED")
    reported(web, PatientAge="080Y")
    records = ward.records()
    assert len(records) == 3
    for record in records:
        assert StudyRecord.model_validate(record).model_dump(exclude_unset=True) == record
        read = json.loads(json.dumps(record))
        assert set(read) == set(StudyRecord.model_fields)
    instances = [each for record in records for each in record["instances"]]
    assert {each["assessed"] for each in instances} == {True, False}
    assert any(record["reports"] and record["reports"][0]["deliveries"] for record in records)
    assert sum(len(record["notices"]) for record in records) == 1


@pytest.mark.parametrize("answer", ["PRESENT", "ABSENT"])
def test_pages_follow_on_one_another_and_tell_each_study_once(
    web: Web, client: TestClient, answer: str
) -> None:
    expected = []
    for number in range(7):
        web.ward.classifier.answer = Prediction(0.9, 0.5, 0.4, ("ABSENT", "PRESENT")[number % 2])
        expected.append(reported(web))
    narrowed = [
        each for number, each in enumerate(expected) if (number % 2) == (answer == "PRESENT")
    ]
    assert walk(client, {"limit": 2}) == expected[::-1]
    assert walk(client, {"limit": 1, "answer": answer}) == narrowed[::-1]
    assert walk(client, {"limit": 200}) == expected[::-1]


def walk(client: TestClient, asked: dict[str, Any]) -> list[str]:
    """Follow the links to the end; a study that comes meanwhile is not told."""
    path, found = f"{V1}/studies?{urlencode(asked)}", []
    while path:
        answer = client.get(path)
        page = answer.json()
        assert len(page["studies"]) <= asked["limit"]
        found += [each["study_instance_uid"] for each in page["studies"]]
        path = page["next"]
        assert answer.headers.get("link") == (f'<{path}>; rel="next"' if path else None)
    return found


def test_a_study_that_comes_between_two_pages_moves_none(web: Web, client: TestClient) -> None:
    first, second = reported(web), reported(web)
    page = client.get(f"{V1}/studies?limit=1").json()
    assert page["studies"][0]["study_instance_uid"] == second
    reported(web)
    (rest,) = client.get(page["next"]).json()["studies"]
    assert rest["study_instance_uid"] == first


def test_studies_of_the_same_moment_are_all_told(web: Web, client: TestClient) -> None:
    expected = {web.ward.receive_study() for _ in range(5)}
    found = walk(client, {"limit": 2})
    assert set(found) == expected
    assert len(found) == 5


def test_every_filter_narrows(web: Web, client: TestClient) -> None:
    early = reported(web, PatientID="P1")
    noon = web.ward.clock()
    web.ward.clock.forward(3600)
    late = web.ward.receive_study(1, PatientID="P2")
    later = (noon + timedelta(minutes=30)).isoformat()
    for asked, expected in (
        ({"study": early}, [early]), ({"patient_id": "P2"}, [late]), ({"patient_id": "P"}, []),
        ({"state": "RECEIVING"}, [late]), ({"answer": "PENDING"}, [late]),
        ({"since": later}, [late]), ({"until": later}, [early]),
        ({"since": "0001-01-01T00:00:00+23:59"}, [late, early]),
        ({"since": "9999-12-31T23:59:59-23:59"}, []),
        ({"accession": web.ward.records()[0]["accession_number"] or "none", "study": late},
         [late] if web.ward.records()[0]["accession_number"] else []),
    ):  # fmt: skip
        answer = client.get(f"{V1}/studies", params=asked)
        assert [each["study_instance_uid"] for each in answer.json()["studies"]] == expected, asked


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "limit=" + "9" * 5000, "study=1.02", "study=%00",
        "patient_id=a%00b", "patient_id=", "accession=%0A", "state=GONE", "answer=MAYBE",
        "since=5", "since=2026-01-01", "since=2026-01-01T00:00:00", "until=2026-13-01T00:00:00Z",
        "until=0000-01-01T00:00:00Z", "cursor=", "cursor=x", "cursor=" + "0" * 30, "words=x",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named(client: TestClient, query: str) -> None:
    told = problem(client.get(f"{V1}/studies?{query}"), 422)
    ((where, name, why),) = [tuple(each.values()) for each in told["errors"]]
    assert (where, name) == ("query", query.partition("=")[0])
    assert why
    assert told["detail"].startswith(f"{name}: ")


@pytest.mark.parametrize("cursor", ["0" * 29, "f" * 29])
def test_whatever_looks_like_a_cursor_is_a_place(client: TestClient, cursor: str) -> None:
    assert client.get(f"{V1}/studies?cursor={cursor}").json() == {"studies": [], "next": None}


def test_a_study_that_is_not_here_is_not_found(client: TestClient) -> None:
    for path in ("", "/report"):
        problem(client.get(f"{V1}/studies/{new_uid()}{path}"), 404)


@pytest.mark.parametrize(
    "uid", ["x", "1.02", "1..2", "%00", "1" * 65, "1.2%0A", "1.2%0Ax", "%ED%A0%80", "%FF"]
)
def test_what_is_no_uid_is_not_looked_for(web: Web, uid: str) -> None:
    with program(web, "admin") as client:
        for path in ("", "/report"):
            problem(client.get(f"{V1}/studies/{uid}{path}"), 422)
        problem(client.post(f"{V1}/studies/{uid}/requeue", json={"reason": "x"}), 422)
    with program(web) as client:
        problem(client.post(f"{V1}/studies/{uid}/requeue", json={"reason": "x"}), 403)


# --- the report ------------------------------------------------------------------------------


def test_the_last_report_comes_as_dicom_or_as_text(web: Web, client: TestClient) -> None:
    study = reported(web)
    path = f"{V1}/studies/{study}/report"
    answer = client.get(path)
    assert answer.headers["content-type"] == "application/dicom"
    uid = web.ward.records()[0]["reports"][-1]["sop_instance_uid"]
    assert dcmread(BytesIO(answer.content)).SOPInstanceUID == uid
    assert answer.headers["content-disposition"] == f'attachment; filename="{uid}.dcm"'
    text = client.get(path, headers={"Accept": "text/plain"})
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "pneumonia" in text.text.lower()
    assert "None" not in text.text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/dicom"), ("*/*", "application/dicom"), ("text/*", "text/plain"),
        ("text/plain, application/dicom", "application/dicom"),
        ("text/plain, application/dicom;q=0.5", "text/plain"),
        ("application/*;q=0.1, text/plain;q=0.2", "text/plain"),
        ("*/*, application/dicom;q=0", "text/plain"), ("TEXT/PLAIN;charset=utf-8", "text/plain"),
        ("text/plain;q=x", "text/plain"),
    ],
)  # fmt: skip
def test_the_kind_that_suits_best_is_sent(
    web: Web, client: TestClient, accept: str, kind: str
) -> None:
    answer = client.get(f"{V1}/studies/{reported(web)}/report", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind


def test_a_report_comes_in_no_other_kind(web: Web, client: TestClient) -> None:
    path = f"{V1}/studies/{reported(web)}/report"
    for accept in ("application/json", "text/plain;q=0, application/dicom;q=0", ",", ";q=1"):
        problem(client.get(path, headers={"Accept": accept}), 406)


def test_a_report_that_is_not_there_is_said_to_be_not_there(web: Web, client: TestClient) -> None:
    early = web.ward.receive_study()
    told = problem(client.get(f"{V1}/studies/{early}/report"), 404)
    assert told["detail"] == "No report was made of this study yet."
    study = reported(web)
    for file in (web.ward.archive.absolute(".")).rglob("*.dcm"):
        file.unlink()
    told = problem(client.get(f"{V1}/studies/{study}/report"), 404)
    assert told["detail"] == "The report is gone from the archive."


def test_a_report_that_cannot_be_read_just_now_is_to_be_asked_for_again(
    web: Web, client: TestClient
) -> None:
    path = f"{V1}/studies/{reported(web)}/report"
    root = web.ward.archive.absolute(".").resolve()
    root.rename(root.with_name("elsewhere"))
    for accept in ("application/dicom", "text/plain"):
        told = problem(client.get(path, headers={"Accept": accept}), 503)
        assert str(root) not in told["detail"]


# --- doing it again --------------------------------------------------------------------------


def test_an_administrator_has_a_study_done_again(web: Web) -> None:
    study = reported(web)
    with program(web, "admin") as client:
        path = f"{V1}/studies/{study}/requeue"
        answer = client.post(path, json={"reason": "a new model"})
        assert answer.status_code == 202
        assert answer.json() == {"study_instance_uid": study, "jobs": 2}
        problem(client.post(f"{V1}/studies/{new_uid()}/requeue", json={"reason": "x"}), 404)
    (decision,) = web.ward.all(Decision)
    assert (decision.action, decision.person, decision.reason) == (
        "REQUEUED", "admin", "a new model",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422), (b"{", 422), (b"[]", 422), (b"null", 422), (b"{}", 422), (b'"x"', 422),
        (b'{"reason": ""}', 422), (b'{"reason": " "}', 422), (b'{"reason": "a\\u0000b"}', 422),
        (b'{"reason": "\\ud800"}', 422), (b'{"reason": 5}', 422), (b'{"reason": null}', 422),
        (b'{"reason": "x", "\\ud800": 1}', 422), (b'{"reason": "x", "more": 1}', 422),
        (b'{"reason": "' + b"x" * 501 + b'"}', 422), (b'{"reason": ' + b"9" * 5000 + b"}", 400),
        (b'{"reason": 1e999}', 422), (b"[" * 20_000, 400), (b"\xff\xfe", 422),
        (b'{"reason": "\xff"}', 400),
    ],
)  # fmt: skip
def test_a_strange_body_is_refused_and_nothing_is_done(web: Web, body: bytes, status: int) -> None:
    study = reported(web)
    with program(web, "admin") as client:
        told = problem(
            client.post(
                f"{V1}/studies/{study}/requeue", content=body,
                headers={"Content-Type": "application/json"},
            ), status,
        )  # fmt: skip
    if status == 422:
        assert {each["where"] for each in told["errors"]} == {"body"}
    assert web.ward.all(Decision) == []


# --- the model, and the description ----------------------------------------------------------


def test_the_model_tells_facts_thresholds_and_figures(client: TestClient) -> None:
    told = client.get(f"{V1}/model").json()
    assert told == json.loads(json.dumps(model_record(model_info())))
    assert set(told) == set(ModelRecord.model_fields)
    ModelRecord.model_validate(told)


def test_a_model_that_is_away_is_said_to_be_away(web: Web) -> None:
    def damaged() -> Any:
        raise ConfigurationError("CXR_MODEL", "/srv/secret is damaged")

    rebuilt(web, model_info=damaged)
    with program(web) as client:
        assert "secret" not in problem(client.get(f"{V1}/model"), 503)["detail"]


def rebuilt(web: Web, **changes: Any) -> None:
    from worker.web.app import build

    web.app = build(replace(web.services, **changes), {"testserver"})


def test_the_description_needs_no_token_and_names_all_answers(web: Web) -> None:
    with TestClient(web.app) as client:
        told = client.get(f"{V1}/openapi.json").json()
    assert set(told["paths"]) == {
        "/studies", "/studies/{uid}", "/studies/{uid}/report", "/studies/{uid}/requeue", "/model",
    }  # fmt: skip
    assert told["servers"] == [{"url": V1}]
    for path in told["paths"].values():
        for operation in path.values():
            assert operation["security"] == [{"token": []}]
            assert {"401", "422", "429", "503"} <= set(operation["responses"])
            assert operation["responses"]["422"]["content"].keys() == {"application/problem+json"}
    assert "http://" not in json.dumps(told).replace("http://json-schema.org", "")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_a_method_that_is_not_there_is_answered_with_those_that_are(
    client: TestClient, method: str
) -> None:
    for path, allowed in (("/studies", "GET"), ("/studies/1.2/requeue", "POST"), ("/model", "GET")):
        answer = client.request(method, V1 + path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        if method != "HEAD":
            problem(answer, 405)


def test_what_is_not_there_is_not_found(client: TestClient) -> None:
    for path in ("/", "/nothing", "/studies/", "/docs", "/studies/1.2/x"):
        problem(client.get(V1 + path), 404)


# --- what is written down --------------------------------------------------------------------


def test_every_view_is_in_the_audit_trail(web: Web, client: TestClient) -> None:
    study = reported(web, PatientID="P77")
    path = f"{V1}/studies/{study}"
    for asked, kind, word in (
        (f"{V1}/studies?patient_id=P77&limit=3", "110112", "ParticipantObjectQuery"),
        (path, "110103", study), (f"{path}/report", "110106", f"{path}/report"),
    ):  # fmt: skip
        before = web.audited()
        assert client.get(asked).status_code == 200
        (line,) = web.audited()[len(before) :].splitlines()
        assert f'csd-code="{kind}"' in line
        assert word in line
        assert "viewer@" in line


def test_what_cannot_be_written_down_is_not_told(web: Web) -> None:
    study = reported(web)

    class Full:
        def record(self, *_messages: object) -> None:
            raise NotRecorded("the disk is full")

    rebuilt(web, trail=Full())
    with program(web, "admin") as client:
        for path in ("", f"/{study}", f"/{study}/report"):
            assert study not in problem(client.get(f"{V1}/studies{path}"), 503)["detail"]
        problem(client.post(f"{V1}/studies/{study}/requeue", json={"reason": "x"}), 503)
    with TestClient(web.app, headers={"Authorization": "Bearer x"}) as client:
        problem(client.get(f"{V1}/studies"), 503)
    assert web.ward.all(Decision) == []


def test_a_fault_of_ours_is_told_without_its_words(web: Web) -> None:
    def faulty() -> Any:
        raise ValueError("patient Smith")

    rebuilt(web, model_info=faulty)
    with program(web) as client:
        answer = client.get(f"{V1}/model")
    problem(answer, 500)
    assert "Smith" not in answer.text


def test_a_long_password_is_no_way_in(web: Web) -> None:
    with program(web, token=PASSWORD) as client:
        problem(client.get(f"{V1}/studies"), 401)
