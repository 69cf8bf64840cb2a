"""Users whom a provider vouches for: all SQL about their sign-in.

They are known by what the provider calls them, for ever the same (`users.subject`), never by a
name or an e-mail address, which somebody else may get. Their role is the provider's word at each
sign-in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.access.errors import NameRefused
from worker.access.names import LONGEST, checked, is_mark_of_name, normalised
from worker.access.roles import Identity, Role
from worker.access.users import end_sessions
from worker.tables import ApiToken, User

_LONGEST_WISH = LONGEST - 17  # a hyphen and 16 digits may follow


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a provider says of somebody.

    Attributes
    ----------
    subject : str
        Issuer and subject, with a space between them.
    name : str
        How they are called there.
    role : Role or None
        What they may do; None when they may not come in.
    """

    subject: str
    name: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of somebody who came from the provider.

    Attributes
    ----------
    name : str
        Of the user; where there is none, as the provider calls them.
    identity : Identity or None
        Who may come in.
    refusal : str
        Why they may not, for themselves.
    added, role_before
        What was changed about the user: new, or of another role until now.
    """

    name: str
    identity: Identity | None = None
    refusal: str = ""
    added: bool = False
    role_before: Role | None = None


def arrive(session: Session, vouched: Vouched, now: datetime) -> Arrival:
    """Take in somebody whom the provider vouches for; the commit is left to the caller."""
    user = _find(session, vouched)
    if vouched.role is None:
        if user is not None:
            _shut_out(session, user, now)
        name = vouched.name[:LONGEST] if user is None else user.name
        return Arrival(name, refusal="Your account has none of the roles that may come in here.")
    added = user is None
    user = user or _add(session, vouched, vouched.role, now)
    if not user.enabled:
        return Arrival(user.name, refusal="Your account is disabled here.")
    before, user.role = Role(user.role), vouched.role
    user.last_sign_in_at = now
    identity = Identity(user.name, vouched.role)
    return Arrival(
        user.name, identity, added=added, role_before=None if before is vouched.role else before
    )


def is_vouched_for(session: Session, name: str) -> bool:
    """Tell whether a user signs in by a provider."""
    return session.scalar(select(User.subject).where(User.name == name)) is not None


def _find(session: Session, vouched: Vouched) -> User | None:
    found = select(User).where(User.subject == vouched.subject)
    return session.scalar(found.with_for_update().execution_options(populate_existing=True))


def _shut_out(session: Session, user: User, now: datetime) -> None:
    """End what still works for a user who has no role any more: sessions, tokens of programs."""
    end_sessions(session, user)
    theirs = update(ApiToken).where(ApiToken.user_id == user.id, ApiToken.expires_at > now)
    session.execute(theirs.values(expires_at=now))


def _add(session: Session, vouched: Vouched, role: Role, now: datetime) -> User:
    """Add a user under a name that nobody has; who has it stays who they are."""
    for name in _names(vouched):
        user = User(name=name, role=role, subject=vouched.subject, enabled=True, created_at=now)
        try:
            with session.begin_nested():
                session.add(user)
        except IntegrityError:  # the name is taken, or the same person came in twice just now
            found = _find(session, vouched)
            if found is not None:
                return found
        else:
            return user
    raise NameRefused("no name is left for a new user")


def _names(vouched: Vouched) -> Iterator[str]:
    """Give names for a new user, the one they have at the provider first."""
    digest = hashlib.sha256(vouched.subject.encode()).hexdigest()
    spelled = "".join(c if is_mark_of_name(c) else "-" for c in normalised(vouched.name))
    wish = spelled.lstrip("._-@+")[:_LONGEST_WISH] or "user"
    for name in (wish, f"{wish}-{digest[:6]}", f"{wish}-{digest[:16]}"):
        try:
            yield checked(name)
        except NameRefused:  # `local`, or what becomes something else when it is spelled once more
            continue
    yield f"user-{digest[:24]}"
