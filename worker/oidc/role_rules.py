"""Which role somebody has by what the provider says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.access.roles import Role


@dataclass(frozen=True, slots=True)
class RoleRules:
    """Turns the values of a claim into a role.

    Attributes
    ----------
    claim : str
        Its name; where there is none of this name, its dots lead into objects, as Keycloak's
        ``realm_access.roles`` does.
    roles : tuple of (str, Role)
        The role for each value.
    """

    claim: str
    roles: tuple[tuple[str, Role], ...]

    @classmethod
    def parse(cls, value: object) -> object:
        """Read ``groups:radiology=reader,it=admin``; what is no text is passed on."""
        if not isinstance(value, str):
            return value
        # A claim's name may be a URL, which has a colon too.
        claim, colon, _ = value.partition("=")[0].rpartition(":")
        parts = [each.strip() for each in value[len(claim) + 1 :].split(",") if each.strip()]
        if not (colon and claim.strip() and parts):
            raise ValueError("must be a claim and its values, such as groups:radiology=reader")
        return cls(claim.strip(), tuple(_rule(each) for each in parts))

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """Give the highest role that the claims give; None when they give none."""
        held = {each for each in self._values(claims) if isinstance(each, str)}
        given = {role for value, role in self.roles if value in held}
        return next((role for role in reversed(Role) if role in given), None)

    def is_told(self, claims: Mapping[str, Any]) -> bool:
        """Tell whether the claim is there at all."""
        return self._found(claims) is not None

    def _values(self, claims: Mapping[str, Any]) -> list[Any]:
        found = self._found(claims)
        return found if isinstance(found, list) else [found]

    def _found(self, claims: Mapping[str, Any]) -> Any:
        if self.claim in claims:
            return claims[self.claim]
        found: Any = claims
        for name in self.claim.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def __str__(self) -> str:
        return f"{self.claim}:{','.join(f'{value}={role}' for value, role in self.roles)}"


def _rule(text: str) -> tuple[str, Role]:
    value, equals, role = (each.strip() for each in text.rpartition("="))
    known = ", ".join(Role)
    if not (equals and value):
        raise ValueError(f"{text!r} gives no role to a value; write value=role")
    if role.lower() not in list(Role):
        raise ValueError(f"{role!r} is no role; there are {known}")
    return value, Role(role.lower())
