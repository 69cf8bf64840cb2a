"""The page of a candidate: who sees it, what it says, and that its answers are nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from model.predict import Prediction
from tests.fakes import FakeClassifier, model_info
from tests.ward import Ward
from tests.web import Web
from worker import shadowing
from worker.access.roles import Role
from worker.drift import FEWEST
from worker.ledger import candidates, model_events
from worker.ledger.candidates import SETTLED, Artifact
from worker.states import ModelAction
from worker.trying import Trying

TRIED = Artifact("tried-resnet", "9.9.9", "e" * 64, "m-9")


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    web.add("viewer", Role.VIEWER)
    return web


def begin(web: Web) -> None:
    with web.ward.sessions() as session, session.begin():
        now = web.ward.clock()
        candidates.begin_trial(session, TRIED, now)
        model_events.save_event(
            session, ModelAction.SHADOWED, TRIED, "anna", now, reason="<retrained>"
        )


def tried(web: Web, *answers: Prediction) -> list[str]:
    """Have studies answered by the model in use, and by the candidate; give their UIDs."""
    studies = []
    for answer in answers:
        studies.append(web.ward.receive_study())
        web.ward.classify()
        web.ward.clock.forward(SETTLED.total_seconds())
        classifier: Any = FakeClassifier(answer, model_info(TRIED.digest, "9.9.9"))
        shadowing.shadow(web.ward.desk, Trying(Path(), lambda _, c=classifier: c))
    return studies


def test_nobody_sees_it_before_signing_in(web: Web) -> None:
    begin(web)
    with web.browser() as browser:
        assert browser.get("/candidate").status_code == 303


def test_without_a_candidate_the_page_says_so(web: Web) -> None:
    with web.browser("viewer") as browser:
        page = browser.get("/candidate").text
        assert browser.get("/candidate?days=0").status_code == 422
    for words in ("There was no candidate yet.", "has not answered yet", "No step was recorded"):
        assert words in page


def test_a_candidate_is_shown_beside_the_model_in_use(web: Web) -> None:
    begin(web)
    same, other = tried(
        web, Prediction(0.9, 0.7, 0.3, "PRESENT"), Prediction(0.1, None, None, "ABSENT")
    )
    with web.browser("viewer") as browser:
        page = browser.get("/candidate").text
    assert '<a href="/candidate" aria-current="page">' in page
    assert "tried-resnet 9.9.9" in page
    assert "50.0 %" in page
    assert f'<a href="/studies/{other}">' in page
    assert same not in page
    assert page.count("<rect") == 2
    assert "&lt;retrained&gt;" in page
    assert "too few to say anything" in page
    assert "PID1" not in page
    assert "page=candidate" in web.audited() or "cGFnZT1jYW5kaWRhdGU" in web.audited()


def test_what_a_candidate_says_is_on_no_other_page_and_in_no_answer(web: Web) -> None:
    begin(web)
    (study,) = tried(web, Prediction(0.123456, None, None, "ABSENT"))
    with web.browser("viewer") as browser:
        for path in ("/", f"/studies/{study}", "/agreement", "/model"):
            page = browser.get(path).text
            assert "9.9.9" not in page, path
            assert "12.3" not in page, path
            assert "0.123" not in page, path
    (record,) = web.ward.records()
    assert "ABSENT" not in str(record)


def test_drift_is_shown_where_there_are_images_enough(web: Web) -> None:
    for _ in range(2):
        for _ in range(FEWEST):
            web.ward.receive_study()
        while web.ward.classify():
            pass
        web.ward.clock.forward(20 * 86400)
    web.ward.clock.forward(-6 * 86400 - 3600)
    with web.browser("viewer") as browser:
        page = browser.get("/candidate?days=14").text
    assert f"{FEWEST} images, and {FEWEST} before" in page
    assert "Kolmogorov-Smirnov" in page
