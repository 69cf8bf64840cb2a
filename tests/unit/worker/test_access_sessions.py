"""Sessions of the web pages on SQLite and PostgreSQL: they end when they should, and at once."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from tests.accounts import ABSOLUTE, IDLE, OTHER_PASSWORD, Accounts, at_once
from tests.fakes import NOON
from worker.access import sessions as web_sessions
from worker.access import users
from worker.access.errors import UnknownUser
from worker.access.first import FirstToken
from worker.access.roles import LOCAL, Identity, Role
from worker.tables import WebSession


@pytest.fixture
def accounts(sessions: sessionmaker[Session]) -> Accounts:
    return Accounts(sessions)


@pytest.fixture
def anna(accounts: Accounts) -> Identity:
    return accounts.add("anna", Role.READER)


def rows(accounts: Accounts) -> list[WebSession]:
    with accounts.sessions() as session:
        return list(session.scalars(select(WebSession)))


def test_a_session_is_of_whoever_signed_in(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    assert accounts.find(token) == anna
    assert accounts.find(token + "x") is None
    assert accounts.find("") is None


def test_no_token_is_in_the_database(accounts: Accounts, anna: Identity) -> None:
    tokens = {accounts.begin(anna) for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens), "256 bits"
    kept = " ".join(each.token_hash for each in rows(accounts))
    assert not any(token in kept for token in tokens)
    assert accounts.find(rows(accounts)[0].token_hash) is None


def test_a_session_ends_when_it_is_not_used(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    for minute in (29, 58, 87):
        assert accounts.find(token, minute) == anna
    assert accounts.find(token, 87 + 30) is None
    assert rows(accounts) == []
    assert accounts.find(token, 88) is None, "it does not come back"


def test_a_session_ends_however_much_it_is_used(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    last = int(ABSOLUTE.total_seconds() / 60)
    for minute in range(0, last, 20):
        assert accounts.find(token, minute) == anna
    assert accounts.find(token, last) is None
    assert rows(accounts) == []


def test_that_a_session_is_used_is_written_once_a_minute(
    accounts: Accounts, anna: Identity
) -> None:
    token = accounts.begin(anna)
    seen = []
    for minute in (0.5, 0.99, 1, 1.5, 2.5):
        accounts.find(token, minute)
        seen.append(rows(accounts)[0].last_seen_at - NOON)
    assert seen == [timedelta(minutes=minute) for minute in (0, 0, 1, 1, 2.5)]


def test_a_session_that_is_used_outlasts_a_short_limit(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    for seconds in range(0, 180, 20):
        now = NOON + timedelta(seconds=seconds)
        minute = timedelta(minutes=1)
        assert web_sessions.find(accounts.sessions, token, now, idle=minute, absolute=ABSOLUTE)


def test_reading_a_session_waits_for_no_writer(
    sqlite_sessions: sessionmaker[Session],
) -> None:
    accounts = Accounts(sqlite_sessions)
    token = accounts.begin(accounts.add("anna"))
    with sqlite_sessions() as writing, writing.begin():
        writing.add(WebSession(token_hash="x", created_at=NOON, last_seen_at=NOON))
        writing.flush()
        assert accounts.find(token)


def test_a_role_counts_from_the_next_request_on(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    accounts.do(users.set_role, "anna", Role.VIEWER)
    assert accounts.find(token) == Identity("anna", Role.VIEWER)


def test_a_disabled_user_is_out_at_once_and_for_good(accounts: Accounts, anna: Identity) -> None:
    token = accounts.begin(anna)
    accounts.do(users.disable, "anna")
    assert accounts.find(token) is None
    accounts.do(users.enable, "anna")
    assert accounts.find(token) is None


def test_a_user_who_was_disabled_behind_our_back_is_out_too(
    accounts: Accounts, anna: Identity
) -> None:
    token = accounts.begin(anna)
    accounts.do(lambda session: setattr(users.list_users(session)[0], "enabled", False))
    assert accounts.find(token) is None
    assert rows(accounts) == []


def test_another_password_ends_all_sessions_of_its_user_alone(
    accounts: Accounts, anna: Identity
) -> None:
    berta = accounts.add("berta")
    tokens = [accounts.begin(anna), accounts.begin(anna), accounts.begin(berta)]
    accounts.do(users.set_password, "anna", OTHER_PASSWORD)
    assert [accounts.find(token) for token in tokens] == [None, None, berta]


def test_signing_out_ends_one_session_or_all(accounts: Accounts, anna: Identity) -> None:
    tokens = [accounts.begin(anna) for _ in range(3)]
    accounts.do(web_sessions.end, tokens[0])
    accounts.do(web_sessions.end, tokens[0])
    assert [accounts.find(token) for token in tokens] == [None, anna, anna]
    accounts.do(web_sessions.end_all_of, "Anna")
    assert [accounts.find(token) for token in tokens] == [None, None, None]


def test_what_has_expired_is_removed(accounts: Accounts, anna: Identity) -> None:
    accounts.begin(anna, NOON - IDLE)
    accounts.begin(anna, NOON - ABSOLUTE)
    fresh = accounts.begin(anna, NOON - timedelta(minutes=29))
    accounts.do(web_sessions.forget_expired, NOON, idle=IDLE, absolute=ABSOLUTE)
    assert len(rows(accounts)) == 1
    assert accounts.find(fresh) == anna


def test_no_session_begins_for_a_user_who_is_gone(accounts: Accounts, anna: Identity) -> None:
    accounts.do(users.disable, "anna")
    for identity in (anna, Identity("nobody", Role.ADMIN)):
        with pytest.raises(UnknownUser):
            accounts.begin(identity)


def test_many_requests_of_a_session_at_once_are_all_served(
    accounts: Accounts, anna: Identity
) -> None:
    token = accounts.begin(anna)
    assert at_once(*[partial(accounts.find, token, 5)] * 12) == [anna] * 12
    assert rows(accounts)[0].last_seen_at == NOON + timedelta(minutes=5)


def test_a_session_that_ends_while_it_is_used_stays_ended(
    accounts: Accounts, anna: Identity
) -> None:
    for _ in range(5):
        token = accounts.begin(anna)
        at_once(
            partial(accounts.find, token, 5), partial(accounts.do, web_sessions.end, token),
            partial(accounts.find, token, 5),
        )  # fmt: skip
        assert accounts.find(token) is None


def test_who_signs_in_while_being_disabled_has_no_session_afterwards(
    accounts: Accounts, anna: Identity
) -> None:
    for _ in range(5):
        token, _ = at_once(
            partial(accounts.begin, anna), partial(accounts.do, users.disable, "anna")
        )
        accounts.do(users.enable, "anna")
        assert isinstance(token, UnknownUser) or accounts.find(token) is None


# --- forms -----------------------------------------------------------------------------------


def test_a_form_belongs_to_its_session(accounts: Accounts, anna: Identity) -> None:
    one, other = accounts.begin(anna), accounts.begin(anna)
    given = web_sessions.csrf_token(one)
    assert web_sessions.is_csrf_token(one, given)
    assert not web_sessions.is_csrf_token(other, given)
    assert one not in given
    for wrong in ("", one, given[:-1], given + "0", "ü"):
        assert not web_sessions.is_csrf_token(one, wrong)
    assert not web_sessions.is_csrf_token("", web_sessions.csrf_token(""))


# --- the first token -------------------------------------------------------------------------


@pytest.fixture
def first(tmp_path: Path) -> FirstToken:
    return FirstToken(tmp_path / "home")


LOCAL_ADMIN = Identity(LOCAL, Role.ADMIN)


def test_without_an_administrator_a_token_in_a_file_of_ours_alone_lets_in(
    accounts: Accounts, first: FirstToken
) -> None:
    token = accounts.do(first.prepare)
    assert first.path.read_text() == f"{token}\n"
    assert oct(first.path.stat().st_mode)[-3:] == "600"
    assert oct(first.path.parent.stat().st_mode)[-3:] == "700"
    assert accounts.do(first.check, token) == LOCAL_ADMIN
    for wrong in ("", "x", token[:-1], token + "\n", "ü"):
        assert accounts.do(first.check, wrong) is None
    session = accounts.begin(LOCAL_ADMIN)
    assert accounts.find(session) == LOCAL_ADMIN


def test_each_start_makes_another_token(accounts: Accounts, first: FirstToken) -> None:
    old = accounts.do(first.prepare)
    new = accounts.do(first.prepare)
    assert accounts.do(first.check, old) is None
    assert accounts.do(first.check, new) == LOCAL_ADMIN


def test_a_link_at_the_place_of_the_token_is_not_followed(
    accounts: Accounts, first: FirstToken, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    first.path.parent.mkdir(parents=True)
    first.path.symlink_to(victim)
    accounts.do(first.prepare)
    assert victim.read_text() == "precious"
    assert not first.path.is_symlink()


def test_an_empty_or_missing_token_lets_nobody_in(accounts: Accounts, first: FirstToken) -> None:
    assert accounts.do(first.check, "") is None
    accounts.do(first.prepare)
    first.path.write_text("")
    assert accounts.do(first.check, "") is None


def test_the_first_administrator_ends_the_token_and_its_sessions(
    accounts: Accounts, first: FirstToken
) -> None:
    token = accounts.do(first.prepare)
    session = accounts.begin(LOCAL_ADMIN)
    accounts.add("clara", Role.READER)
    assert accounts.find(session) == LOCAL_ADMIN, "nobody else can administrate yet"
    accounts.add("anna", Role.ADMIN)
    assert accounts.find(session) is None
    assert accounts.do(first.check, token) is None
    assert not first.path.exists()
    assert accounts.do(first.prepare) is None
    assert rows(accounts) == []


def test_sessions_of_the_first_token_can_all_be_ended(accounts: Accounts) -> None:
    session = accounts.begin(LOCAL_ADMIN)
    other = accounts.begin(accounts.add("clara", Role.READER))
    accounts.do(web_sessions.end_all_of, LOCAL)
    assert accounts.find(session) is None
    assert accounts.find(other)
