"""TLS with who is told of positive studies."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from worker import tls_files

if TYPE_CHECKING:
    from worker.settings import Settings

AUTHORITY: Final = "CXR_NOTIFY_AUTHORITY"
CERTIFICATE: Final = "CXR_NOTIFY_CERTIFICATE"
KEY: Final = "CXR_NOTIFY_KEY"


def context_of(settings: Settings) -> ssl.SSLContext:
    """Return what connections are made with; read anew each time, as files may be renewed.

    The other's certificate must name its host, and be vouched for by CXR_NOTIFY_AUTHORITY, or by
    those whom this machine trusts.

    Raises
    ------
    ConfigurationError
        With the setting whose file is missing, is not PEM or does not belong to the other.
    """
    authority, certificate, key = settings.notify_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is None:
        context.load_default_certs()
    else:
        tls_files.trust(context, AUTHORITY, authority)
    if certificate is not None and key is not None:
        tls_files.present(context, (CERTIFICATE, certificate), (KEY, key))
    return context
