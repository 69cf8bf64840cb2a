"""`cxr-worker token ...`: tokens are shown once, and each change is in the audit trail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.accounts import Accounts
from tests.unit.worker.test_user_commands import audited
from worker import composition, database
from worker.__main__ import app
from worker.access import tokens
from worker.access.errors import LabelRefused, UnknownToken, UnknownUser
from worker.access.roles import Identity, Role
from worker.audit.trail import NotRecorded
from worker.clock import local_time


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Accounts]:
    """The users of a home of the test's own, which the commands see; anna is one."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for each in (composition.settings, composition.engine):
        each.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    database.upgrade(composition.settings().database_url)
    accounts = Accounts(database.build_sessions(composition.engine()))
    accounts.add("anna")
    yield accounts
    root.handlers[:], root.level = handlers, level
    composition.engine().dispose()
    for each in (composition.settings, composition.engine):
        each.cache_clear()


def token(*words: str) -> Result:
    return CliRunner().invoke(app, ["token", *words])


def test_a_token_alone_is_on_standard_output(accounts: Accounts) -> None:
    done = token("add", "Anna", "--label", "dashboard", "--days", "30")
    assert done.exit_code == 0, done.output
    made = done.stdout.strip()
    assert done.stdout == f"{made}\n"
    assert "keep it now" in done.stderr
    identity = tokens.find(accounts.sessions, made, local_time())
    assert identity == Identity("anna", Role.READER)
    assert audited() == [("110137", "anna", "got a token for 30 days: dashboard")]
    assert made not in composition.settings().audit_path.read_text()


def test_tokens_are_listed_without_themselves_and_revoked(accounts: Accounts) -> None:
    assert "There are no tokens." in token("list").output
    made = token("add", "anna", "--label", "ward [3]").stdout.strip()
    listed = token("list").output
    assert made not in listed
    assert listed.splitlines()[1].split()[:4] == ["1", "anna", "ward", "[3]"]
    assert "never" in listed
    done = token("revoke", "1")
    assert done.output == "The token ward [3] of anna is no longer taken.\n"
    assert tokens.find(accounts.sessions, made, local_time()) is None
    assert audited()[1:] == [("110137", "anna", "lost the token: ward [3]")]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("add", "nobody", "--label", "x"), UnknownUser),
        (("add", "anna", "--label", " "), LabelRefused),
        (("revoke", "3"), UnknownToken),
    ],
)
def test_a_mistake_changes_nothing_and_is_not_audited(
    accounts: Accounts, words: tuple[str, ...], error: type[Exception]
) -> None:
    done = token(*words)
    assert done.exit_code == 1
    assert isinstance(done.exception, error)
    assert audited() == []
    assert "There are no tokens." in token("list").output


def test_a_token_that_cannot_be_audited_is_not_made(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def record(self, *_: object) -> None:
            raise NotRecorded("full")

        def close(self) -> None:
            pass

    monkeypatch.setattr(composition, "trail", Broken)
    done = token("add", "anna", "--label", "x")
    assert isinstance(done.exception, NotRecorded)
    assert "cxr_" not in done.output
    assert "There are no tokens." in token("list").output


@pytest.mark.parametrize("days", ["0", "-1", "999999999"])
def test_a_token_lasts_between_a_day_and_ten_years(accounts: Accounts, days: str) -> None:
    assert token("add", "anna", "--label", "x", "--days", days).exit_code == 2
