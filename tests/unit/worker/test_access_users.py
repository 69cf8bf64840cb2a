"""Local users on SQLite and PostgreSQL: who may sign in, and who looks after them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from tests.accounts import OTHER_PASSWORD, PASSWORD, Accounts, at_once
from tests.fakes import NOON
from worker.access import admins, passwords, users
from worker.access.errors import LastAdmin, NameRefused, PasswordRefused, UnknownUser
from worker.access.names import checked
from worker.access.roles import Identity, Role
from worker.tables import User


@pytest.fixture
def accounts(sessions: sessionmaker[Session]) -> Accounts:
    return Accounts(sessions)


def row(accounts: Accounts, name: str) -> User:
    with accounts.sessions() as session:
        return session.scalars(select(User).where(User.name == name)).one()


# --- roles and names -------------------------------------------------------------------------


def test_a_role_may_do_what_those_below_it_may() -> None:
    allowed = [(mine, needed) for mine in Role for needed in Role if mine.allows(needed)]
    assert allowed == [
        (Role.VIEWER, Role.VIEWER),
        (Role.READER, Role.VIEWER), (Role.READER, Role.READER),
        (Role.ADMIN, Role.VIEWER), (Role.ADMIN, Role.READER), (Role.ADMIN, Role.ADMIN),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Anna ", "anna"), ("ANNA", "anna"), ("\uff21\uff4ena", "anna"), ("Straße", "strasse"),
        ("Jose\u0301", "josé"), ("a.b-c_d+e@example.org", "a.b-c_d+e@example.org"), ("7", "7"),
    ],
)  # fmt: skip
def test_a_name_has_one_spelling(typed: str, kept: str) -> None:
    assert checked(typed) == kept
    assert checked(kept) == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "a b",
        "a\tb",
        "a\u200bb",
        "<b>",
        "a/b",
        "a'b",
        "-a",
        ".a",
        "a" * 65,
        "local",
        "LOCAL",
    ],
)
def test_a_name_that_is_hard_to_tell_apart_is_refused(name: str) -> None:
    with pytest.raises(NameRefused):
        checked(name)


# --- signing in ------------------------------------------------------------------------------


def test_who_knows_the_password_signs_in_however_the_name_is_spelled(accounts: Accounts) -> None:
    accounts.add("Anna", Role.ADMIN)
    assert accounts.check("ANNA ") == Identity("anna", Role.ADMIN)
    assert accounts.check("anna", PASSWORD + "x") is None
    assert accounts.check("anna", "") is None
    assert accounts.check("berta") is None


def test_a_password_is_the_same_however_its_letters_are_composed(accounts: Accounts) -> None:
    accounts.add("anna", password="über den wölken")
    assert accounts.check("anna", "u\u0308ber den wo\u0308lken")


def test_only_a_hash_of_the_password_is_kept(accounts: Accounts) -> None:
    accounts.add("anna")
    accounts.add("berta")
    kept = [row(accounts, name).password_hash or "" for name in ("anna", "berta")]
    assert all(each.startswith("$argon2id$v=19$m=65536,t=3,p=4$") for each in kept)
    assert kept[0] != kept[1], "each has a salt of its own"


def test_the_last_sign_in_is_remembered(accounts: Accounts) -> None:
    accounts.add("anna")
    assert row(accounts, "anna").last_sign_in_at is None
    later = NOON + timedelta(hours=1)
    accounts.check("anna", "wrong", later)
    assert row(accounts, "anna").last_sign_in_at is None
    accounts.check("anna", now=later)
    assert row(accounts, "anna").last_sign_in_at == later


def test_a_user_without_a_password_cannot_sign_in_with_any(accounts: Accounts) -> None:
    outside = User(
        name="outside", role="viewer", subject="https://id.example.org 17", enabled=True,
        created_at=NOON,
    )  # fmt: skip
    accounts.do(lambda session: session.add(outside))
    assert accounts.check("outside", "") is None
    assert accounts.check("outside") is None


def test_two_users_are_never_the_same_to_whoever_vouches_for_them(accounts: Accounts) -> None:
    def add(name: str) -> None:
        values = {"role": "viewer", "enabled": True, "created_at": NOON, "subject": "issuer 17"}
        accounts.do(lambda session: session.add(User(name=name, **values)))

    add("one")
    with pytest.raises(IntegrityError):
        add("other")


def test_a_name_nobody_has_takes_as_long_as_a_wrong_password(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(PasswordHasher):
        hashes: list[str]

        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            self.hashes.append(str(hash))
            return super().verify(hash, password)  # type: ignore[return-value]

    accounts.add("anna")
    counting = Counting()
    counting.hashes = []
    monkeypatch.setattr(passwords, "_hasher", counting)
    for name in ("anna", "berta", "not a name", ""):
        assert accounts.check(name, "wrong") is None
    assert len(counting.hashes) == 4
    parameters = {each.rsplit("$", 2)[0] for each in counting.hashes}
    assert parameters == {"$argon2id$v=19$m=65536,t=3,p=4"}


def test_a_hash_of_older_parameters_is_replaced_at_the_next_sign_in(accounts: Accounts) -> None:
    accounts.add("anna")
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)

    def weaken(session: Session) -> None:
        session.scalars(select(User)).one().password_hash = old

    accounts.do(weaken)
    assert accounts.check("anna", "wrong") is None
    assert row(accounts, "anna").password_hash == old
    assert accounts.check("anna")
    new = row(accounts, "anna").password_hash
    assert new is not None
    assert not passwords.needs_rehash(new)
    assert accounts.check("anna")


def test_a_hash_that_is_none_lets_nobody_in(accounts: Accounts) -> None:
    accounts.add("anna")

    def break_it(session: Session) -> None:
        session.scalars(select(User)).one().password_hash = PASSWORD

    accounts.do(break_it)
    assert accounts.check("anna") is None


def test_nobody_is_kept_from_writing_while_a_password_is_verified(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.add("anna")
    verify = passwords.verify

    def meanwhile(stored: str | None, password: str) -> bool:
        accounts.do(users.disable, "anna")
        return verify(stored, password)

    monkeypatch.setattr(passwords, "verify", meanwhile)
    assert accounts.check("anna") is None, "who was disabled meanwhile does not get in"


# --- looking after users ---------------------------------------------------------------------


def test_a_name_is_taken_whatever_its_spelling(accounts: Accounts) -> None:
    accounts.add("anna")
    with pytest.raises(NameRefused, match="there is a user anna already"):
        accounts.add("ANNA")
    assert [each.name for each in accounts.do(users.list_users)] == ["anna"]


def test_of_two_who_add_the_same_name_at_once_one_is_told(accounts: Accounts) -> None:
    told = at_once(partial(accounts.add, "anna"), partial(accounts.add, "Anna"))
    assert sorted(type(each).__name__ for each in told) == ["Identity", "NameRefused"]


def test_a_weak_password_is_refused_and_nothing_is_changed(accounts: Accounts) -> None:
    with pytest.raises(PasswordRefused):
        accounts.add("anna", password="short")
    assert not accounts.do(users.are_there)
    accounts.add("anna")
    with pytest.raises(PasswordRefused):
        accounts.do(users.set_password, "anna", "annaannaannaanna")
    assert accounts.check("anna")


def test_a_new_password_takes_the_place_of_the_old_one(accounts: Accounts) -> None:
    accounts.add("anna")
    accounts.do(users.set_password, "Anna", OTHER_PASSWORD)
    assert accounts.check("anna") is None
    assert accounts.check("anna", OTHER_PASSWORD)


def test_a_disabled_user_stays_out_until_enabled(accounts: Accounts) -> None:
    accounts.add("anna")
    accounts.do(users.disable, "anna")
    assert accounts.check("anna") is None
    with pytest.raises(NameRefused):
        accounts.add("anna")
    accounts.do(users.enable, "anna")
    assert accounts.check("anna")


@pytest.mark.parametrize(
    "change",
    [
        lambda session: users.set_password(session, "nobody", PASSWORD),
        lambda session: users.set_role(session, "nobody", Role.ADMIN),
        lambda session: users.set_role(session, "nobody", Role.VIEWER),
        lambda session: users.disable(session, "nobody"),
        lambda session: users.enable(session, "nobody"),
    ],
)
def test_a_user_who_is_not_there_is_told(accounts: Accounts, change: object) -> None:
    with pytest.raises(UnknownUser, match="there is no user 'nobody'"):
        accounts.do(change)  # type: ignore[arg-type]


def test_the_last_administrator_stays(accounts: Accounts) -> None:
    accounts.add("anna", Role.ADMIN)
    accounts.add("berta", Role.ADMIN)
    accounts.add("clara", Role.READER)
    accounts.do(users.disable, "berta")
    for change in (
        partial(users.disable, name="ANNA"),
        partial(users.set_role, name="anna", role=Role.READER),
    ):
        with pytest.raises(LastAdmin, match="anna is the only administrator"):
            accounts.do(change)
    assert accounts.check("anna") == Identity("anna", Role.ADMIN)
    accounts.do(users.set_role, "anna", Role.ADMIN)
    accounts.do(users.disable, "clara")


def test_of_two_administrators_who_demote_each_other_at_once_one_stays(
    accounts: Accounts,
) -> None:
    accounts.add("anna", Role.ADMIN)
    accounts.add("berta", Role.ADMIN)
    told = at_once(
        partial(accounts.do, users.set_role, "anna", Role.VIEWER),
        partial(accounts.do, users.disable, "berta"),
    )
    assert sorted(type(each).__name__ for each in told) == ["LastAdmin", "NoneType"]
    assert accounts.do(admins.has_admin)


def test_there_is_an_administrator_once_one_can_sign_in(accounts: Accounts) -> None:
    assert not accounts.do(users.are_there)
    accounts.add("anna", Role.READER)
    assert accounts.do(users.are_there)
    assert not accounts.do(admins.has_admin)
    accounts.do(users.set_role, "anna", Role.ADMIN)
    assert accounts.do(admins.has_admin)
