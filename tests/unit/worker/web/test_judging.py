"""Verdicts on the page of a study, and the page of agreement."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from httpx import Response
from sqlalchemy.orm import Session, sessionmaker

from model.predict import Prediction
from tests.ward import Ward
from tests.web import Browser, Web
from worker.access.roles import Role
from worker.audit.trail import NotRecorded
from worker.tables import VerdictRow

PRESENT = Prediction(0.9, 0.7, 0.3, "PRESENT")


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    for role in Role:
        web.add(role.value, role)
    web.add("anna", Role.READER)
    return web


def answered(web: Web, answer: Prediction = PRESENT) -> str:
    """Have a study answered; give its page's path."""
    web.ward.classifier.answer = answer
    study = web.ward.receive_study()
    web.ward.classify()
    return f"/studies/{study}"


def hidden(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    return found[1] if found else ""


def say(browser: Browser, path: str, says: str, **words: str) -> Response:
    """Send the form of the study's first image, as it is on its page."""
    page = browser.get(path).text
    action = re.search(r'action="(/studies/[^"]+/verdict)"', page)
    where = action[1] if action else f"{path}/images/1.2.3/verdict"
    told = {"model": hidden(page, "model") or "1", "finding": hidden(page, "finding")}
    return browser.post(where, **(told | {"says": says} | words))


def rows(web: Web) -> list[tuple[str | None, str, str | None, str]]:
    return [(r.finding, r.verdict, r.label, r.person) for r in web.ward.all(VerdictRow)]


def test_a_reader_says_what_they_think_and_it_is_shown_with_name_and_time(web: Web) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        answer = say(browser, path, "disagree", comment=" <b>motion</b> ")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path}#judged-1")
        page = browser.get(path).text
    assert rows(web) == [("PRESENT", "DISAGREE", "NORMAL", "reader")]
    assert "reader disagrees: no pneumonia, <time" in page
    assert "<q>&lt;b&gt;motion&lt;/b&gt;</q>" in page
    assert (
        "image not in the report yet: reader disagrees: no pneumonia (&lt;b&gt;motion&lt;/b&gt;)"
        in page
    )


def test_the_script_gets_the_verdicts_alone(web: Web) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        browser.client.headers["HX-Request"] = "true"
        answer = say(browser, path, "agree", kind="VIRAL")
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "reader agrees: viral pneumonia" in answer.text


def test_the_last_verdict_of_each_reader_is_shown_and_all_are_history(web: Web) -> None:
    path = answered(web)
    for name, says in (("reader", "agree"), ("anna", "agree"), ("reader", "unsure")):
        with web.browser(name) as browser:
            say(browser, path, says)
            web.ward.clock.forward(1)
    with web.browser("viewer") as browser:
        verdicts, history = browser.get(path).text.split('id="history"')
    assert "reader agrees" not in verdicts
    assert verdicts.index("anna agrees") < verdicts.index("reader is unsure")
    for words in ("reader agrees: pneumonia", "anna agrees", "reader is unsure"):
        assert words in history


@pytest.mark.parametrize(
    ("answer", "offered"),
    [
        (PRESENT, {"agree": "a", "disagree": "d", "unsure": "u"}),
        (
            Prediction(0.5, 0.5, 0.5, "UNDETERMINED"),
            {"pneumonia": "p", "no pneumonia": "n", "unsure": "u"},
        ),
        (Prediction(reason="NOT_CHEST"), {"pneumonia": "p", "no pneumonia": "n", "unsure": "u"}),
    ],
)
def test_what_can_be_said_depends_on_the_answer(
    web: Web, answer: Prediction, offered: dict[str, str]
) -> None:
    path = answered(web, answer)
    with web.browser("admin") as browser:
        buttons = dict(
            re.findall(r'name="says" value="([^"]+)" data-key="(.)"', browser.get(path).text)
        )
        assert buttons == offered
        assert say(browser, path, next(iter(offered))).status_code == 303
        assert say(browser, path, "agree" if "agree" not in offered else "pneumonia")\
            .status_code == 422  # fmt: skip
    assert [row[2] for row in rows(web)] == ["PNEUMONIA"]


@pytest.mark.parametrize(
    "wrong",
    [{"says": "perhaps"}, {"kind": "FUNGAL"}, {"model": "x"}, {"comment": "x" * 501},
     {"finding": "SOMETHING"}],
)  # fmt: skip
def test_what_is_not_understood_is_said_and_not_saved(web: Web, wrong: dict[str, str]) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        assert say(browser, path, **({"says": "agree"} | wrong)).status_code == 422
    assert rows(web) == []


