"""Tokens of programs on SQLite and PostgreSQL: whose they are, and when they end."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from tests.accounts import Accounts, at_once
from tests.fakes import NOON
from worker.access import tokens, users
from worker.access.errors import LabelRefused, UnknownToken, UnknownUser
from worker.access.roles import Identity, Role
from worker.tables import ApiToken

YEAR = timedelta(days=365)


@pytest.fixture
def accounts(sessions: sessionmaker[Session]) -> Accounts:
    accounts = Accounts(sessions)
    accounts.add("anna", Role.READER)
    return accounts


def made(accounts: Accounts, label: str = "dashboard") -> str:
    token: str = accounts.do(tokens.add, "Anna", label, NOON, YEAR)
    return token


def rows(accounts: Accounts) -> list[ApiToken]:
    with accounts.sessions() as session:
        return list(session.scalars(select(ApiToken).order_by(ApiToken.id)))


def found(accounts: Accounts, token: str, minutes: float = 0) -> Identity | None:
    return tokens.find(accounts.sessions, token, NOON + timedelta(minutes=minutes))


def test_a_token_is_its_users_and_can_be_told_from_other_text(accounts: Accounts) -> None:
    token = made(accounts)
    assert token.startswith("cxr_")
    assert len(token) >= 4 + 43, "256 bits"
    assert found(accounts, token) == Identity("anna", Role.READER)
    for wrong in ("", "cxr_", token[:-1], token + "x", token + "\n", token[4:], "ü" * 47, "\0"):
        assert found(accounts, wrong) is None
    assert found(accounts, token[:-1] + ("A" if token[-1] != "A" else "B")) is None


def test_no_token_of_a_program_is_in_the_database(accounts: Accounts) -> None:
    token = made(accounts)
    (row,) = rows(accounts)
    kept = " ".join(str(getattr(row, column.name)) for column in ApiToken.__table__.columns)
    assert token not in kept
    assert found(accounts, row.token_hash) is None


def test_role_and_leave_are_those_of_the_user_at_the_time(accounts: Accounts) -> None:
    token = made(accounts)
    accounts.do(users.set_role, "anna", Role.VIEWER)
    assert found(accounts, token) == Identity("anna", Role.VIEWER)
    accounts.do(users.disable, "anna")
    assert found(accounts, token) is None
    with pytest.raises(UnknownUser):
        made(accounts)
    accounts.do(users.enable, "anna")
    assert found(accounts, token) == Identity("anna", Role.VIEWER)


def test_a_token_ends_on_its_day_or_when_it_is_revoked(accounts: Accounts) -> None:
    token, other = made(accounts), made(accounts, "other")
    minutes = YEAR.total_seconds() / 60
    assert found(accounts, token, minutes - 1)
    assert found(accounts, token, minutes) is None
    assert accounts.do(tokens.revoke, rows(accounts)[0].id) == ("anna", "dashboard")
    assert found(accounts, token) is None
    assert found(accounts, other)


def test_no_number_is_given_twice(accounts: Accounts) -> None:
    """Whoever revokes by an old list would end another token."""
    made(accounts)
    number = rows(accounts)[0].id
    accounts.do(tokens.revoke, number)
    made(accounts)
    with pytest.raises(UnknownToken):
        accounts.do(tokens.revoke, number)


@pytest.mark.parametrize("number", [-1, 0, 7, 1 << 70])
def test_what_is_not_there_cannot_be_revoked(accounts: Accounts, number: int) -> None:
    with pytest.raises(UnknownToken):
        accounts.do(tokens.revoke, number)


def test_that_a_token_is_used_is_written_once_a_minute(accounts: Accounts) -> None:
    token = made(accounts)
    assert rows(accounts)[0].last_used_at is None
    seen = []
    for minute in (0, 0.5, 0.99, 1, 1.5):
        found(accounts, token, minute)
        seen.append(rows(accounts)[0].last_used_at - NOON)
    assert seen == [timedelta(minutes=minute) for minute in (0, 0, 0, 1, 1)]


def test_many_requests_with_a_token_at_once_are_all_served(accounts: Accounts) -> None:
    token = made(accounts)
    anna = Identity("anna", Role.READER)
    assert at_once(*[partial(found, accounts, token)] * 12) == [anna] * 12


@pytest.mark.parametrize("label", ["", " ", "x" * 65, "a\nb", "a\0b"])
def test_a_label_is_a_line(accounts: Accounts, label: str) -> None:
    with pytest.raises(LabelRefused):
        made(accounts, label)


def test_tokens_are_listed_with_their_users(accounts: Accounts) -> None:
    made(accounts)
    with accounts.sessions() as session:
        ((token, name),) = tokens.list_tokens(session)
    assert (token.label, name, token.expires_at) == ("dashboard", "anna", NOON + YEAR)
