"""The worklist in a real Chromium: live, by keyboard, on a phone, and for who cannot see it."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from model.predict import Prediction
from tests import oidc
from tests.e2e.programs import free_port
from tests.unit.worker.test_results import notified
from tests.unit.worker.web.test_candidate import begin, tried
from tests.ward import PACS, Ward
from tests.web import PASSWORD, Web
from worker.access.roles import Role
from worker.database import build_sessions
from worker.tables import VerdictRow
from worker.web import pages

SERIOUS = {"serious", "critical"}
# Read now: the tests themselves run without our settings.
REQUIRED = bool(os.environ.get("CXR_REQUIRE_CHROMIUM"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if REQUIRED else pytest.skip)("no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def web(tmp_path: Path, sqlite_engine: Engine) -> Web:
    web = Web(Ward(tmp_path, build_sessions(sqlite_engine)), tmp_path)
    web.add("admin", Role.ADMIN)
    web.ward.explain = lambda images: np.tile(
        np.linspace(0, 1, 16, dtype=np.float32), (len(images), 16, 1)
    )
    return web


@contextmanager
def served(web: Web, port: int | None = None) -> Iterator[str]:
    """Serve pages on a port of this machine; give their address."""
    port = free_port() if port is None else port
    config = uvicorn.Config(web.app, "127.0.0.1", port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(web: Web, chromium: Browser) -> Iterator[Page]:
    """Signed in, on the worklist; whatever a page complains of fails its test."""
    with served(web) as address:
        context = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Worklist")).to_be_visible()
        yield page
        # Of our reading a drawn image back, which no page does; and of a refusal that was provoked.
        known = ("Canvas2D", " 409 ")
        assert [each for each in complaints if not any(word in each for word in known)] == []
        context.close()


def reported(web: Web, answer: Prediction | None = None) -> str:
    ward = web.ward
    ward.classifier.answer = answer or Prediction(0.9, 0.7, 0.3, "PRESENT")
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    return study


def grey_in_the_middle(page: Page) -> int:
    """Give the grey value that the drawn image has in its middle."""
    value: int = page.evaluate(
        """() => { const canvas = document.querySelector('.viewer canvas');
        const [x, y] = [canvas.width >> 1, canvas.height >> 1];
        return canvas.getContext('2d').getImageData(x, y, 1, 1).data[0]; }"""
    )
    return value


def test_a_study_that_arrives_is_shown_without_a_reload(web: Web, page: Page) -> None:
    expect(page.get_by_text("No study matches.")).to_be_visible()
    page.evaluate("() => { window.stayed = true; }")
    study = reported(web)
    expect(page.locator(f'a[href="/studies/{study}"]')).to_have_text("pneumonia")
    web.ward.deliver(PACS)
    expect(page.locator(".worklist tbody")).to_contain_text("delivered")
    assert page.evaluate("() => window.stayed")
    expect(page.locator("#told")).to_have_text("The worklist has changed.")


def test_a_list_that_cannot_be_brought_up_to_date_says_so(
    web: Web, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(web) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#stale")).to_be_hidden()

        def away(*_: object) -> None:
            raise OperationalError("SELECT", {}, Exception("away"))

        with monkeypatch.context() as patch:
            patch.setattr(pages, "page", away)
            expect(page.locator("#stale")).to_contain_text("not up to date since")
        expect(page.locator("#stale")).to_be_hidden()
        context.close()


def test_everything_can_be_reached_by_keyboard(web: Web, page: Page) -> None:
    first, second = reported(web), reported(web)
    expect(page.locator(".worklist td a")).to_have_count(2)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(f'a[href="/studies/{first}"]')).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{second}")
    expect(page.locator(".heat")).to_be_visible()
    page.keyboard.press("h")
    expect(page.locator(".heat")).to_be_hidden()
    page.keyboard.press("h")
    expect(page.locator(".heat")).to_be_visible()
    page.keyboard.press("b")
    page.wait_for_url(re.compile(r"/$"))
    page.keyboard.press("/")
    expect(page.get_by_label("Accession number, patient ID or study UID")).to_be_focused()


def test_the_heat_map_fades_in_and_out(web: Web, page: Page) -> None:
    page.goto(f"/studies/{reported(web)}")
    slider = page.get_by_label("What spoke for pneumonia (not its extent)")
    for percent in ("0", "100", "30"):
        slider.fill(percent)
        expect(page.locator(".heat")).to_have_css("opacity", f"{int(percent) / 100:g}")


def test_the_window_follows_a_drag_and_the_arrow_keys_and_can_be_reset(
    web: Web, page: Page
) -> None:
    page.goto(f"/studies/{reported(web)}")
    viewer = page.locator(".viewer")
    box = viewer.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6, steps=3)
    page.mouse.up()
    expect(page.locator(".window")).to_have_text("Level 60 %, width 100 %")
    darker = grey_in_the_middle(page)
    page.get_by_text("Reset window").click()
    expect(page.locator(".window")).to_have_text("Level 50 %, width 100 %")
    assert grey_in_the_middle(page) > darker
    viewer.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".window")).to_have_text("Level 50 %, width 98 %")


def test_an_administrator_has_a_study_done_again(web: Web, page: Page) -> None:
    page.goto(f"/studies/{reported(web)}")
    page.get_by_label("Why").fill("the window was wrong")
    page.get_by_role("button", name="Requeue this study").click()
    expect(page.locator(".history")).to_contain_text("requeued by admin: the window was wrong")


def test_a_reader_judges_by_one_key_and_stays_on_the_page(web: Web, page: Page) -> None:
    page.goto(f"/studies/{reported(web)}")
    page.evaluate("() => { window.stayed = true; }")
    for key, words in (("a", "admin agrees: pneumonia"), ("u", "admin is unsure")):
        page.keyboard.press(key)
        expect(page.locator("#verdicts-1")).to_contain_text(words)
    page.get_by_label("Comment (name no patient)").fill("add and undo")
    assert len(web.ward.all(VerdictRow)) == 2, "who types a comment presses no key"
    page.locator(".viewer").focus()
    page.keyboard.press("d")
    expect(page.locator("#verdicts-1")).to_contain_text("admin disagrees: no pneumonia")
    expect(page.locator("#verdicts-1 q")).to_have_text("add and undo")
    expect(page.get_by_label("Comment (name no patient)")).to_have_value("")
    assert page.evaluate("() => window.stayed")
    assert [row.verdict for row in web.ward.all(VerdictRow)] == ["AGREE", "UNSURE", "DISAGREE"]


def test_a_key_judges_the_image_that_has_the_focus(web: Web, page: Page) -> None:
    web.ward.classifier.answer = Prediction(0.5, 0.5, 0.5, "UNDETERMINED")
    study = web.ward.receive_study(2)
    web.ward.classify()
    page.goto(f"/studies/{study}")
    page.keyboard.press("a")  # which says nothing of these
    page.locator(".viewer").nth(1).focus()
    page.get_by_label("If there is pneumonia").nth(1).select_option("bacterial")
    page.locator(".viewer").nth(1).focus()
    page.keyboard.press("p")
    expect(page.locator("#verdicts-2")).to_contain_text("admin states: bacterial pneumonia")
    expect(page.locator("#verdicts-1")).to_have_text("None yet.")
    assert len(web.ward.all(VerdictRow)) == 1


def test_a_verdict_that_could_not_be_saved_is_told(web: Web, page: Page) -> None:
    page.goto(f"/studies/{reported(web)}")
    page.evaluate("() => { document.querySelector('[name=finding]').value = 'ABSENT'; }")
    page.keyboard.press("a")
    expect(page.locator("#verdicts-1")).to_contain_text("This was not saved")
    assert web.ward.all(VerdictRow) == []


def test_who_signs_out_sees_nothing_any_more(web: Web, page: Page) -> None:
    study = reported(web)
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"/studies/{study}")
    expect(page.get_by_label("Password")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390], ids=["screen", "phone"])
def test_nothing_is_in_the_way_of_who_cannot_see_or_point(web: Web, page: Page, width: int) -> None:
    reported(web, Prediction(0.05, None, None, "ABSENT"))
    reported(web, Prediction(0.5, 0.5, 0.5, "UNDETERMINED"))
    reported(web, Prediction(reason="NOT_CHEST"))
    study = reported(web)
    notified(web.ward, study)
    begin(web)
    tried(web, Prediction(0.1, None, None, "ABSENT"))
    page.goto(f"/studies/{study}")
    page.keyboard.press("a")
    expect(page.locator("#verdicts-1")).to_contain_text("admin agrees")
    page.set_viewport_size({"width": width, "height": 800})
    paths = (
        "/",
        "/?order=urgent",
        f"/studies/{study}",
        "/agreement",
        "/candidate",
        "/model",
        "/sign-in",
    )
    for path in paths:
        page.goto(path)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], path) for each in found if each["impact"] in SERIOUS] == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_without_a_script_everything_can_be_read(web: Web, chromium: Browser) -> None:
    study = reported(web)
    with served(web) as address:
        context = chromium.new_context(base_url=address, java_script_enabled=False)
        page = context.new_page()
        page.goto(f"/studies/{study}")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("Pneumonia (highest score 90.0 %)")
        expect(page.locator(".radiograph")).to_be_visible()
        page.get_by_role("button", name="Disagree").click()
        expect(page.locator("#verdicts-1")).to_contain_text("admin disagrees: no pneumonia")
        context.close()


def test_somebody_signs_in_and_out_by_a_provider_of_another_site(
    chromium: Browser, tmp_path: Path, sqlite_engine: Engine
) -> None:
    port = free_port()
    # To a browser, localhost and 127.0.0.1 are two sites: a strict cookie stays behind.
    ours = f"http://localhost:{port}"
    with oidc.running() as provider:
        provider.asks_first = True
        ward = Ward(tmp_path, build_sessions(sqlite_engine))
        web = Web(ward, tmp_path, elsewhere=oidc.elsewhere(provider, ours))
        with served(web, port):
            context = chromium.new_context(base_url=ours)
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda said: complaints.append(said.text))
            page.goto("/model")
            found = Axe().run(page).response["violations"]
            assert [each["id"] for each in found if each["impact"] in SERIOUS] == []
            page.get_by_role("link", name="Sign in by Hospital account").click()
            page.get_by_role("link", name="Let me in").click()
            expect(page.get_by_text("anna (reader)")).to_be_visible()
            assert page.url == f"{ours}/model"
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
            page.get_by_role("link", name="Sign out of Hospital account").click()
            page.wait_for_url(f"{provider.address}/logout**")
            page.goto(f"{ours}/")
            expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
            assert [each for each in complaints if "favicon" not in each] == []
            context.close()
