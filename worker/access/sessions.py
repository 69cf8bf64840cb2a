"""Sessions of the web pages: a random token in the browser, its hash in the database.

Whoever reads the database can use none. What a user may do is read from the user's row each time,
so that a change of role, and a user who is disabled, count at once. A session without a user is
that of whoever is at the machine before there is an administrator; it ends when there is one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from worker.access.admins import has_admin
from worker.access.errors import UnknownUser
from worker.access.names import normalised
from worker.access.roles import LOCAL, Identity, Role
from worker.database import READS_ONLY, SessionFactory
from worker.tables import User, WebSession

# How often it is written down that a session is in use.
SEEN_EVERY = timedelta(minutes=1)


def begin(session: Session, identity: Identity, now: datetime) -> str:
    """Begin a session of somebody who has signed in.

    Returns
    -------
    str
        The token for the browser; it is kept nowhere else.

    Raises
    ------
    UnknownUser
        When there is no such user any more.
    """
    token = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            token_hash=_hash(token), user_id=_user_id(session, identity),
            created_at=now, last_seen_at=now,
        )
    )  # fmt: skip
    return token


def find(
    sessions: SessionFactory,
    token: str,
    now: datetime,
    *,
    idle: timedelta,
    absolute: timedelta,
    is_used: bool = True,
) -> Identity | None:
    """Tell whose session a token is of, and remember that it is in use; None when it is of none.

    Parameters
    ----------
    sessions
        Transactions of its own: most of the time it only reads, and then holds up no writer.
    token
        As the browser gave it.
    now
        The time.
    idle, absolute
        How long a session lasts without being used, and at most.
    is_used
        Whether somebody asks, and not a page by itself.
    """
    hashed = _hash(token)
    with sessions() as session:
        session.connection(execution_options=READS_ONLY)
        row = session.execute(_WITH_USER.where(WebSession.token_hash == hashed)).one_or_none()
        if row is None:
            return None
        identity = _identity(session, row)
    if identity is None or now - row.last_seen_at >= idle or now - row.created_at >= absolute:
        with sessions() as session, session.begin():
            session.execute(delete(WebSession).where(WebSession.token_hash == hashed))
        return None
    if is_used and now - row.last_seen_at >= min(SEEN_EVERY, idle / 4):
        _save_seen(sessions, hashed, now)
    return identity


def end(session: Session, token: str) -> None:
    """End a session, if there is one."""
    session.execute(delete(WebSession).where(WebSession.token_hash == _hash(token)))


def end_all_of(session: Session, name: str) -> None:
    """End all sessions of a user; of `LOCAL`, all without a user."""
    if name == LOCAL:
        session.execute(delete(WebSession).where(WebSession.user_id.is_(None)))
        return
    users = select(User.id).where(User.name == normalised(name)).scalar_subquery()
    session.execute(delete(WebSession).where(WebSession.user_id == users))


def forget_expired(
    session: Session, now: datetime, *, idle: timedelta, absolute: timedelta
) -> None:
    """Remove the sessions that nobody can use any more, say at each sign-in."""
    old = or_(WebSession.last_seen_at <= now - idle, WebSession.created_at <= now - absolute)
    session.execute(delete(WebSession).where(old))


def csrf_token(token: str) -> str:
    """Give what each form of a session holds, so that no other site can send one in its name."""
    return hmac.new(token.encode(), b"cxr-worker form", hashlib.sha256).hexdigest()


def is_csrf_token(token: str, given: str) -> bool:
    """Tell whether a form came from a page of this session; without a session, none did."""
    same = hmac.compare_digest(csrf_token(token).encode(), given.encode())
    return bool(token) and same


_WITH_USER = (
    select(
        WebSession.user_id, WebSession.created_at, WebSession.last_seen_at,
        User.name, User.role, User.enabled,
    ).outerjoin(User, User.id == WebSession.user_id)
)  # fmt: skip


def _identity(session: Session, row: Any) -> Identity | None:
    """Tell who has a session now; None when they may not use it any more."""
    if row.user_id is None:
        return None if has_admin(session) else Identity(LOCAL, Role.ADMIN)
    return Identity(row.name, Role(row.role)) if row.enabled else None


def _user_id(session: Session, identity: Identity) -> int | None:
    if identity.name == LOCAL:
        return None
    # Taken, so that a session begins before its user is disabled, and ends then, or not at all.
    known = select(User.id).where(User.name == identity.name, User.enabled)
    found = session.scalar(known.with_for_update())
    if found is None:
        raise UnknownUser(f"there is no user {identity.name!r} who may sign in")
    return found


def _save_seen(sessions: SessionFactory, hashed: str, now: datetime) -> None:
    seen = update(WebSession).where(WebSession.token_hash == hashed, WebSession.last_seen_at < now)
    with sessions() as session, session.begin():
        session.execute(seen.values(last_seen_at=now))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
