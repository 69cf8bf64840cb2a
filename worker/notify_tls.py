"""TLS with who is told of positive studies."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from dicom_node.errors import ConfigurationError

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
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cafile=authority)
        except OSError as error:
            raise _unusable(AUTHORITY, authority, error) from error
    if certificate is not None and key is not None:
        _present(context, certificate, key)
    return context


def _present(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse_password() -> NoReturn:
        raise ConfigurationError(KEY, f"{key} is encrypted; give it without a password")

    for setting, path in ((CERTIFICATE, certificate), (KEY, key)):
        try:
            path.open("rb").close()  # OpenSSL's error would not say which file
        except OSError as error:
            raise _unusable(setting, path, error) from error
    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except ssl.SSLError as error:
        raise ConfigurationError(
            KEY, f"{key} is no private key in PEM, or not that of the certificate {certificate}"
        ) from error


def _unusable(setting: str, path: Path, error: OSError) -> ConfigurationError:
    if isinstance(error, ssl.SSLError):
        return ConfigurationError(setting, f"{path} holds no certificate in PEM")
    return ConfigurationError(setting, f"{path} cannot be read: {error.strerror}")
