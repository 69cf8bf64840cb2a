"""Settings of signing in by a provider of OpenID Connect: a part of `worker.settings.Settings`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from dicom_node.errors import ConfigurationError
from worker.oidc.role_rules import RoleRules
from worker.settings_web import WebSettings, is_loopback

# With the 255 characters that a subject may have, as `users.subject` has room for.
_LONGEST_ISSUER = 255
_LONGEST_NAME = 40


def check_address(value: str, *, may_ask: bool = False) -> None:
    """Refuse an address over which secrets would go in the clear, or that is none.

    Parameters
    ----------
    may_ask
        Whether it may have a query.

    Raises
    ------
    ValueError
        Saying what is wrong with it.
    """
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no address, such as https://sso.example.org") from None
    if not host or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("is no address, such as https://sso.example.org")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must begin with https://; only this machine itself may have http://")
    if "@" in parts.netloc or "#" in value or (not may_ask and "?" in value):
        raise ValueError("must have no user, query or fragment")


def _issuer(value: str) -> str:
    check_address(value)
    if len(value) > _LONGEST_ISSUER:
        raise ValueError(f"must have at most {_LONGEST_ISSUER} characters")
    return value


def _origin(value: str) -> str:
    """Read the address of the pages; they are at the root of their host."""
    check_address(value)
    parts = urlsplit(value)
    if parts.path not in ("", "/"):
        raise ValueError("must end after the host and its port: the pages have no folder there")
    host, port = (parts.hostname or "").lower(), parts.port
    is_usual = port in (None, 443 if parts.scheme == "https" else 80)
    # As a browser spells it in the Host header.
    return (
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{'' if is_usual else f':{port}'}"
    )


def _scopes(value: str) -> str:
    words = value.replace(",", " ").split()
    if "openid" not in words:
        raise ValueError("must hold openid, such as openid profile")
    return " ".join(words)


def _name(value: str) -> str:
    if not value.isprintable() or not 0 < len(value.strip()) <= _LONGEST_NAME:
        raise ValueError(f"must have 1 to {_LONGEST_NAME} characters on one line")
    return value.strip()


def _text(check: Callable[[str], str]) -> BeforeValidator:
    """Make what reads a text and leaves anything else to the type."""
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) else value)


Rules = Annotated[RoleRules | None, NoDecode, BeforeValidator(RoleRules.parse)]


class OidcSettings(WebSettings):
    """By whom people may be vouched for, and where they come back to."""

    web_url: Annotated[str | None, _text(_origin)] = Field(
        None,
        description="Address by which browsers reach the web pages, such as "
        "https://cxr.example.org. CXR_OIDC_ISSUER needs it where others can reach them.",
    )
    oidc_issuer: Annotated[str | None, _text(_issuer)] = Field(
        None,
        description="Issuer of OpenID Connect by which people may sign in, exactly as the provider "
        "spells it. Default: local users alone.",
    )
    oidc_client_id: str | None = Field(
        None, min_length=1, max_length=255, description="How we are called at CXR_OIDC_ISSUER."
    )
    oidc_client_secret_file: Path | None = Field(
        None,
        description="File with our secret at CXR_OIDC_ISSUER. Default: we are a public client, "
        "with PKCE alone.",
    )
    oidc_roles: Rules = Field(
        None,
        description="Who may what by a claim's values, such as groups:radiology=reader,it=admin. "
        "Whoever has none of them is not let in.",
    )
    oidc_scopes: Annotated[str, _text(_scopes)] = Field(
        "openid profile", description="What CXR_OIDC_ISSUER is asked to tell of people."
    )
    oidc_name: Annotated[str, _text(_name)] = Field(
        "single sign-on", description="How CXR_OIDC_ISSUER is called on the sign-in page."
    )
    oidc_authority: Path | None = Field(
        None,
        description="Certificates that vouch for the one of CXR_OIDC_ISSUER, a PEM file. Default: "
        "the public ones, and those that this machine trusts.",
    )

    @property
    def web_origin(self) -> str:
        """Where browsers reach the web pages, without a slash at the end."""
        return self.web_url or _origin(self.web_address)

    @model_validator(mode="after")
    def _provider_is_whole(self) -> OidcSettings:
        if self.oidc_issuer is None:
            return self
        for name, such_as in (
            ("oidc_client_id", "the name under which the provider knows the web pages"),
            ("oidc_roles", "who may what, such as groups:radiology=reader,it=admin"),
        ):
            if getattr(self, name) is None:
                key = f"CXR_{name.upper()}"
                raise ConfigurationError(key, f"is not set, but CXR_OIDC_ISSUER is: set {such_as}")
        return self

    @model_validator(mode="after")
    def _people_come_back_here(self) -> OidcSettings:
        if self.web_port is None or self.oidc_issuer is None:
            return self
        if self.web_url is None and not self.is_web_for_us_alone:
            raise ConfigurationError(
                "CXR_WEB_URL",
                "is not set, but CXR_OIDC_ISSUER is: set the address to which it sends browsers "
                "back, such as https://cxr.example.org",
            )
        host = urlsplit(self.web_origin).hostname
        if host not in self.web_hosts:
            raise ConfigurationError(
                "CXR_WEB_URL", f"names {host}, which CXR_WEB_HOSTS does not: add it there"
            )
        return self
