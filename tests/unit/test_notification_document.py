"""docs/notification.md: the receiver that it shows verifies, and what it shows is what is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.notices import SECRET, news, secret_file
from worker import hl7, webhook
from worker.notice import KEYWORDS
from worker.settings_notify import NotifyField, NotifySettings

TEXT = (Path(__file__).parents[2] / "docs" / "notification.md").read_text(encoding="utf-8")


def shown(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def verified() -> Any:
    names: dict[str, Any] = {}
    exec(shown("python"), names)
    return names["verified"]


def test_the_receiver_that_is_shown_takes_what_is_ours(verified: Any, tmp_path: Path) -> None:
    old = b"o" * 32
    body, secrets = webhook.body_of(news()), webhook.secrets_of(secret_file(tmp_path, SECRET, old))
    headers = webhook.headers_of(news().message_id, 1000, body, secrets)
    for line in (tmp_path / "secret").read_text().split():
        assert verified(headers, body, line, now=1200)
        assert verified(headers, body, f"whsec_{line}", now=1200)


def test_the_receiver_that_is_shown_refuses_what_is_not(verified: Any, tmp_path: Path) -> None:
    body, secret = webhook.body_of(news()), secret_file(tmp_path).read_text().strip()
    headers = webhook.headers_of(news().message_id, 1000, body, [SECRET])
    other = secret_file(tmp_path, b"x" * 32).read_text().strip()
    assert not verified(headers, body, other, now=1000)
    assert not verified(headers, body + b" ", secret, now=1000)
    assert not verified({**headers, "webhook-id": "another"}, body, secret, now=1000)
    assert not verified({**headers, "webhook-timestamp": "1001"}, body, secret, now=1000)
    assert not verified(headers, body, secret, now=1301)


def test_the_body_that_is_shown_is_what_is_posted() -> None:
    told, sent = json.loads(shown("json")), json.loads(webhook.body_of(news()))
    assert sent["data"].pop("caution").startswith(told["data"].pop("caution").rstrip("…"))
    assert sent == told


def test_the_message_that_is_shown_is_what_is_sent() -> None:
    (told,) = re.findall(r"^```\n(MSH.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    sent = hl7.message_of(news(), hl7.Ends("CXRWORKER"), news().reported_at).decode()
    for line, segment in zip(told.splitlines(), sent.split("\r")[:-1], strict=True):
        assert segment.startswith(line.rstrip("…")) if line.endswith("…") else segment == line


def test_every_setting_and_every_field_is_described() -> None:
    settings = [f"CXR_{name.upper()}" for name in NotifySettings.model_fields]
    assert [name for name in described_in(TEXT) if name.startswith("CXR_")] == settings
    _, _, of_the_patient = TEXT.partition("## What is said of the patient")
    assert described_in(of_the_patient.partition("\n## ")[0]) == list(NotifyField)


def described_in(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert list(KEYWORDS) == list(NotifyField)
