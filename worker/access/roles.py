"""Roles, and who somebody is once they have signed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Who is at the machine itself, before there are users; nobody else may be called so.
LOCAL = "local"


class Role(StrEnum):
    """What a user may do; each may also do what those before it may."""

    VIEWER = "viewer"  # look at studies
    READER = "reader"  # also agree or disagree with findings
    ADMIN = "admin"  # also requeue, users and settings

    def allows(self, needed: Role) -> bool:
        """Tell whether this role is enough where `needed` is asked for."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is.

    Attributes
    ----------
    name : str
        Of the user, as it is in the database; `LOCAL` for whoever has the first token.
    role : Role
        At the time that it was asked for; it may change with the next request.
    """

    name: str
    role: Role
