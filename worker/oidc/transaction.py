"""One sign-in on its way to the provider and back, kept in the browser that began it.

All that the provider is told is made from a secret in a cookie of that browser: what comes back
belongs to it, or to nobody. Nothing is kept here, so any number of processes may serve the pages,
and no one can fill our memory. It needs no signature: whoever writes their own only signs
in themselves.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authlib.oauth2.rfc7636 import create_s256_code_challenge

# How long somebody may take with the provider: a password, a second factor.
LASTS: Final = timedelta(minutes=10)
_EARLY: Final = timedelta(minutes=1)
_LONGEST_PATH: Final = 500


@dataclass(frozen=True, slots=True)
class Transaction:
    """A sign-in that has begun.

    Attributes
    ----------
    secret : str
        Of 256 random bits; only the browser has it.
    began : int
        Seconds since 1970.
    to : str
        The path of ours that was asked for.
    """

    secret: str
    began: int
    to: str

    @classmethod
    def begin(cls, to: str, now: datetime) -> Transaction:
        """Begin a sign-in; a path that is too long for a cookie is forgotten."""
        kept = to if len(to.encode()) <= _LONGEST_PATH else "/"
        return cls(secrets.token_urlsafe(32), int(now.timestamp()), kept)

    @classmethod
    def read(cls, cookie: str, now: datetime) -> Transaction | None:
        """Read what `cookie` gave; None when it is nothing of the kind, or too old."""
        secret, _, rest = cookie.partition(".")
        began, _, to = rest.partition(".")
        if len(secret) != 43 or not (began.isascii() and began.isdigit() and len(began) < 12):
            return None
        age = now.timestamp() - int(began)
        if not -_EARLY.total_seconds() <= age <= LASTS.total_seconds():
            return None
        try:
            return cls(secret, int(began), urlsafe_b64decode(to + "=" * (-len(to) % 4)).decode())
        except (binascii.Error, ValueError):
            return None

    @property
    def cookie(self) -> str:
        """What the browser keeps."""
        to = urlsafe_b64encode(self.to.encode()).decode().rstrip("=")
        return f"{self.secret}.{self.began}.{to}"

    @property
    def state(self) -> str:
        """What comes back with the browser."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What comes back in the token."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What proves to the provider that who began has the code."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the provider holds the verifier against (RFC 7636, S256)."""
        return str(create_s256_code_challenge(self.verifier))

    def is_state(self, given: str) -> bool:
        """Tell whether a browser comes back from this very sign-in."""
        return hmac.compare_digest(self.state.encode(), given.encode())

    def _derived(self, purpose: str) -> str:
        words = f"cxr-worker {purpose} {self.began} {self.to}".encode()
        digest = hmac.new(self.secret.encode(), words, hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
