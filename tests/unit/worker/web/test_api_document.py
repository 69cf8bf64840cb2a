"""What docs/api.md shows is what happens: its requests are sent, and their answers compared."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.unit.worker.test_results import notified
from tests.unit.worker.web.test_api import V1, program
from tests.ward import PACS, Ward, chest
from tests.web import Web
from worker.access.roles import Role
from worker.web.api import app as api
from worker.web.api.asked import Asked

DOCUMENT = (Path(__file__).resolve().parents[4] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"^```(sh|json|text)\n(.*?)^```", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
STUDY = "1.2.826.0.1.3680043.8.498.7"
AT = "http://localhost:8080"
# Made anew for each report, and each notice.
MADE = re.compile(r'2\.25\.\d+|(?<="message_id": ")[0-9a-f]{20}')


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    """The study that the document shows."""
    ward = Ward(tmp_path, sqlite_sessions)
    image = chest(STUDY, SOPInstanceUID=f"{STUDY}.1.1", PatientID="PID7")
    ward.receive(image, accession_number="A-2026-7")
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    ward.deliver(PACS)
    notified(ward, STUDY)
    web = Web(ward, tmp_path)
    web.add("admin", Role.ADMIN)
    return web


def requests(block: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("curl ")]


def send(client: Any, words: list[str]) -> Any:
    """Send what a curl command would."""
    options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    headers = [words[i + 1] for i, word in enumerate(words) if word == "-H"]
    assert headers.pop(0) == "Authorization: Bearer $TOKEN"
    given = dict(header.split(": ") for header in headers)
    path = words[-1].removeprefix(AT)
    if body := options.get("--json"):
        return client.post(path, content=body, headers={"Content-Type": "application/json"})
    return client.get(path, headers=given)


def test_every_request_that_is_shown_is_answered_as_shown(web: Web) -> None:
    shown = 0
    with program(web, "admin") as client:
        for number, (kind, block) in enumerate(BLOCKS):
            answers = [send(client, words) for words in requests(block)] if kind == "sh" else []
            assert all(answer.status_code in (200, 202, 404) for answer in answers)
            following, text = [*BLOCKS, ("sh", "")][number + 1]
            if not answers or following == "sh":
                continue
            shown += 1
            if following == "json":
                told = MADE.sub("", json.dumps(answers[-1].json()))
                assert json.loads(told) == json.loads(MADE.sub("", text))
            else:
                assert set(text.splitlines()) <= set(answers[-1].text.splitlines())
    assert shown == 4


def test_every_parameter_and_every_status_is_described(web: Web) -> None:
    first = re.findall(r"^\| (`[^|]+|\d+) \|", DOCUMENT, flags=re.MULTILINE)
    names = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert names == list(Asked.model_fields)
    told = api.build(web.services).openapi()["paths"].values()
    statuses = {
        status for path in told for operation in path.values() for status in operation["responses"]
    }
    assert {cell for cell in first if cell.isdigit()} == {each for each in statuses if each > "3"}


def test_every_path_is_shown(web: Web) -> None:
    for path in api.build(web.services).openapi()["paths"]:
        assert f"{AT}{V1}{path.replace('{uid}', STUDY)}" in DOCUMENT
