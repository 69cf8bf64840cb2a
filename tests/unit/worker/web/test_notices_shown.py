"""The page of a study tells who was told at once, and shows a notice that was given up."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.ward import Ward
from tests.web import Web
from worker import ledger
from worker.access.roles import Role
from worker.news import owe_notices
from worker.states import JobKind
from worker.tables import Study


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    web = Web(Ward(tmp_path, sqlite_sessions), tmp_path)
    web.add("viewer", Role.VIEWER)
    return web


def test_a_notice_is_shown_with_its_answer_once_there_is_one(web: Web) -> None:
    ward = web.ward
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    with web.browser() as browser:
        browser.sign_in("viewer")
        assert "Notices" not in browser.get(f"/studies/{study}").text
        _give_up(ward)
        shown = browser.get(f"/studies/{study}").text
    assert '<h2 id="notices">Notices</h2>' in shown
    for words in ("webhook", "present", "failed", "the webhook answered 410"):
        assert f"<td>{words}</td>" in shown


def _give_up(ward: Ward) -> None:
    """Owe a notice of the study, and have it refused."""
    (row,) = ward.all(Study)
    with ward.sessions() as session, session.begin():
        assert owe_notices(session, row.id, ["webhook"], ward.clock())
    with ward.sessions() as session, session.begin():
        (claim,) = ledger.claim(
            session, JobKind.NOTIFY, 1, ward.clock(), ward.desk.lease, destination="webhook"
        )
        ledger.save_unsent(session, claim, 410, "the webhook answered 410", None)
