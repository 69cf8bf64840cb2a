"""The REST API as schemathesis sees it: asked everything its description allows, and much that not.

It is asked in this process, without a network, and the same on every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from limits import RateLimitItemPerSecond
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import Message, Receive, Scope, Send

from model.predict import Prediction
from tests.fakes import model_info
from tests.ward import PACS, Ward
from tests.web import Web
from worker.access import tokens
from worker.access.attempts import Attempts
from worker.access.roles import Role
from worker.tables import Decision
from worker.web.app import build

DESCRIPTION = "/api/v1/openapi.json"
EXAMPLES = 25

# Wrong tokens are what it tries, and is to be told each time.
MANY = Attempts(*[RateLimitItemPerSecond(1_000_000)] * 3)


@pytest.fixture
def web(tmp_path: Path, sessions: sessionmaker[Session]) -> Web:
    """A web over a ward with some studies, on each kind of database."""
    web = Web(Ward(tmp_path, sessions), tmp_path, strangers=MANY)
    web.add("admin", Role.ADMIN)
    for word in ("PRESENT", "ABSENT", "UNDETERMINED"):
        web.ward.classifier.answer = Prediction(0.9, 0.5, 0.4, word)
        web.ward.receive_study(2)
        web.ward.classify()
        web.ward.clock.forward(60)
        web.ward.report()
        web.ward.deliver(PACS)
    web.ward.receive_study()
    return web


def found(web: Web, **settings: Any) -> Iterator[str]:
    """Run all that schemathesis has; give in words what it finds."""
    generation = {"max-examples": EXAMPLES, "deterministic": True, "database": "none"}
    told = {"seed": 1, "generation": generation, **settings}
    config = SchemathesisConfig.from_dict(told)
    schema = schemathesis.openapi.from_asgi(DESCRIPTION, web.app, config=config)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished | events.FuzzScenarioFinished):
            yield from _failures(event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            yield f"{type(event).__name__}: {getattr(event, 'info', event)}"


def _failures(event: Any) -> Iterator[str]:
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                sample = check.failure_info.code_sample
                yield f"{check.name}: {check.failure_info.failure}\n{sample}"


def asked_for(web: Web, **settings: Any) -> Counter[int]:
    """Give how often there was which answer; nothing may be found."""
    answers: Counter[int] = Counter()
    served = web.app

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                answers[message["status"]] += 1
            await send(message)

        await served(scope, receive, count)

    web.app = counted  # type: ignore[assignment]
    complaints = list(found(web, **settings))
    assert not complaints, "\n\n".join(complaints)
    return answers


def with_token(web: Web) -> dict[str, str]:
    with web.ward.sessions() as session, session.begin():
        token = tokens.add(session, "admin", "schemathesis", web.ward.clock(), timedelta(days=1))
    return {"Authorization": f"Bearer {token}"}


def test_schemathesis_finds_nothing(web: Web) -> None:
    answers = asked_for(web, headers=with_token(web))
    assert answers[200] > 40
    assert answers[422] > 40
    assert not [status for status in answers if status >= 500]


def test_schemathesis_finds_nothing_about_studies_that_are_there(web: Web) -> None:
    study = web.ward.records()[-1]["study_instance_uid"]
    answers = asked_for(web, headers=with_token(web), parameters={"path.uid": study})
    assert answers[200] > 40
    assert answers[202] > 0
    assert len(web.ward.all(Decision)) == answers[202]


def test_schemathesis_comes_in_nowhere_without_a_token(web: Web) -> None:
    answers = asked_for(web)
    assert set(answers) == {200, 401, 405}
    assert answers[200] == 1, "the description itself"
    assert web.ward.all(Decision) == []


def test_schemathesis_would_find_a_fault(web: Web) -> None:
    told = replace(web.services, model_info=lambda: replace(model_info(), threshold="high"))
    web.app = build(told, {"testserver"})
    complaints = list(found(web, headers=with_token(web)))
    assert any("response_schema_conformance" in each for each in complaints)
