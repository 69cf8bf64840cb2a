"""What the provider says of itself.

References
----------
OpenID Connect Discovery 1.0, 3 and 4.3; RFC 8414; RFC 9207
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.oidc.errors import ProviderAway
from worker.settings_oidc import check_address

# Signed with a private key that the provider alone has. Neither `none`, nor HS256 and its like,
# whose key would be the public one to whoever mixes them up (RFC 8725 2.1).
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where the provider is asked for what, and what it can do.

    Attributes
    ----------
    algorithms
        By which it signs, of those that we take.
    sends_issuer
        Whether it says who it is when it sends a browser back (RFC 9207).
    takes_basic
        Whether our secret may go in the Authorization header, else in the form.
    """

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    end_session: str | None
    algorithms: tuple[str, ...]
    sends_issuer: bool
    takes_basic: bool

    @classmethod
    def parse(cls, found: Mapping[str, Any], issuer: str) -> Metadata:
        """Read the document of a provider.

        Raises
        ------
        ProviderAway
            When it is that of another issuer, or not to be used.
        """
        # Exactly, as the specification has it: by it the tokens of others are told apart.
        if found.get("issuer") != issuer:
            raise ProviderAway(
                f"CXR_OIDC_ISSUER is {issuer}, but the provider calls itself "
                f"{str(found.get('issuer'))[:200]!r}; both must be the same, to the last slash"
            )
        methods = found.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise ProviderAway("the provider does not know PKCE with S256; turn it on there")
        auth = found.get("token_endpoint_auth_methods_supported")
        return cls(
            authorization=_needed(found, "authorization_endpoint"),
            token=_needed(found, "token_endpoint"),
            keys=_needed(found, "jwks_uri"),
            userinfo=_address(found, "userinfo_endpoint"),
            end_session=_address(found, "end_session_endpoint"),
            algorithms=_algorithms(found),
            sends_issuer=found.get("authorization_response_iss_parameter_supported") is True,
            takes_basic=not isinstance(auth, list) or "client_secret_basic" in auth,
        )


def _algorithms(found: Mapping[str, Any]) -> tuple[str, ...]:
    told = found.get("id_token_signing_alg_values_supported")
    shared = tuple(each for each in ALGORITHMS if not isinstance(told, list) or each in told)
    if not shared:
        raise ProviderAway("the provider signs with no private key; have it sign with RS256")
    return shared


def _needed(found: Mapping[str, Any], name: str) -> str:
    address = _address(found, name)
    if address is None:
        raise ProviderAway(f"the provider does not say its {name}")
    return address


def _address(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    try:
        check_address(str(value), may_ask=True)
    except ValueError as error:
        raise ProviderAway(f"the provider's {name} {error}") from None
    return str(value)
