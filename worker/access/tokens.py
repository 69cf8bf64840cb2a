"""Tokens of programs: made once for a user and a purpose; the database has their hash alone.

What a token allows is what its user may do when it is used: a change of role, and a user who is
disabled, count at once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from worker.access.errors import LabelRefused, UnknownToken, UnknownUser
from worker.access.names import normalised
from worker.access.roles import Identity, Role
from worker.database import READS_ONLY, SessionFactory
from worker.tables import ApiToken, User

# By it a token is found where it should not be: in a repository, a log, a mail.
PREFIX: Final = "cxr_"
LONGEST_LABEL: Final = 64
# How often it is written down that a token is in use.
USED_EVERY: Final = timedelta(minutes=1)

_SHAPE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
_MOST_IDS = 1 << 63


def add(session: Session, name: str, label: str, now: datetime, lasts: timedelta) -> str:
    """Make a token of a user.

    Returns
    -------
    str
        The token, of 256 random bits; it is kept nowhere else.

    Raises
    ------
    UnknownUser
        When there is no such user, or they are disabled.
    LabelRefused
        When the label is empty, too long, or not to be printed.
    """
    label = label.strip()
    if not 0 < len(label) <= LONGEST_LABEL or not label.isprintable():
        raise LabelRefused(f"a label has 1 to {LONGEST_LABEL} characters on one line")
    known = select(User.id).where(User.name == normalised(name), User.enabled)
    user_id = session.scalar(known.with_for_update())
    if user_id is None:
        raise UnknownUser(f"there is no user {normalised(name)!r} who may sign in")
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(
        ApiToken(
            token_hash=_hash(token), user_id=user_id, label=label, created_at=now,
            expires_at=now + lasts,
        )
    )  # fmt: skip
    return token


def list_tokens(session: Session) -> Sequence[tuple[ApiToken, str]]:
    """List all tokens with the names of their users, the oldest first."""
    listed = select(ApiToken, User.name).join(User, User.id == ApiToken.user_id)
    return [(token, name) for token, name in session.execute(listed.order_by(ApiToken.id))]


def revoke(session: Session, number: int) -> tuple[str, str]:
    """End a token; give the name of its user, and its label.

    Raises
    ------
    UnknownToken
        When there is none of this number.
    """
    found = session.get(ApiToken, number, with_for_update=True) if 0 < number < _MOST_IDS else None
    if found is None:
        raise UnknownToken(f"there is no token {number}; cxr-worker token list shows them")
    name = session.scalars(select(User.name).where(User.id == found.user_id)).one()
    session.delete(found)
    return name, found.label


def find(sessions: SessionFactory, token: str, now: datetime) -> Identity | None:
    """Tell whose a token is, and remember that it is in use; None when it is not taken.

    Parameters
    ----------
    sessions
        Transactions of its own: most of the time it only reads, and then holds up no writer.
    token
        As it was given; what does not look like one is not looked for.
    now
        The time.
    """
    if not _SHAPE.fullmatch(token):
        return None
    hashed = _hash(token)
    with sessions() as session:
        session.connection(execution_options=READS_ONLY)
        row = session.execute(_WITH_USER.where(ApiToken.token_hash == hashed)).one_or_none()
    if row is None or not row.enabled or now >= row.expires_at:
        return None
    if row.last_used_at is None or now - row.last_used_at >= USED_EVERY:
        _save_used(sessions, hashed, now)
    return Identity(row.name, Role(row.role))


_WITH_USER = select(
    ApiToken.last_used_at, ApiToken.expires_at, User.name, User.role, User.enabled
).join(User, User.id == ApiToken.user_id)


def _save_used(sessions: SessionFactory, hashed: str, now: datetime) -> None:
    used = update(ApiToken).where(ApiToken.token_hash == hashed)
    with sessions() as session, session.begin():
        session.execute(used.values(last_used_at=now))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
