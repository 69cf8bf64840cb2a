"""Users whom a provider vouches for, on SQLite and PostgreSQL: who they are, and their names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.accounts import PASSWORD, Accounts, at_once
from tests.fakes import NOON
from worker.access import users
from worker.access.errors import NameRefused, VouchedElsewhere
from worker.access.roles import Identity, Role
from worker.access.vouched import Arrival, Vouched, arrive, is_vouched_for

ANNA = Vouched("https://sso.example.org 0a1b", "Anna", Role.READER)


@pytest.fixture
def accounts(sessions: sessionmaker[Session]) -> Accounts:
    return Accounts(sessions)


def come(accounts: Accounts, who: Vouched) -> Arrival:
    arrival: Arrival = accounts.do(arrive, who, NOON)
    return arrival


def names(accounts: Accounts) -> list[str]:
    with accounts.sessions() as session:
        return [each.name for each in users.list_users(session)]


def test_somebody_new_is_added_and_known_again(accounts: Accounts) -> None:
    anna = Identity("anna", Role.READER)
    assert come(accounts, ANNA) == Arrival("anna", anna, added=True)
    assert come(accounts, ANNA) == Arrival("anna", anna)
    assert accounts.do(is_vouched_for, "anna")
    assert accounts.find(accounts.begin(anna)) == anna


def test_who_somebody_is_goes_by_issuer_and_subject(accounts: Accounts) -> None:
    come(accounts, ANNA)
    others = ["https://sso.example.org 0A1B", "https://sso.example.com 0a1b"]
    found = {come(accounts, replace(ANNA, subject=each)).name for each in others}
    assert len(found) == 2
    assert all(each.startswith("anna-") for each in found)


def test_the_name_of_a_local_user_is_not_given_again(accounts: Accounts) -> None:
    accounts.add("anna", Role.ADMIN)
    arrival = come(accounts, ANNA)
    assert arrival.name.startswith("anna-")
    assert not accounts.do(is_vouched_for, "anna")
    assert accounts.check("anna") == Identity("anna", Role.ADMIN)


def test_a_local_user_does_not_get_the_name_of_another(accounts: Accounts) -> None:
    come(accounts, ANNA)
    with pytest.raises(NameRefused):
        accounts.add("Anna")


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("Anna Müller", "anna-müller"), ("anna@example.org", "anna@example.org"), ("", "user"),
        ("LOCAL", "local-"), ("  ", "user"), ("--\u202e", "user"), ("\u0000<b>", "b-"),
        ("x" * 300, "x" * 47), ("ﬀ" * 300, "f" * 47), ("ŉ", "\u02bcn"),
    ],
)  # fmt: skip
def test_whatever_somebody_is_called_they_get_a_name(
    accounts: Accounts, called: str, name: str
) -> None:
    arrival = come(accounts, replace(ANNA, name=called))
    assert arrival.name.startswith(name)
    assert len(arrival.name) <= 64
    assert names(accounts) == [arrival.name]


def test_many_of_one_name_all_get_one(accounts: Accounts) -> None:
    found = {come(accounts, replace(ANNA, subject=f"i {n}")).name for n in range(20)}
    assert len(found) == 20


def test_the_same_one_who_comes_twice_at_once_is_one_user(accounts: Accounts) -> None:
    arrivals = at_once(*[partial(come, accounts, ANNA)] * 4)
    assert {each.identity for each in arrivals} == {Identity("anna", Role.READER)}
    assert names(accounts) == ["anna"]


def test_two_of_one_name_who_come_at_once_are_two_users(accounts: Accounts) -> None:
    works = [partial(come, accounts, replace(ANNA, subject=f"i {n}")) for n in range(4)]
    arrivals = at_once(*works)
    assert len({each.name for each in arrivals}) == 4
    assert len(names(accounts)) == 4


def test_neither_password_nor_role_is_given_here(accounts: Accounts) -> None:
    come(accounts, ANNA)
    with pytest.raises(VouchedElsewhere, match="no password here"):
        accounts.do(users.set_password, "anna", PASSWORD)
    with pytest.raises(VouchedElsewhere, match="CXR_OIDC_ROLES"):
        accounts.do(users.set_role, "anna", Role.ADMIN)
    assert accounts.check("anna") is None
    assert come(accounts, ANNA).identity == Identity("anna", Role.READER)


def test_a_disabled_user_may_come_again_when_enabled(accounts: Accounts) -> None:
    come(accounts, ANNA)
    accounts.do(users.disable, "anna")
    refused = come(accounts, replace(ANNA, role=Role.ADMIN))
    assert (refused.identity, refused.refusal) == (None, "Your account is disabled here.")
    accounts.do(users.enable, "anna")
    assert come(accounts, ANNA).identity == Identity("anna", Role.READER)


def test_nobody_is_added_without_a_role(accounts: Accounts) -> None:
    assert come(accounts, replace(ANNA, role=None)).identity is None
    assert names(accounts) == []
