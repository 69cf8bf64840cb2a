"""What every answer says to the browser, and what is refused before anybody looks at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from tests.ward import Ward
from tests.web import PASSWORD, Web
from worker.access.roles import Role
from worker.web.app import build


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    web.add("viewer", Role.VIEWER)
    return web


@pytest.mark.parametrize("path", ["/", "/sign-in", "/static/page.js", "/nothing", "/studies/1"])
def test_every_answer_forbids_what_no_page_needs(web: Web, path: str) -> None:
    with web.browser("viewer") as browser:
        headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers


def test_over_tls_a_browser_is_told_to_stay_there(web: Web) -> None:
    with web.browser(base_url="https://testserver") as browser:
        assert "max-age" in browser.get("/sign-in").headers["strict-transport-security"]


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "127.0.0.1.evil"])
def test_another_name_is_refused(web: Web, host: str) -> None:
    with web.browser() as browser:
        answer = browser.get("/sign-in", headers={"Host": host})
    assert (answer.status_code, "CXR_WEB_HOSTS" in answer.text) == (400, True)


@pytest.mark.parametrize("host", ["TestServer", "testserver:8080", "127.0.0.1:1", "localhost"])
def test_our_names_are_answered_to_with_any_port(web: Web, host: str) -> None:
    with web.browser() as browser:
        assert browser.get("/sign-in", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 303)]
)
def test_what_another_site_sends_is_not_done(web: Web, site: str, status: int) -> None:
    with web.browser() as browser:
        data = {"name": "viewer", "password": PASSWORD}
        sent = browser.client.post("/sign-in", data=data, headers={"Sec-Fetch-Site": site})
        assert sent.status_code == status
        assert browser.get("/sign-in", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_where_others_come_only_tls_is_taken(web: Web) -> None:
    app = build(web.services, {"testserver"}, tls_only=True)
    with (
        TestClient(app, "http://testserver") as plain,
        TestClient(app, "https://testserver") as tls,
    ):
        answer = plain.get("/sign-in")
        assert (answer.status_code, "CXR_WEB_PROXIES" in answer.text) == (403, True)
        assert tls.get("/sign-in").status_code == 200


def test_what_is_too_long_or_of_no_length_is_refused(web: Web) -> None:
    with web.browser() as browser:
        long = browser.client.post("/sign-in", data={"name": "x" * 100_000, "password": "x"})
        assert long.status_code == 413
        parts = browser.client.post("/sign-in", content=iter([b"name=x"]))
        assert parts.status_code == 411


def test_no_page_asks_for_anything_from_elsewhere(web: Web) -> None:
    here = Path("worker/web")
    for file in (*here.rglob("*.html"), *here.rglob("*.css"), *here.glob("static/page.js")):
        text = file.read_text()
        assert "//cdn" not in text
        assert 'src="http' not in text
        assert 'href="http' not in text
        assert "url(" not in text
        assert "style=" not in text
        assert " onclick" not in text
