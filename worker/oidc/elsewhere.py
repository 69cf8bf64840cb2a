"""Lets the provider say who somebody is and what they may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from limits import RateLimitItemPerMinute

from worker.access.attempts import ADDRESS, Attempts
from worker.access.vouched import Vouched
from worker.clock import local_time
from worker.oidc.errors import ProviderAway
from worker.oidc.fetching import Fetching
from worker.oidc.paths import BACK
from worker.oidc.provider import Client, Provider
from worker.oidc.role_rules import RoleRules
from worker.oidc.secret import read_secret
from worker.oidc.transaction import Transaction
from worker.settings import Settings
from worker.settings_paths import whole

_FROM_ALL: Final = RateLimitItemPerMinute(1000)
# By which claim somebody is called, the first that is there.
_NAMES: Final = ("preferred_username", "upn", "name", "email")


class Elsewhere:
    """Signing in by a provider.

    Parameters
    ----------
    name
        How it is called on the sign-in page.
    origin
        Where browsers reach our pages, without a slash at the end.
    provider
        Is asked.
    rules
        Who may what.
    clock
        Gives the time that sign-ins are held against.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        provider: Provider,
        rules: RoleRules,
        clock: Callable[[], datetime] = local_time,
    ) -> None:
        self.name, self.origin = name, origin
        self._provider, self._rules, self._clock = provider, rules, clock
        # Of those who come back from a sign-in that they began, and of all others.
        self.attempts = Attempts(ADDRESS, ADDRESS, _FROM_ALL)
        self.strays = Attempts(ADDRESS, ADDRESS, _FROM_ALL)

    @classmethod
    def of(cls, settings: Settings) -> Elsewhere | None:
        """Make it as the settings ask; None when nobody signs in elsewhere.

        Raises
        ------
        ConfigurationError
            When the secret or the certificates cannot be read.
        """
        if settings.oidc_issuer is None:
            return None
        assert settings.oidc_roles is not None  # the settings ask for it
        origin = settings.web_origin
        return cls(settings.oidc_name, origin, provider_of(settings), settings.oidc_roles)

    @property
    def issuer(self) -> str:
        """Who vouches."""
        return self._provider.client.issuer

    def begin(self, to: str) -> tuple[Transaction, str]:
        """Begin a sign-in; give also the address at the provider to which the browser goes.

        Raises
        ------
        ProviderAway
            When it is not known.
        """
        transaction = Transaction.begin(to, self._clock())
        return transaction, self._provider.address(transaction)

    def read(self, cookie: str) -> Transaction | None:
        """Give the sign-in that a browser began; None when it began none, or too long ago."""
        return Transaction.read(cookie, self._clock())

    def finish(self, transaction: Transaction, code: str, issuer: str | None) -> Vouched:
        """Learn who came back.

        Raises
        ------
        NotVouched, ProviderAway
            When nobody is proven.
        """
        claims = self._provider.redeem(transaction, code, issuer, self._rules.is_told)
        # No space is in an issuer, so no two pairs give the same subject.
        subject = f"{self.issuer} {claims['sub']}"
        return Vouched(subject, _name_in(claims), self._rules.role_of(claims))

    def farewell(self) -> str | None:
        """Give the address at which a session with the provider ends too; None if there is none."""
        try:
            return self._provider.farewell(f"{self.origin}/sign-in")
        except ProviderAway:
            return None

    def close(self) -> None:
        """Hang up."""
        self._provider.close()


def provider_of(settings: Settings) -> Provider:
    """Make the provider of the settings.

    Raises
    ------
    ConfigurationError
        When the secret or the certificates cannot be read.
    """
    issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
    assert issuer is not None
    assert client_id is not None  # the settings ask for it
    back, scopes = settings.web_origin + BACK, settings.oidc_scopes
    client = Client(issuer, client_id, read_secret(settings), back, scopes)
    authority = settings.oidc_authority and whole(settings.oidc_authority)
    return Provider(client, Fetching(issuer, authority))


def _name_in(claims: Mapping[str, Any]) -> str:
    named = (claims.get(each) for each in _NAMES)
    return next((each for each in named if isinstance(each, str) and each.strip()), "")
