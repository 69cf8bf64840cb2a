"""The local users: all SQL about them. Each function leaves the commit to its caller.

A password is hashed before the database is first asked, and verified between two transactions: that
takes a tenth of a second, in which SQLite would keep everybody else from writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.access import passwords
from worker.access.admins import is_acting_admin
from worker.access.errors import LastAdmin, NameRefused, UnknownUser, VouchedElsewhere
from worker.access.names import checked, normalised
from worker.access.roles import Identity, Role
from worker.database import READS_ONLY, SessionFactory
from worker.tables import User, WebSession


def are_there(session: Session) -> bool:
    """Tell whether there is any user, enabled or not."""
    return bool(session.scalar(exists().where(User.id.is_not(None)).select()))


def list_users(session: Session) -> Sequence[User]:
    """List all users by name."""
    return session.scalars(select(User).order_by(User.name)).all()


def add(session: Session, name: str, role: Role, password: str, now: datetime) -> User:
    """Add a user with a password.

    Raises
    ------
    NameRefused
        When no user may be called so, or there is one already.
    PasswordRefused
        When the password is too weak.
    """
    name = checked(name)
    passwords.require_good(password, name)
    hashed = passwords.hash_password(password)
    user = User(name=name, role=role, password_hash=hashed, enabled=True, created_at=now)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise NameRefused(f"there is a user {name} already") from None
    return user


def set_password(session: Session, name: str, password: str) -> None:
    """Give a user another password; all their sessions end.

    Raises
    ------
    UnknownUser
        When there is no such user.
    PasswordRefused
        When the password is too weak.
    VouchedElsewhere
        When the user has none, and must not get one.
    """
    passwords.require_good(password, normalised(name))
    hashed = passwords.hash_password(password)
    user = _locked(session, name)
    if user.subject is not None:
        raise VouchedElsewhere(
            f"{user.name} signs in by a provider (OpenID Connect) and has no password here; "
            "cxr-worker user disable keeps them out"
        )
    user.password_hash = hashed
    end_sessions(session, user)


def set_role(session: Session, name: str, role: Role) -> None:
    """Give a user another role; it counts from their next request on.

    Raises
    ------
    UnknownUser, LastAdmin
        When there is no such user, or no administrator would be left.
    VouchedElsewhere
        When their provider says their role, at each sign-in.
    """
    if role is not Role.ADMIN:
        _require_another_admin(session, name)
    user = _locked(session, name)
    if user.subject is not None:
        raise VouchedElsewhere(
            f"{user.name}'s role comes from the provider at each sign-in (CXR_OIDC_ROLES): change "
            "it there; cxr-worker user disable keeps them out at once"
        )
    user.role = role


def disable(session: Session, name: str) -> None:
    """Keep a user out, from their next request on; their name stays taken.

    Raises
    ------
    UnknownUser, LastAdmin
        When there is no such user, or no administrator would be left.
    """
    _require_another_admin(session, name)
    user = _locked(session, name)
    user.enabled = False
    end_sessions(session, user)


def enable(session: Session, name: str) -> None:
    """Let a user in again.

    Raises
    ------
    UnknownUser
        When there is no such user.
    """
    _locked(session, name).enabled = True


def check(sessions: SessionFactory, name: str, password: str, now: datetime) -> Identity | None:
    """Tell who signs in with a name and a password; None when they may not.

    That takes as long for a name that is not known as for a wrong password. A hash of older
    parameters is replaced.

    Parameters
    ----------
    sessions
        Transactions of its own: none is open while the password is verified.
    name, password
        As they were typed.
    now
        Kept as the user's last sign-in.
    """
    with sessions() as session:
        session.connection(execution_options=READS_ONLY)
        found = session.scalar(select(User.password_hash).where(_may_sign_in(name)))
    if not passwords.verify(found, password):
        return None
    assert found is not None  # nothing is verified against no hash
    new = passwords.hash_password(password) if passwords.needs_rehash(found) else found
    with sessions() as session, session.begin():
        # Meanwhile the user may have been disabled or got another password.
        same = select(User).where(_may_sign_in(name), User.password_hash == found)
        user = session.scalar(same.with_for_update())
        if user is None:
            return None
        user.password_hash, user.last_sign_in_at = new, now
        return Identity(user.name, Role(user.role))


def _may_sign_in(name: str) -> ColumnElement[bool]:
    return and_(User.name == normalised(name), User.enabled)


def _locked(session: Session, name: str) -> User:
    """Take a user's row for a change."""
    user = session.scalar(select(User).where(User.name == normalised(name)).with_for_update())
    if user is None:
        raise UnknownUser(f"there is no user {normalised(name)!r}")
    return user


def _require_another_admin(session: Session, name: str) -> None:
    """Refuse to lose the last administrator; the rows are taken, so that two cannot go at once."""
    acting = select(User.name).where(is_acting_admin()).order_by(User.id).with_for_update()
    if list(session.scalars(acting)) == [normalised(name)]:
        raise LastAdmin(f"{normalised(name)} is the only administrator who can sign in")


def end_sessions(session: Session, user: User) -> None:
    """End all sessions of a user."""
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))
