"""The provider: what it says of itself and its keys, kept for a while, and what it is asked.

What signs, proves and is compared comes from authlib and joserfc; the asking is ours, so that it
has limits of time and size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote_plus

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oidc.discovery import get_well_known_url
from joserfc.jwk import Key

from worker.clock import local_time
from worker.oidc.discovery import Metadata
from worker.oidc.errors import NotVouched, ProviderAway, ProviderBusy
from worker.oidc.fetching import Fetching
from worker.oidc.id_tokens import Expected, UnknownKey, read_keys, verified
from worker.oidc.transaction import Transaction

# How long what was fetched is used, and how long the provider is let be after it did not answer.
_FRESH_S: Final = 3600.0
_REST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Client:
    """What we are to the provider.

    Attributes
    ----------
    secret
        None for a public client, which has PKCE alone.
    redirect_uri
        Where it sends browsers back: from the settings, never from what a browser says.
    """

    issuer: str
    client_id: str
    secret: str | None
    redirect_uri: str
    scopes: str


@dataclass(frozen=True, slots=True)
class _Known:
    metadata: Metadata
    keys: Sequence[Key]
    at: float


class Provider:
    """One provider; safe to share between threads, of which some may fetch the same twice.

    Parameters
    ----------
    client
        What we are to it.
    fetching
        Asks it.
    clock
        Gives the time that tokens are held against.
    steady
        Seconds that only ever grow.
    """

    def __init__(
        self,
        client: Client,
        fetching: Fetching,
        clock: Callable[[], datetime] = local_time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._fetching = fetching
        self._clock = clock
        self._steady = steady
        self._known: _Known | None = None
        self._failed: tuple[float, str] | None = None

    def metadata(self) -> Metadata:
        """Give what the provider says of itself.

        Raises
        ------
        ProviderAway
            When it cannot be asked, or its answer cannot be used.
        """
        return self._current().metadata

    def address(self, transaction: Transaction) -> str:
        """Give the address at the provider to which a browser goes for a sign-in.

        Raises
        ------
        ProviderAway
            When it is not known.
        """
        client = self.client
        found: str = prepare_grant_uri(
            self.metadata().authorization, client.client_id, "code",
            redirect_uri=client.redirect_uri, scope=client.scopes, state=transaction.state,
            nonce=transaction.nonce, code_challenge=transaction.challenge,
            code_challenge_method="S256",
        )  # fmt: skip
        return found

    def farewell(self, to: str) -> str | None:
        """Give the address at which somebody ends their session with the provider as well.

        References
        ----------
        OpenID Connect RP-Initiated Logout 1.0, 2; without a hint, the provider asks first
        """
        end_session = self.metadata().end_session
        if end_session is None:
            return None
        params = [("client_id", self.client.client_id), ("post_logout_redirect_uri", to)]
        return str(add_params_to_uri(end_session, params))

    def redeem(
        self,
        transaction: Transaction,
        code: str,
        issuer: str | None,
        is_enough: Callable[[Mapping[str, Any]], bool] = bool,
    ) -> dict[str, Any]:
        """Give what the provider says of whoever came back with a code.

        Parameters
        ----------
        transaction
            The sign-in that the same browser began.
        code
            As it came back.
        issuer
            Who sent the browser back, as it says itself.
        is_enough
            Whether the token tells all that is asked; else its userinfo endpoint is asked too.

        Raises
        ------
        NotVouched, ProviderAway
            When nobody is proven.
        """
        metadata = self.metadata()
        if issuer != self.client.issuer and (issuer is not None or metadata.sends_issuer):
            raise NotVouched("another provider sent the browser back (iss)")
        answer = self._exchange(metadata, transaction, code)
        token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str):
            raise NotVouched("the provider gave no ID token; have it give the scope openid")
        expected = Expected(
            self.client.issuer, self.client.client_id, transaction.nonce,
            access_token if isinstance(access_token, str) else None, self._clock(),
        )  # fmt: skip
        claims = self._verified(token, expected)
        return claims if is_enough(claims) else self._completed(claims, expected)

    def close(self) -> None:
        """Hang up."""
        self._fetching.close()

    def _exchange(self, metadata: Metadata, transaction: Transaction, code: str) -> dict[str, Any]:
        """Send a code, and what proves that we began (OpenID Connect Core 1.0, 3.1.3.1)."""
        client, auth = self.client, None
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_uri,
            "code_verifier": transaction.verifier,
        }
        if client.secret is not None and metadata.takes_basic:
            auth = (quote_plus(client.client_id), quote_plus(client.secret))  # RFC 6749 2.3.1
        else:
            form["client_id"] = client.client_id
            form |= {} if client.secret is None else {"client_secret": client.secret}
        return self._fetching.post(metadata.token, form, auth)

    def _verified(self, token: str, expected: Expected) -> dict[str, Any]:
        """Verify a token; keys that it is not signed with are fetched again, once."""
        known = self._current()
        try:
            return verified(token, known.keys, known.metadata.algorithms, expected)
        except UnknownKey:
            known = self._fetched()
            return verified(token, known.keys, known.metadata.algorithms, expected)

    def _completed(self, claims: dict[str, Any], expected: Expected) -> dict[str, Any]:
        """Add what the provider tells at its userinfo endpoint alone; the token's own words win.

        References
        ----------
        OpenID Connect Core 1.0, 5.3.2: only of the same subject
        """
        userinfo = self.metadata().userinfo
        if userinfo is None or expected.access_token is None:
            return claims
        told = self._fetching.get(userinfo, bearer=expected.access_token)
        if told.get("sub") != claims["sub"]:
            raise NotVouched("the provider's userinfo is about somebody else (sub)")
        return {**told, **claims}

    def _current(self) -> _Known:
        known, failed, now = self._known, self._failed, self._steady()
        if known is not None and now - known.at < _FRESH_S:
            return known
        if failed is not None and now - failed[0] < _REST_S:
            raise ProviderAway(failed[1])
        return self._fetched()

    def _fetched(self) -> _Known:
        """Ask the provider what it is, and for its keys; that it does not answer is remembered."""
        issuer = self.client.issuer
        try:
            found = self._fetching.get(get_well_known_url(issuer, external=True))
            metadata = Metadata.parse(found, issuer)
            keys = read_keys(self._fetching.get(metadata.keys))
        except ProviderBusy:
            raise
        except ProviderAway as error:
            self._failed = (self._steady(), str(error))
            raise
        self._known, self._failed = _Known(metadata, keys, self._steady()), None
        return self._known
