"""DICOM over TLS: which versions and cipher suites, whose certificates.

Both sides present a certificate and verify the other's. The name in a certificate is not compared
with the host: in hospitals peers are addressed by IP, by names of the inside or through address
translation, and are known by AE title. What is trusted is whom `authority` vouches for; keep it to
the hospital's own.

References
----------
DICOM PS3.15 B.12 (BCP 195 RFC 8996, 9325 TLS Profile); RFC 9325 3.1 and 4.2
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dicom_node.errors import ConfigurationError

# RFC 9325 4.2, for TLS 1.2. Those of TLS 1.3 (RFC 8446 B.4) are all sound and not chosen here.
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

CERTIFICATE, KEY, AUTHORITY = "CXR_TLS_CERTIFICATE", "CXR_TLS_KEY", "CXR_TLS_AUTHORITY"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of TLS, all PEM.

    Attributes
    ----------
    certificate : Path
        Ours, followed by those between it and the authority, if any.
    key : Path
        The private key that belongs to it, not encrypted.
    authority : Path
        The certificates whom we trust: of authorities, or of the peers themselves.
    """

    certificate: Path
    key: Path
    authority: Path


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what an SCU connects with.

    Raises
    ------
    ConfigurationError
        With the setting whose file is missing, is not PEM or does not belong to the other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _prepared(context, files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what an SCP listens with; a client without a trusted certificate is refused.

    Raises
    ------
    ConfigurationError
        With the setting whose file is missing, is not PEM or does not belong to the other.
    """
    return _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)


def _prepared(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHER_SUITES))
    context.verify_mode = ssl.CERT_REQUIRED
    # What is in `authority` is trusted as it is, be it an authority, one between, or a peer's own.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust(context, AUTHORITY, files.authority)
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), CERTIFICATE, files.certificate)
    _present(context, files)
    return context


def _trust(context: ssl.SSLContext, setting: str, path: Path) -> None:
    """Load certificates to trust; also tells whether a file holds any."""
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigurationError(setting, f"{path} holds no certificate in PEM") from error
    except OSError as error:
        raise ConfigurationError(setting, f"{path} cannot be read: {error.strerror}") from error


def _present(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Load our certificate, which is known to be one, and its key."""

    def refuse_password() -> NoReturn:
        raise ConfigurationError(KEY, f"{files.key} is encrypted; give it without a password")

    try:
        with files.key.open("rb"):  # OpenSSL's error would not say which file
            context.load_cert_chain(files.certificate, files.key, password=refuse_password)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            words = f"{files.key} does not belong to the certificate {files.certificate}"
        else:
            words = f"{files.key} holds no private key in PEM"
        raise ConfigurationError(KEY, words) from error
    except OSError as error:
        raise ConfigurationError(KEY, f"{files.key} cannot be read: {error.strerror}") from error