def test_who_judges_an_answer_that_was_replaced_is_told(web: Web) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        answer = say(browser, path, "agree", finding="ABSENT")
        assert (answer.status_code, "answered anew" in answer.text) == (409, True)
        assert say(browser, "/studies/1.2.3", "agree", finding="ABSENT").status_code == 404
    assert rows(web) == []


def test_a_verdict_on_an_answer_that_was_replaced_is_shown_as_such(web: Web) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        say(browser, path, "agree")
        web.ward.classifier.answer = Prediction(0.1, None, None, "ABSENT")
        web.ward.requeue(path.rpartition("/")[2])
        web.ward.classify()
        assert "reader agrees: pneumonia (of an earlier answer)" in browser.get(path).text
        say(browser, path, "agree")
        assert "(of an earlier answer)" not in browser.get(path).text
    assert [row[:3] for row in rows(web)] == [
        ("PRESENT", "AGREE", "PNEUMONIA"), ("ABSENT", "AGREE", "NORMAL"),
    ]  # fmt: skip


def test_a_viewer_reads_verdicts_and_may_give_none(web: Web) -> None:
    path = answered(web)
    uid = web.ward.records()[0]["instances"][0]["sop_instance_uid"]
    with web.browser("viewer") as browser:
        page = browser.get(path).text
        assert "Verdicts" in page
        assert "/verdict" not in page
        where = f"{path}/images/{uid}/verdict"
        words = {"model": "1", "finding": "PRESENT", "says": "agree"}
        assert browser.post(where, **words).status_code == 403
    assert rows(web) == []
    assert f"{where}" in web.audited()


def test_a_verdict_from_another_site_is_refused(web: Web) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        assert say(browser, path, "agree", csrf="0" * 64).status_code == 403
    assert rows(web) == []


def test_a_verdict_is_written_down_before_it_is_saved(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = answered(web)
    with web.browser("reader") as browser:
        say(browser, path, "agree")
        uid = web.ward.records()[0]["instances"][0]["sop_instance_uid"]
        said = b64encode(f"verdict: agree on image {uid}".encode()).decode()
        assert said in web.audited()

        def refuse(*_: object) -> None:
            raise NotRecorded("the disk is full")

        token = hidden(browser.get(path).text, "csrf")
        monkeypatch.setattr(type(web.trail), "record", refuse)
        words = {"csrf": token, "model": "1", "finding": "PRESENT", "says": "disagree"}
        answer = browser.client.post(f"{path}/images/{uid}/verdict", data=words)
        assert answer.status_code == 503
    assert [row[1] for row in rows(web)] == ["AGREE"]


# --- agreement -------------------------------------------------------------------------------


def test_the_agreement_is_shown_with_its_interval_and_names_nobody(web: Web) -> None:
    paths = [answered(web) for _ in range(3)]
    paths.append(answered(web, Prediction(0.1, None, None, "ABSENT")))
    with web.browser("anna") as browser:
        for path, says in zip(paths, ("agree", "agree", "disagree", "agree"), strict=True):
            say(browser, path, says)
    with web.browser("viewer") as browser:
        page = browser.get("/agreement").text
    assert '<a href="/agreement" aria-current="page">' in page
    assert "75.0 %" in page
    assert "30.1 to 95.4 %, of 4" in page
    assert "100.0 %" in page
    assert page.count("<circle") == 1
    assert "anna" not in page
    assert "PID1" not in page


@pytest.mark.parametrize("months", [1, 120])
def test_the_drawing_keeps_its_size_for_every_period(web: Web, months: int) -> None:
    with web.browser("reader") as browser:
        say(browser, answered(web), "agree")
        page = browser.get(f"/agreement?months={months}").text
    assert 'viewBox="-8 -3 82 40"' in page
    at = re.search(r'<circle cx="([\d.]+)"', page)
    assert at
    assert float(at[1]) == pytest.approx(72 - 36 / months)


def test_without_verdicts_the_page_says_so_and_a_wrong_period_is_told(web: Web) -> None:
    with web.browser("viewer") as browser:
        assert "There is no verdict yet." in browser.get("/agreement").text
        assert browser.get("/agreement?months=0").status_code == 422
    with web.browser() as browser:
        assert browser.get("/agreement").status_code == 303
