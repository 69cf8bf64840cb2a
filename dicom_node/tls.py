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
from datetime import UTC, datetime
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


def expiry(certificate: Path, setting: str = CERTIFICATE) -> datetime:
    """Return when the first certificate of a PEM file expires.

    Parameters
    ----------
    certificate
        The file.
    setting
        By which it was given.

    Raises
    ------
    ConfigurationError
        When the file is missing or is not PEM.
    """
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), setting, certificate)
    pem = certificate.read_text("ascii", "replace")
    begin, end = pem.index(ssl.PEM_HEADER), pem.index(ssl.PEM_FOOTER)
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end] + ssl.PEM_FOOTER)
    # RFC 5280 4.1: Certificate > TBSCertificate > version (optional), serialNumber, signature,
    # issuer, validity > notBefore, notAfter
    fields = _der_items(_der_items(_der_items(der)[0][1])[0][1])
    if fields[0][0] == _DER_VERSION:
        del fields[0]
    tag, text = _der_items(fields[3][1])[1]
    style = "%y%m%d%H%M%SZ" if tag == _DER_UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), style).replace(tzinfo=UTC)


# X.690 8.1: tags, as far as they are looked at.
_DER_VERSION, _DER_UTC_TIME = 0xA0, 0x17


def _der_items(data: bytes) -> list[tuple[int, bytes]]:
    """Split DER into (tag, content) pairs (X.690 8.1.3)."""
    found, at = [], 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        found.append((tag, data[at : at + length]))
        at += length
    return found


def _prepared(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9325 3.5 and 4.5: no renegotiation; keys of 112 bits of security, such as RSA 2048.
    context.set_ciphers(":".join((*CIPHER_SUITES, "@SECLEVEL=2")))
    context.options |= ssl.OP_NO_RENEGOTIATION
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
