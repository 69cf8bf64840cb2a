"""Pages of the web: what they show, to whom, and what is written down of it."""

from __future__ import annotations

import base64
import re
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from model.predict import Prediction
from tests.fakes import new_uid
from tests.ward import PACS, Ward, chest
from tests.web import Web
from worker.access.roles import Role
from worker.audit.trail import NotRecorded
from worker.tables import Decision, Instance, Report
from worker.web.pages import Filters

MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    for role in Role:
        web.add(role.value, role)
    return web


def reported(web: Web, **attributes: object) -> str:
    ward = web.ward
    ward.explain = lambda images: np.ones((len(images), 4, 4), np.float32)
    study = ward.receive_study(1, **attributes)
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    return study


def paths_of(study: str, instance: str) -> list[str]:
    image = f"/studies/{study}/images/{instance}"
    return [f"/studies/{study}", f"{image}/picture.png", f"{image}/samples", f"{image}/heat.png"]


def only_instance(web: Web) -> str:
    (record,) = web.ward.records()
    (instance,) = record["instances"]
    uid: str = instance["sop_instance_uid"]
    return uid


# --- who may see what ------------------------------------------------------------------------


def test_nobody_sees_anything_before_signing_in(web: Web) -> None:
    study = reported(web)
    with web.browser() as browser:
        for path in ("/", "/rows", "/model", *paths_of(study, only_instance(web))):
            answer = browser.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in?to=")
            assert study not in answer.text
        assert browser.client.post(f"/studies/{study}/requeue").status_code in (401, 403)
    assert study not in web.audited()


def test_after_signing_in_the_page_that_was_asked_for_is_shown(web: Web) -> None:
    study = reported(web)
    with web.browser() as browser:
        asked = browser.get(f"/studies/{study}").headers["location"]
        assert f'value="/studies/{study}"' in browser.get(asked).text
        answer = browser.sign_in("viewer", to=f"/studies/{study}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study}")


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", ""])
def test_a_sign_in_leads_to_no_other_site(web: Web, to: str) -> None:
    with web.browser() as browser:
        assert browser.sign_in("viewer", to=to).headers["location"] == "/"


