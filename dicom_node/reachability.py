"""Why a peer cannot be associated with: tried anew with less, and said in one sentence."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from dicom_node.peer import Peer
from dicom_node.tls import AUTHORITY, CERTIFICATE

# A person waits for the answer.
_MOST_S = 5.0

# PS3.8 9.3.8. A DICOM application that gets it first closes the connection, and so answers at once
# whether it has taken us in.
_A_ABORT = bytes([7, 0, 0, 0, 0, 4, 0, 0, 0, 0])

# What OpenSSL reports of a peer's alert (RFC 8446 6.2) that concerns our certificate.
_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
)
# ... and of one that concerns the version.
_VERSION_REASONS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")

# Verification results (OpenSSL, X509_V_ERR_...), each with what to do.
_EXPIRED, _NOT_YET_VALID = 10, 9
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})


def why_unreachable(peer: Peer, tls: ssl.SSLContext | None, timeout_s: float) -> str:
    """Try a bare connection, with TLS where it is set, and say how far it came.

    Parameters
    ----------
    peer : Peer
        That did not associate.
    tls : ssl.SSLContext or None
        What the association was tried with.
    timeout_s : float
        For each step; at most five seconds are taken.
    """
    timeout_s = min(timeout_s, _MOST_S)
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=timeout_s)
    except socket.gaierror:
        return f"{peer}: the host name {peer.host!r} is not known; check its spelling and the DNS."
    except ConnectionRefusedError:
        return (
            f"{peer}: nothing listens on port {peer.port}; check that the peer runs, and its port."
        )
    except OSError:
        return f"{peer} is not reachable; check the address, the network and its firewall."
    with connection:
        if tls is not None:
            return f"{peer} {_why_not_by_tls(connection, tls)}"
        if _speaks_tls(connection):
            return (
                f"{peer} speaks TLS on this port, although TLS is not set for it; "
                "set tls=on for it, or give its port without TLS."
            )
    return (
        f"{peer} takes the connection but does not associate; "
        "check that it speaks DICOM on this port, and lets this host in."
    )


def _speaks_tls(connection: socket.socket) -> bool:
    """Tell whether anything in the answer to a TLS greeting is TLS; nothing else is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.wrap_socket(connection).close()
    except ssl.SSLError as error:
        reason = error.reason or ""
        return "ALERT" in reason or reason in _VERSION_REASONS
    except OSError:
        return False
    return True


def _why_not_by_tls(connection: socket.socket, tls: ssl.SSLContext) -> str:
    try:
        with tls.wrap_socket(connection) as secured:
            _provoke_answer(secured)
    except ssl.SSLCertVerificationError as error:
        return _why_not_trusted(error)
    except ssl.SSLError as error:
        return _why_no_handshake(error.reason or "")
    except TimeoutError:
        return _NO_HANDSHAKE
    except OSError:  # closed
        return _NO_TLS
    return (
        "takes the connection, with TLS, but does not associate; "
        f"check that it speaks DICOM on this port, and takes our certificate ({CERTIFICATE})."
    )


def _provoke_answer(secured: ssl.SSLSocket) -> None:
    """Wait for the end of the connection; raise SSLError when it is our certificate's fault.

    With TLS 1.3 the peer judges our certificate only after we think that all is well.
    """
    with suppress(OSError):  # what it has said before it hung up can still be read
        secured.sendall(_A_ABORT)
    try:
        secured.recv(1)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise
    except OSError:
        return


_NO_TLS = (
    "speaks no TLS on this port, although TLS is set for it; "
    "give its port with TLS, or set tls=off for it."
)
_NO_HANDSHAKE = (
    "does not answer a TLS handshake; it may be busy, or speak no TLS on this port, "
    "although TLS is set for it."
)


def _why_not_trusted(error: ssl.SSLCertVerificationError) -> str:
    """Say what is wrong with the peer's certificate."""
    if error.verify_code == _EXPIRED:
        return "has a certificate that has expired; it needs a new one (or compare the clocks)."
    if error.verify_code == _NOT_YET_VALID:
        return "has a certificate that is not valid yet; compare the clocks."
    if error.verify_code in _UNTRUSTED:
        return (
            "has a certificate that is not trusted; "
            f"add its authority, or the certificate itself, to the file of {AUTHORITY}."
        )
    return f"has a certificate that is not taken: {error.verify_message}."


def _why_no_handshake(reason: str) -> str:
    """Say why there is no TLS, from OpenSSL's reason."""
    if "ALERT" in reason and reason.endswith(_CERTIFICATE_ALERTS):
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return (
            f"refuses our certificate ({alert}); check {CERTIFICATE}, "
            "and that the peer trusts its authority."
        )
    if reason.endswith(_VERSION_REASONS):
        return "has no TLS 1.2 or later; older versions are not safe (BCP 195)."
    if "ALERT" in reason:
        return (
            "ends the TLS handshake; it may share no cipher suite of BCP 195 with us, "
            f"or not take our certificate ({CERTIFICATE})."
        )
    return _NO_TLS
