"""Telling by HTTP: a signed POST of JSON, as Standard Webhooks has it.

References
----------
Standard Webhooks 1.0 (headers, signature, what answers mean); RFC 9110 10.2.3 (Retry-After)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom_node import codes
from dicom_node.errors import ConfigurationError
from worker.notice import Answer, News, NoticeRefused, TargetAway
from worker.notify_tls import context_of

if TYPE_CHECKING:
    import httpx
    from pydicom.sr.coding import Code

    from worker.settings import Settings

SECRET_FILE: Final = "CXR_WEBHOOK_SECRET_FILE"  # noqa: S105
# Shorter ones can be guessed; the prefix is how libraries for receivers write them.
LEAST_BYTES: Final = 24
_PREFIX: Final = "whsec_"
# What a receiver cannot take now, but may later; so are all of 500 and above.
LATER: Final = frozenset({408, 409, 425, 429})
# No receiver is left alone for longer, whatever it says.
MOST_WAIT_S: Final = 3600.0


# --- what is sent ----------------------------------------------------------------------------


def body_of(news: News) -> bytes:
    """Put a notice into JSON; the same notice is always the same bytes."""
    kind = "study.corrected" if news.corrects else "study.positive"
    told: dict[str, Any] = {
        "type": kind,
        "timestamp": news.reported_at.isoformat(),
        "data": {
            "study": news.reference,
            "finding": _coded(codes.PNEUMONIA),
            "answer": news.finding,
            "presence": news.presence and _coded(news.presence),
            "corrected": news.corrects,
            "score": news.probability,
            "calibrated": news.calibrated,
            "images": news.images,
            "not_assessed": news.unassessed,
            "flags": list(news.flags),
            "status": "PRELIMINARY",
            "caution": " ".join(news.cautions),
            "model": {"name": news.model, "version": news.model_version},
            "revision": news.revision,
            "chosen": dict(news.fields),
        },
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _coded(code: Code) -> dict[str, str]:
    return {
        "value": str(code.value),
        "scheme": str(code.scheme_designator),
        "meaning": str(code.meaning),
    }


def headers_of(message_id: str, at: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Sign a body with each secret.

    Parameters
    ----------
    at
        The time of this try, in seconds since 1970: a receiver refuses what is too old.
    """
    signed = f"{message_id}.{at}.".encode() + body
    signatures = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(s).decode()}" for s in signatures),
    }


def secrets_of(path: Path) -> list[bytes]:
    """Read the secrets, one a line: the newest first, as whoever changes it may have both.

    Raises
    ------
    ConfigurationError
        When there is none, or one is too short; it is not repeated.
    """
    try:
        lines = path.expanduser().read_text(encoding="ascii").split()
    except UnicodeDecodeError:
        lines = ["?"]
    except OSError as error:
        raise ConfigurationError(SECRET_FILE, f"{path} cannot be read: {error.strerror}") from None
    try:
        found = [base64.b64decode(line.removeprefix(_PREFIX), validate=True) for line in lines]
    except binascii.Error:
        found = []
    if not found or min(map(len, found)) < LEAST_BYTES:
        raise ConfigurationError(
            SECRET_FILE,
            f"{path} must hold {LEAST_BYTES} bytes or more in base64 on each line; "
            "`openssl rand -base64 32` makes such a line",
        )
    return found


# --- sending ---------------------------------------------------------------------------------


def send(settings: Settings, news: News, now: Callable[[], float] = time.time) -> Answer:
    """Tell the webhook.

    Raises
    ------
    TargetAway
        When it may be told later.
    NoticeRefused
        When it will not take this.
    ConfigurationError
        When the secret or a certificate cannot be used.
    """
    assert settings.webhook_secret_file is not None  # the settings ask for it
    body, secrets = body_of(news), secrets_of(settings.webhook_secret_file)
    headers = headers_of(news.message_id, int(now()), body, secrets)
    status, retry_after = _post(settings, body, headers)
    words = f"the webhook answered {status}"
    if 200 <= status < 300:
        return Answer(status, words)
    if status in LATER or status >= 500:
        raise TargetAway(words, status, _seconds(retry_after))
    if 300 <= status < 400:
        words += ", which is not followed: set CXR_WEBHOOK_URL to where it leads"
    raise NoticeRefused(words, status)


def _post(settings: Settings, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Post, and give the status and Retry-After; what else it answers is not read.

    Nothing of the environment is used, such as a proxy: it might not be whom the site has chosen.
    """
    import httpx

    limit = settings.delivery_timeout_s
    tls = context_of(settings)
    with httpx.Client(verify=tls, trust_env=False, follow_redirects=False, timeout=limit) as client:
        try:
            return _in_time(client, limit, settings.webhook_url, body, headers)
        except httpx.HTTPError as error:  # not its text: that may repeat the URL
            reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            words = f"the webhook cannot be reached: {_why(error)}"
            raise TargetAway(words, reached=reached) from None


def _in_time(
    client: httpx.Client, limit: float, url: str, body: bytes, headers: dict[str, str]
) -> tuple[int, str]:
    """Bear no receiver that draws its answer out: httpx has limits for each part alone."""

    def post() -> tuple[int, str]:
        with client.stream("POST", url, content=body, headers=headers) as response:
            return response.status_code, response.headers.get("retry-after", "")

    threads = ThreadPoolExecutor(1, "webhook")
    try:
        return threads.submit(post).result(2 * limit)
    except TimeoutError:
        client.close()  # which ends the thread
        raise TargetAway(f"the webhook did not answer within {2 * limit:g} s") from None
    finally:
        threads.shutdown(wait=False)


def _why(error: httpx.HTTPError) -> str:
    """Say in a word or two what went wrong, as deep down as it is known."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or type(cause).__name__
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _seconds(retry_after: str) -> float:
    """Read Retry-After: seconds, or a date."""
    wait = 0.0
    if retry_after.isascii() and retry_after.isdigit():
        wait = float(retry_after[:9])
    else:
        with suppress(ValueError, TypeError):
            until = parsedate_to_datetime(retry_after)
            until = until if until.tzinfo else until.replace(tzinfo=UTC)
            wait = (until - datetime.now(UTC)).total_seconds()
    return min(max(wait, 0.0), MOST_WAIT_S)
