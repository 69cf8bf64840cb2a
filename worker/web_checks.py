"""Looks at what the web pages stand on: their certificate, and who vouches for people."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import ConfigurationError
from worker.checks import Check, advice_on_expiry
from worker.settings import Settings


def require_files(settings: Settings) -> None:
    """Refuse to start with files of the web pages that cannot be used.

    Raises
    ------
    ConfigurationError
        Naming the file that is wrong.
    """
    from dicom_node import tls
    from worker.oidc.secret import read_secret

    if settings.web_port is None:
        return
    if settings.web_files is not None:
        tls.expiry(settings.web_files[0], "CXR_WEB_CERTIFICATE")
        _require_key(*settings.web_files)
    if settings.oidc_issuer is not None:
        read_secret(settings)


def looks(settings: Settings) -> list[tuple[str, Callable[[Settings], Check]]]:
    """Give what there is to look at."""
    if settings.web_port is None:
        return []
    return [
        *([("web", check_certificate)] if settings.web_files else []),
        *([("oidc", check_provider)] if settings.oidc_issuer else []),
    ]


def check_certificate(settings: Settings) -> Check:
    """Look whether the pages can be served over TLS, and for how long."""
    from dicom_node import tls

    assert settings.web_files is not None  # looked at only where they are set
    require_files(settings)
    expiry = tls.expiry(settings.web_files[0], "CXR_WEB_CERTIFICATE")
    found = f"our certificate expires on {expiry:%Y-%m-%d}"
    return Check("web", found, advice_on_expiry(expiry, "CXR_WEB_CERTIFICATE"))


def check_provider(settings: Settings) -> Check:
    """Ask the provider what it is, as a sign-in does."""
    from worker.oidc.elsewhere import provider_of
    from worker.oidc.errors import ProviderAway

    provider = provider_of(settings)
    try:
        metadata = provider.metadata()
    except ProviderAway as error:
        advice = f"{error}. Check CXR_OIDC_ISSUER; meanwhile local users alone can sign in"
        return Check("oidc", f"{settings.oidc_issuer} cannot be used", advice)
    finally:
        provider.close()
    ends = "" if metadata.end_session else ", knows no sign-out"
    back = provider.client.redirect_uri
    return Check("oidc", f"{settings.oidc_issuer} answers{ends}, sends people back to {back}")


def _require_key(certificate: Path, key: Path) -> None:
    """Load both as the server does.

    Raises
    ------
    ConfigurationError
        When they do not belong together, or the key cannot be read.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        why = getattr(error, "reason", None) or error.strerror
        raise ConfigurationError(
            "CXR_WEB_KEY", f"{key} is not the key of CXR_WEB_CERTIFICATE, or not readable: {why}"
        ) from None
