"""The page of a study tells who was told at once, when, and what is in the way."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.unit.worker.test_notifying import ABSENT, HL7, WEBHOOK, Telling
from tests.web import Browser, Web
from worker.access.roles import Role
from worker.notice import NoticeRefused, TargetAway
from worker.tables import Notice

GONE = NoticeRefused("the webhook answered 410", 410)
NO_ROUTE = TargetAway("the webhook cannot be reached: No route to host", reached=False)


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Telling:
    return Telling(tmp_path, sqlite_sessions)


@pytest.fixture
def web(ward: Telling, tmp_path: Path) -> Web:
    web = Web(ward, tmp_path)
    web.add("viewer", Role.VIEWER)
    web.add("admin", Role.ADMIN)
    return web


def shown(browser: Browser, study: str) -> str:
    page = browser.get(f"/studies/{study}")
    assert page.status_code == 200
    return str(page.text)


def rows(page: str) -> list[list[str]]:
    """Give the cells of the table of notices, as they are read."""
    (section,) = re.findall(r'<section aria-labelledby="notices">.*?</section>', page, re.DOTALL)
    lines = re.findall(r"<tr>(<td.*?)</tr>", section)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]
    return [[html.unescape(re.sub("<[^>]+>", "", cell)) for cell in line] for line in cells]


def test_where_nobody_was_told_it_is_said(web: Web, ward: Telling) -> None:
    study = ward.reported(ABSENT)
    with web.browser("viewer") as browser:
        page = shown(browser, study)
    assert rows(page) == []
    assert "Nobody was told at once of this study, and no notice is owed." in page


def test_who_was_told_what_and_when_is_shown(web: Web, ward: Telling) -> None:
    study = ward.reported()
    ward.clock.forward(60)
    ward.notify()
    ward.again(study, ABSENT)
    first, second = ward.all(Notice)
    at = f"{first.sent_at.astimezone():%Y-%m-%d %H:%M:%S}"
    with web.browser("viewer") as browser:
        page = shown(browser, study)
    assert rows(page) == [
        [
            "webhook", "new: pneumonia", "acknowledged", at, "1", "the webhook answered 204",
            first.message_id,
        ],
        ["webhook", "correction: no pneumonia", "to be sent", "no", "0", "", second.message_id],
    ]  # fmt: skip
    assert f"{at}</time> a notice (present) acknowledged by webhook" in page


def test_a_receiver_of_hl7_is_called_so(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Telling(tmp_path, sqlite_sessions, HL7)
    web = Web(ward, tmp_path)
    web.add("viewer", Role.VIEWER)
    study = ward.reported()
    ward.notify()
    with web.browser("viewer") as browser:
        page = shown(browser, study)
    assert rows(page)[0][0] == "HL7"
    assert "acknowledged by HL7" in page


def test_a_target_that_is_away_is_shown_with_every_try_and_why(web: Web, ward: Telling) -> None:
    study = ward.reported()
    for _ in range(3):
        ward.tell.answers = [NO_ROUTE]
        ward.notify()
        ward.clock.forward(3600)
    with web.browser("viewer") as browser:
        (row,) = rows(shown(browser, study))
    assert row[2:6] == ["not acknowledged yet, is tried again", "no", "3", str(NO_ROUTE)]


def test_a_dead_letter_is_shown_requeued_from_there_and_discarded(web: Web, ward: Telling) -> None:
    study = ward.reported()
    ward.tell.answers = [GONE, GONE]
    ward.notify()
    with web.browser("admin") as browser:
        page = shown(browser, study)
        assert f"<li>notice by {WEBHOOK}: the webhook answered 410</li>" in page
        assert rows(page)[0][2:6] == ["given up", "no", "1", "the webhook answered 410"]
        browser.post(f"/studies/{study}/requeue", reason="the ward has a new address", seen="0")
        page = shown(browser, study)
        assert "notice by webhook:" not in page
        assert rows(page)[0][2] == "not acknowledged yet, is tried again"
        ward.notify()
        assert rows(shown(browser, study))[0][2:5] == ["given up", "no", "2"]
        ward.discard(study)
        page = shown(browser, study)
    assert "notice by webhook:" not in page
    assert rows(page)[0][2:6] == ["discarded", "no", "2", "the webhook answered 410"]


def test_no_address_or_secret_of_a_target_is_shown(web: Web, ward: Telling) -> None:
    study = ward.reported()
    ward.tell.answers = [NO_ROUTE]
    ward.notify()
    assert "s3cret-path" in ward.settings.webhook_url
    with web.browser("admin") as browser:
        page = shown(browser, study)
    assert "s3cret-path" not in page
    assert "alerts.example.org" not in page
