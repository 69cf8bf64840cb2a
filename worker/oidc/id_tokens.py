"""Whether a token of the provider proves who somebody is.

References
----------
OpenID Connect Core 1.0, 3.1.3.7; RFC 8725
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from authlib.oidc.core import CodeIDToken
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from worker.oidc.errors import NotVouched, ProviderAway

# By how much the provider's clock and ours may differ.
LEEWAY_S: Final = 60
_LONGEST_SUBJECT: Final = 255
_MOST_KEYS: Final = 100
# No `oct`: with a key that both sides have, whoever verifies could sign.
_KINDS: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}


class UnknownKey(NotVouched):
    """The token is signed with a key that was not there when the keys were fetched."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say.

    Attributes
    ----------
    nonce
        Of the sign-in that it answers.
    access_token
        That came with it, if any.
    """

    issuer: str
    client_id: str
    nonce: str
    access_token: str | None
    now: datetime


def read_keys(found: Mapping[str, Any]) -> list[Key]:
    """Read the provider's public keys for signatures; what is none of these is left out.

    Raises
    ------
    ProviderAway
        When nothing is left.
    """
    listed = found.get("keys")
    read = map(_read_key, listed[:_MOST_KEYS] if isinstance(listed, list) else [])
    keys = [key for key in read if key is not None]
    if not keys:
        raise ProviderAway("the provider publishes no key for signatures")
    return keys


def _read_key(found: Any) -> Key | None:
    if not isinstance(found, Mapping) or found.get("use", "sig") != "sig":
        return None
    kind = _KINDS.get(str(found.get("kty")))
    try:
        return None if kind is None else kind.import_key(dict(found))
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def verified(
    token: str, keys: Sequence[Key], algorithms: Collection[str], expected: Expected
) -> dict[str, Any]:
    """Give the claims of a token that proves who somebody is.

    Raises
    ------
    UnknownKey
        When the keys may have changed since they were fetched.
    NotVouched
        When it proves nothing.
    """
    try:
        header = jws.extract_compact(token.encode()).headers()
        if header.get("alg") not in algorithms:
            raise NotVouched(f"the token is signed by {str(header.get('alg'))[:20]!r}, not taken")
        key_set = KeySet([_key_of(header.get("kid"), keys)])
        signed = jwt.decode(token, key_set, algorithms=list(algorithms))
        claims = CodeIDToken(signed.claims, signed.header, *_demands(expected))
        claims.validate(now=int(expected.now.timestamp()), leeway=LEEWAY_S)
    except (JoseError, ValueError, TypeError, KeyError, OverflowError) as error:
        what = getattr(error, "claim", None) or getattr(error, "error", type(error).__name__)
        raise NotVouched(f"the token is not taken: {str(what)[:40]}") from None
    if not 0 < len(claims["sub"]) <= _LONGEST_SUBJECT or not claims["sub"].isprintable():
        raise NotVouched("the token is not taken: sub")
    return dict(claims)


def _key_of(kid: Any, keys: Iterable[Key]) -> Key:
    """Choose the key that a token names; one that names none is taken where there is one key."""
    fitting = [key for key in keys if kid is None or key.kid == kid]
    if not fitting:
        raise UnknownKey("the token is signed with a key that the provider does not publish")
    if kid is None and len(fitting) > 1:
        raise NotVouched("the token does not say with which key it is signed")
    return fitting[0]


def _demands(expected: Expected) -> tuple[dict[str, Any], dict[str, Any]]:
    options = {
        "iss": {"essential": True, "value": expected.issuer},
        "aud": {"essential": True, "value": expected.client_id},
    }
    params = {
        "nonce": expected.nonce,
        "client_id": expected.client_id,
        "access_token": expected.access_token,
    }
    return options, params
