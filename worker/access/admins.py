"""Whether anybody can administrate: until then, who is at the machine may."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists
from sqlalchemy.orm import Session

from worker.access.roles import Role
from worker.tables import User


def is_acting_admin() -> ColumnElement[bool]:
    """Give the term for a user that can sign in and administrate."""
    return and_(User.role == Role.ADMIN, User.enabled)


def has_admin(session: Session) -> bool:
    """Tell whether there is an enabled administrator."""
    return bool(session.scalar(exists().where(is_acting_admin()).select()))
