"""`cxr-worker user ...`: who may use the web pages, and that each change is in the audit trail."""

from __future__ import annotations

import logging
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dicom_node.errors import PacsWorkerError
from tests.accounts import OTHER_PASSWORD, PASSWORD, Accounts
from tests.fakes import NOON
from worker import composition, database, given_up
from worker.__main__ import app
from worker.access.errors import LastAdmin, NameRefused, PasswordRefused, UnknownUser
from worker.access.roles import Identity, Role
from worker.access.vouched import Vouched, arrive
from worker.audit.trail import NotRecorded


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Accounts]:
    """The users of a home of the test's own, which the commands see."""
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for each in (composition.settings, composition.engine):
        each.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    database.upgrade(composition.settings().database_url)
    yield Accounts(database.build_sessions(composition.engine()))
    root.handlers[:], root.level = handlers, level
    composition.engine().dispose()
    for each in (composition.settings, composition.engine):
        each.cache_clear()


def user(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["user", *words], input=typed)


def mistake(*words: str, typed: str = "") -> PacsWorkerError:
    """Run a command that must fail with one line for a person."""
    done = user(*words, typed=typed)
    assert done.exit_code == 1
    assert isinstance(done.exception, PacsWorkerError), done.exception
    return done.exception


def add(name: str, role: str = "reader", password: str = PASSWORD) -> Result:
    return user("add", name, "--role", role, "--password-stdin", typed=f"{password}\n")


def audited() -> list[tuple[str, str, str]]:
    """Give of each message its type, whom it is about, and what it says."""
    path = composition.settings().audit_path
    if not path.exists():
        return []
    return [
        (
            re.findall(r'<EventTypeCode csd-code="(\d+)"', line)[0],
            re.findall(r'ParticipantObjectID="([^"]*)"', line)[0],
            b64decode(re.findall(r'ParticipantObjectDetail type="[^"]*" value="([^"]*)"', line)[0])
            .decode(),
        )
        for line in path.read_text().splitlines()
    ]  # fmt: skip


def test_a_user_is_added_with_a_password_that_is_typed_twice(accounts: Accounts) -> None:
    done = user("add", "Anna", "--role", "admin", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert "anna may sign in as admin." in done.output
    assert PASSWORD not in done.output
    assert accounts.check("anna") == Identity("anna", Role.ADMIN)
    assert audited() == [("110137", "anna", "added as admin")]


def test_two_passwords_that_differ_are_asked_for_again(accounts: Accounts) -> None:
    typed = f"{PASSWORD}\nanother\n{PASSWORD}\n{PASSWORD}\n"
    assert user("add", "anna", "--role", "VIEWER", typed=typed).exit_code == 0
    assert accounts.check("anna") == Identity("anna", Role.VIEWER)


def test_a_script_gives_the_password_by_standard_input(accounts: Accounts) -> None:
    assert add("anna", password=f" {PASSWORD} ").exit_code == 0
    assert accounts.check("anna") is None
    assert accounts.check("anna", f" {PASSWORD} "), "blanks belong to it"


def test_users_are_listed(accounts: Accounts) -> None:
    assert "There are no users." in user("list").output
    add("berta", "viewer")
    add("anna", "admin")
    user("disable", "berta")
    accounts.check("anna")
    lines = [line.split() for line in user("list").output.splitlines()]
    assert lines[1:] == [
        ["anna", "admin", "yes", "password", "2026-11-23", "12:00", "UTC"],
        ["berta", "viewer", "no", "password", "never"],
    ]  # fmt: skip


def test_of_a_user_of_a_provider_a_command_tells_what_it_cannot_change(accounts: Accounts) -> None:
    vouched = Vouched("https://sso.example.org 0a1b", "Anna", Role.READER)
    accounts.do(arrive, vouched, NOON)
    assert user("list").output.splitlines()[1].split()[3] == "https://sso.example.org"
    given = mistake("password", "anna", "--password-stdin", typed=f"{PASSWORD}\n")
    assert "has no password here" in str(given)
    assert "comes from the provider" in str(mistake("role", "anna", "admin"))
    assert audited() == []
    assert user("disable", "anna").exit_code == 0
    assert accounts.do(arrive, vouched, NOON).identity is None


def test_every_change_is_made_and_audited(accounts: Accounts) -> None:
    add("anna", "admin")
    add("berta")
    session = accounts.begin(Identity("berta", Role.READER))
    assert user("role", "Berta", "Viewer").output == "berta is viewer now.\n"
    assert accounts.find(session) == Identity("berta", Role.VIEWER)
    user("password", "berta", "--password-stdin", typed=f"{OTHER_PASSWORD}\n")
    assert accounts.find(session) is None
    assert accounts.check("berta", OTHER_PASSWORD)
    user("disable", "berta")
    assert accounts.check("berta", OTHER_PASSWORD) is None
    user("enable", "berta")
    assert accounts.check("berta", OTHER_PASSWORD)
    assert audited()[2:] == [
        ("110136", "berta", "is viewer now"),
        ("110137", "berta", "got another password"),
        ("110137", "berta", "disabled"),
        ("110137", "berta", "enabled"),
    ]
    text = composition.settings().audit_path.read_text()
    assert f'UserName="{given_up.who()}"' in text
    assert PASSWORD not in text
    assert OTHER_PASSWORD not in text


def test_a_mistake_is_told_and_changes_nothing(accounts: Accounts) -> None:
    add("anna", "admin")
    before = audited()
    for kind, words, typed in (
        (NameRefused, ("add", "anna", "--role", "viewer", "--password-stdin"), PASSWORD),
        (NameRefused, ("add", "a b", "--role", "viewer", "--password-stdin"), PASSWORD),
        (PasswordRefused, ("add", "berta", "--role", "viewer", "--password-stdin"), "short"),
        (PasswordRefused, ("password", "anna", "--password-stdin"), ""),
        (LastAdmin, ("role", "anna", "reader"), ""),
        (LastAdmin, ("disable", "anna"), ""),
        (UnknownUser, ("enable", "berta"), ""),
        (UnknownUser, ("role", "berta", "viewer"), ""),
        (UnknownUser, ("password", "berta", "--password-stdin"), PASSWORD),
    ):
        assert type(mistake(*words, typed=typed)) is kind
    assert audited() == before
    assert accounts.check("anna") == Identity("anna", Role.ADMIN)


@pytest.mark.parametrize(
    "words", [("add", "anna"), ("add", "anna", "--role", "chief"), ("role", "anna", "chief")]
)
def test_a_role_that_does_not_exist_is_told(accounts: Accounts, words: tuple[str, ...]) -> None:
    done = user(*words)
    assert done.exit_code == 2
    assert "role" in done.output.lower()


def test_what_cannot_be_audited_is_not_done(accounts: Accounts) -> None:
    add("anna", "admin")
    path = composition.settings().audit_path
    path.unlink()
    path.mkdir()
    for words, typed in (
        (("add", "berta", "--role", "viewer", "--password-stdin"), PASSWORD),
        (("password", "anna", "--password-stdin"), OTHER_PASSWORD),
    ):
        assert isinstance(mistake(*words, typed=typed), NotRecorded)
    assert accounts.check("berta") is None
    assert accounts.check("anna")


def test_a_database_without_users_is_told_how_to_upgrade(accounts: Accounts) -> None:
    database.downgrade(composition.settings().database_url, "0005")
    assert "cxr-worker db upgrade" in str(mistake("list"))