def test_a_part_of_a_page_sends_the_whole_page_to_the_sign_in(web: Web) -> None:
    with web.browser() as browser:
        answer = browser.get("/rows", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_a_wrong_password_is_told_and_written_down(web: Web) -> None:
    with web.browser() as browser:
        answer = browser.sign_in("viewer", "not this one, surely")
        assert answer.status_code == 401
        assert "do not belong together" in answer.text
        assert browser.get("/").status_code == 303
    assert 'EventOutcomeIndicator="4"' in web.audited()


def test_too_many_tries_have_to_wait(web: Web) -> None:
    with web.browser() as browser:
        statuses = [browser.sign_in("viewer", f"wrong password {n}").status_code for n in range(8)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert browser.sign_in("viewer").status_code == 429


def test_who_is_idle_has_to_sign_in_again(web: Web) -> None:
    with web.browser("viewer") as browser:
        assert browser.get("/").status_code == 200
        web.ward.clock.forward(timedelta(minutes=31).total_seconds())
        assert browser.get("/").status_code == 303


def test_a_page_that_asks_by_itself_keeps_nobody_signed_in(web: Web) -> None:
    with web.browser("viewer") as browser:
        for _ in range(29):
            web.ward.clock.forward(60)
            assert browser.get("/rows").status_code == 200
        web.ward.clock.forward(60)
        assert browser.get("/rows", headers={"HX-Request": "true"}).status_code == 401
        assert browser.get("/").status_code == 303


def test_signing_out_ends_the_session_also_for_who_has_its_cookie(web: Web) -> None:
    with web.browser("viewer") as browser:
        kept = dict(browser.client.cookies)
        assert browser.post("/sign-out").status_code == 303
        browser.client.cookies.update(kept)
        assert browser.get("/").status_code == 303


def test_the_cookie_is_for_no_script_and_no_other_site(web: Web) -> None:
    with web.browser() as browser:
        plain = browser.sign_in("viewer").headers["set-cookie"].lower()
    with web.browser(base_url="https://testserver") as browser:
        secure = browser.sign_in("viewer").headers["set-cookie"].lower()
    for cookie in (plain, secure):
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
    assert "secure" in secure
    assert secure.startswith("__host-")


def test_the_first_one_signs_in_by_the_link_and_not_when_there_is_an_administrator(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    with web.ward.sessions() as session:
        token = web.first.prepare(session)
    with web.browser() as browser:
        assert "cxr-worker user add" in browser.get("/sign-in").text
        assert browser.get("/sign-in?token=wrong").status_code == 401
        assert browser.get(f"/sign-in?token={token}").status_code == 303
        assert "local (admin)" in browser.get("/").text
        web.add("anna", Role.ADMIN)
        assert browser.get("/").status_code == 303
        assert browser.get(f"/sign-in?token={token}").status_code == 401


# --- what is shown ---------------------------------------------------------------------------


def test_the_worklist_shows_studies_and_is_quiet_while_nothing_changes(web: Web) -> None:
    study = reported(web)
    with web.browser("viewer") as browser:
        page = browser.get("/").text
        assert f'href="/studies/{study}"' in page
        assert "90.0 %" in page
        again = re.search(r'hx-get="([^"]+)"', page)
        assert again
        path = again[1].replace("&amp;", "&")
        assert browser.get(path).status_code == 204
        web.ward.deliver(PACS)
        assert "delivered" in browser.get(path).text


def test_pages_follow_each_other(web: Web) -> None:
    studies = [web.ward.receive_study() for _ in range(51)]
    with web.browser("viewer") as browser:
        page = browser.get("/").text
        more = re.search(r'class="more" href="([^"]+)"', page)
        assert more
        rest = browser.get(more[1].replace("&amp;", "&")).text
    shown = re.findall(r'href="/studies/([^"]+)"', page + rest)
    assert shown == studies[::-1]


@pytest.mark.parametrize(
    "query", ["answer=PRESENT", "state=REPORTED", "order=urgent", "begin=2026-11-20&end=2026-11-30"]
)
def test_filters_narrow_and_what_is_empty_does_not(web: Web, query: str) -> None:
    study = reported(web)
    with web.browser("viewer") as browser:
        assert study in browser.get(f"/?words=&{query}").text
        for other in ("words=nobody", "answer=ABSENT", "state=FAILED", "begin=2026-11-30"):
            assert study not in browser.get(f"/?{other}&end=").text


def test_a_day_ends_at_midnight_also_when_it_has_25_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        wanted = Filters(begin="2026-10-25", end="2026-10-25").wanted(datetime.now(UTC))
        assert wanted.since == datetime(2026, 10, 24, 22, tzinfo=UTC)
        assert wanted.until == datetime(2026, 10, 25, 23, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_most_urgent_until_a_day_are_of_any_day_before(web: Web) -> None:
    study = reported(web)
    web.ward.clock.forward(timedelta(days=3).total_seconds())
    with web.browser("viewer") as browser:
        assert study not in browser.get("/?order=urgent").text
        assert study in browser.get("/?order=urgent&end=2026-11-24").text


@pytest.mark.parametrize(
    "query",
    [
        "begin=0001-01-01", "end=9999-12-31", "begin=99999999999", "begin=1e300", "words=%00",
        f"words={'x' * 300}", "start=-1",
    ],
)  # fmt: skip
def test_what_no_form_of_ours_asks_for_is_an_error_of_who_asks(web: Web, query: str) -> None:
    with web.browser("viewer") as browser:
        assert browser.get(f"/?{query}").status_code == 422


def test_a_search_is_written_down_whatever_stands_around_it(web: Web) -> None:
    with web.browser("viewer") as browser:
        browser.get("/", params={"words": " " * 1200 + "SOMEBODY"})
    (query,) = re.findall(r"<ParticipantObjectQuery>([^<]+)<", web.audited())[-1:]
    assert b"SOMEBODY" in base64.b64decode(query)


def test_lines_that_a_page_asks_for_by_itself_are_written_down_when_they_are_shown(
    web: Web,
) -> None:
    reported(web)
    with web.browser("viewer") as browser:
        before = web.audited().count("\n")
        page = browser.get("/rows?words=PID1").text
        assert "PID1" in page
        assert web.audited().count("\n") == before + 1
        again = re.search(r'hx-get="([^"]+)"', page)
        assert again
        assert browser.get(again[1].replace("&amp;", "&")).status_code == 204
        assert web.audited().count("\n") == before + 1


def test_who_tries_without_end_does_not_fill_the_disk(web: Web) -> None:
    with web.browser() as browser:
        for _ in range(30):
            browser.sign_in("viewer", "wrong")
        before = len(web.audited())
        for _ in range(30):
            assert browser.sign_in("viewer", "wrong").status_code == 429
            assert browser.get("/sign-in?token=wrong").status_code in (401, 429)
        assert web.audited()[before:].count("\n") <= 6


def test_signing_in_anew_ends_the_session_before(web: Web) -> None:
    with web.browser("viewer") as browser:
        kept = dict(browser.client.cookies)
        assert browser.sign_in("admin").status_code == 303
        browser.client.cookies.clear()
        browser.client.cookies.update(kept)
        assert browser.get("/").status_code == 303


def test_a_reason_of_blanks_is_none(web: Web) -> None:
    study = reported(web)
    with web.browser("admin") as browser:
        assert browser.post(f"/studies/{study}/requeue", reason="  ", seen="0").status_code == 422
    assert not web.ward.all(Decision)


def test_what_is_not_understood_is_said(web: Web) -> None:
    with web.browser("viewer") as browser:
        answer = browser.get("/?state=SOMETHING&begin=yesterday")
    assert answer.status_code == 422
    assert "state, begin" in answer.text


def test_a_study_is_shown_with_its_report_its_score_and_its_history(web: Web) -> None:
    study = reported(web)
    with web.browser("viewer") as browser:
        page = browser.get(f"/studies/{study}").text
    assert "Probability of pneumonia 90.0 %" in page
    assert "undetermined from 40.0 to 60.0 %" in page
    assert "Automated analysis: pneumonia present in image 1" in page
    assert "reported, revision 1" in page
    assert "PID1" in page


def test_why_a_study_was_not_assessed_is_said(web: Web) -> None:
    web.ward.classifier.answer = Prediction(reason="NOT_CHEST")
    study = reported(web)
    with web.browser("viewer") as browser:
        assert (
            "Not assessed, because the image is not a chest radiograph."
            in browser.get(f"/studies/{study}").text
        )


def test_what_a_modality_wrote_is_text_and_never_markup(web: Web) -> None:
    ward = web.ward
    ward.receive(chest(), accession_number=MARKUP, patient_id=MARKUP, calling_ae_title="<b>")
    ward.classify()
    with web.browser("viewer") as browser:
        page = browser.get("/").text
        study = re.search(r'href="(/studies/[^"]+)"', page)
        assert study
        for text in (page, browser.get(study[1]).text):
            assert MARKUP not in text
            assert "&lt;script&gt;" in text


def test_images_are_shown_as_they_were_received(web: Web) -> None:
    study = reported(web)
    _, picture, samples, heat = paths_of(study, only_instance(web))
    with web.browser("viewer") as browser:
        shown = Image.open(BytesIO(browser.get(picture).content))
        raw = browser.get(samples)
        over = Image.open(BytesIO(browser.get(heat).content))
    size = int(raw.headers["x-rows"]), int(raw.headers["x-columns"])
    values = np.frombuffer(raw.content, "<u2").reshape(size)
    assert shown.size == size[::-1]
    assert np.abs(np.asarray(shown) / 255 - values / 65535).max() < 0.003
    assert over.mode == "RGBA"


def test_an_image_that_is_gone_is_told(web: Web) -> None:
    study = reported(web)
    instance = only_instance(web)
    for file in (web.ward.archive.root / study).glob(f"{instance}.*"):
        file.unlink()
    _, picture, _, _ = paths_of(study, instance)
    with web.browser("viewer") as browser:
        answer = browser.get(picture)
        assert (answer.status_code, "gone from the archive" in answer.text) == (404, True)
        assert browser.get(f"/studies/{study}").status_code == 200


@pytest.mark.parametrize("path", ["/studies/1.2.3", "/studies/1.2.3/images/1.2/picture.png"])
def test_what_is_not_here_is_not_found(web: Web, path: str) -> None:
    with web.browser("viewer") as browser:
        assert browser.get(path).status_code == 404


# --- what is done ----------------------------------------------------------------------------


def test_an_administrator_has_a_study_done_again_and_says_why(web: Web) -> None:
    study = reported(web)
    with web.browser("admin") as browser:
        answer = browser.post(f"/studies/{study}/requeue", reason="wrong window", seen="0")
        assert answer.headers["location"] == f"/studies/{study}"
    (decision,) = web.ward.all(Decision)
    assert (decision.person, decision.reason) == ("admin", "wrong window")
    assert web.ward.states() == ["RECEIVING"]
    assert 'EventActionCode="U"' in web.audited()


def test_what_cannot_be_done_again_is_told_and_not_written_down(web: Web) -> None:
    study = reported(web)
    with web.browser("admin") as browser:
        before = web.audited()
        assert (
            browser.post(f"/studies/{new_uid()}/requeue", reason="x", seen="0").status_code == 404
        )
        with web.ward.sessions.begin() as session:
            session.execute(update(Instance).values(removed_at=web.ward.clock()))
            session.execute(update(Report).values(removed_at=web.ward.clock()))
        answer = browser.post(f"/studies/{study}/requeue", reason="x", seen="0")
        assert answer.status_code == 409
        assert "Nothing is left of this study" in answer.text
    assert 'EventActionCode="U"' not in web.audited().removeprefix(before)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.READER])
def test_others_may_not(web: Web, role: Role) -> None:
    study = reported(web)
    with web.browser(role.value) as browser:
        assert "Requeue this study" not in browser.get(f"/studies/{study}").text
        assert (
            browser.post(f"/studies/{study}/requeue", reason="please", seen="0").status_code == 403
        )
    assert not web.ward.all(Decision)
    assert "/requeue" in web.audited()


def test_a_form_of_another_site_does_nothing(web: Web) -> None:
    study = reported(web)
    with web.browser("admin") as browser:
        for data in ({"reason": "x", "seen": "0"}, {"reason": "x", "seen": "0", "csrf": "0" * 64}):
            answer = browser.client.post(f"/studies/{study}/requeue", data=data)
            assert answer.status_code == 403
    assert not web.ward.all(Decision)


# --- what is written down --------------------------------------------------------------------


def test_each_view_of_a_study_is_written_down_before_it_is_shown(web: Web) -> None:
    study = reported(web)
    with web.browser("viewer") as browser:
        for path in paths_of(study, only_instance(web)):
            before = web.audited().count(study)
            assert browser.get(path).status_code == 200
            assert web.audited().count(study) > before


def test_what_cannot_be_written_down_is_not_shown(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = reported(web)

    def refuse(*_: object) -> None:
        raise NotRecorded("the disk is full")

    with web.browser("viewer") as browser:
        monkeypatch.setattr(type(web.trail), "record", refuse)
        for path in ("/", *paths_of(study, only_instance(web))):
            answer = browser.get(path)
            assert answer.status_code == 503
            assert "PID1" not in answer.text


def test_no_name_and_no_id_of_a_patient_is_in_the_log(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    study = reported(web, PatientName="Planted^Name", PatientID="PLANTED-ID")
    with web.browser("admin") as browser:
        browser.get("/?words=PLANTED-ID")
        for path in paths_of(study, only_instance(web)):
            browser.get(path)
        browser.post(f"/studies/{study}/requeue", reason="again", seen="0")
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("httpx")]
    assert "planted" not in "\n".join(ours).lower()
