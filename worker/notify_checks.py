"""Looks at who is told of positive studies, without telling them anything."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

from dicom_node.errors import ConfigurationError
from worker.checks import Check
from worker.settings import Settings
from worker.settings_notify import Target

CALL_TIMEOUT_S: Final = 5
_ADDRESSES: Final = {Target.WEBHOOK: "CXR_WEBHOOK_URL", Target.HL7: "CXR_HL7_DESTINATION"}


def check_target(settings: Settings, target: Target) -> Check:
    """Connect to a target, and look at what its notices are signed with."""
    from worker.mllp import connect
    from worker.notify_tls import context_of
    from worker.notifying import address_of
    from worker.webhook import secrets_of

    shown = address_of(settings, target)
    try:
        signs = ""
        if target is Target.WEBHOOK and settings.webhook_secret_file is not None:
            signs = f", signed with {len(secrets_of(settings.webhook_secret_file))} secret(s)"
        host, port, tls = _place(settings, target)
        context: ssl.SSLContext | None = context_of(settings) if tls else None
        connect(host, port, CALL_TIMEOUT_S, context).close()
    except ConfigurationError as error:
        return Check(target, f"{shown} cannot be told", str(error))
    except OSError as error:
        why = error.strerror or type(error).__name__
        advice = f"check {_ADDRESSES[target]} and that it runs; nothing is lost, only late"
        return Check(target, f"{shown} does not answer: {why}", advice)
    fields = ", ".join(settings.notify_fields) or "nothing of whose study it is"
    return Check(target, f"{shown} answers{' over TLS' if tls else ''}{signs}; says {fields}")


def _place(settings: Settings, target: Target) -> tuple[str, int, bool]:
    """Give host, port, and whether by TLS."""
    there = settings.hl7_destination
    if target is Target.HL7 and there is not None:
        return there.host, there.port, there.tls
    url = urlsplit(settings.webhook_url)
    tls = url.scheme == "https"
    return url.hostname or "", url.port or (443 if tls else 80), tls
