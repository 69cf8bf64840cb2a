"""Asks the provider over HTTP: with limits of time and size, and never along a redirection.

Only so many ask at once: each takes one of the threads by which all pages are made.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from dicom_node.errors import ConfigurationError
from worker.oidc.errors import NotVouched, ProviderAway, ProviderBusy
from worker.settings_web import is_loopback

# For each step of an answer, and for the whole of it.
STEP_S: Final = 5.0
WHOLE_S: Final = 10.0
_LONGEST: Final = 1 << 20
# A fifth of the threads that pages are made by; and how long somebody who is known to come from
# the provider waits for a turn.
AT_ONCE: Final = 8
_TURN_S: Final = 2.0


class Fetching:
    """Asks one provider; safe to share between threads.

    Parameters
    ----------
    issuer
        Where the provider is; this machine itself is not asked by way of a proxy.
    authority
        Certificates that vouch for its one; None for the public ones and those of this machine.

    Raises
    ------
    ConfigurationError
        When the certificates cannot be read.
    """

    def __init__(self, issuer: str, authority: Path | None = None) -> None:
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._client = httpx.Client(
            verify=_trust(authority),
            trust_env=not is_loopback(urlsplit(issuer).hostname or ""),
            timeout=STEP_S,
            follow_redirects=False,
            # Of one who signs in nothing is kept for the next: no cookie, and no connection, which
            # the provider may have closed meanwhile.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Accept": "application/json"},
        )

    def get(self, url: str, bearer: str = "") -> dict[str, Any]:
        """Get an object of JSON.

        Raises
        ------
        ProviderAway
            When there is no such answer.
        """
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        status, body = self._ask("GET", url, _TURN_S if bearer else 0, headers=headers)
        if status != httpx.codes.OK:
            raise ProviderAway(f"{_place(url)} answers {status}")
        return _object(url, body)

    def post(
        self, url: str, form: Mapping[str, str], auth: tuple[str, str] | None
    ) -> dict[str, Any]:
        """Send a form, and get an object of JSON.

        Raises
        ------
        NotVouched
            When it is refused.
        ProviderAway
            When there is no answer.
        """
        basic = None if auth is None else httpx.BasicAuth(*auth)
        status, body = self._ask("POST", url, _TURN_S, data=dict(form), auth=basic)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ProviderAway(f"{_place(url)} answers {status}")
        answer = _object(url, body)
        if status != httpx.codes.OK:
            raise NotVouched(f"the provider takes no code: {status} {error_word(answer)}")
        return answer

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(self, method: str, url: str, turn_s: float, **given: Any) -> tuple[int, bytes]:
        if not self._turns.acquire(timeout=turn_s):
            raise ProviderBusy("too many wait for the provider already")
        try:
            with self._client.stream(method, url, **given) as answer:
                return answer.status_code, b"".join(_limited(url, answer))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Its text may repeat the address, which never holds a secret, and a header, which does.
            raise ProviderAway(f"{_place(url)} does not answer: {type(error).__name__}") from None
        finally:
            self._turns.release()


def error_word(answer: Mapping[str, Any]) -> str:
    """Give the code of an error (RFC 6749 5.2), if it looks like one."""
    word = answer.get("error")
    is_code = isinstance(word, str) and len(word) <= 64 and word.replace("_", "").isalnum()
    return str(word) if is_code and str(word).isascii() else "without a reason"


def _limited(url: str, answer: httpx.Response) -> Iterator[bytes]:
    """Read an answer, unless it is too long or dribbles in."""
    began, length = time.monotonic(), 0
    for part in answer.iter_bytes():
        length += len(part)
        if length > _LONGEST or time.monotonic() - began > WHOLE_S:
            raise ProviderAway(f"{_place(url)} answers without an end")
        yield part


def _object(url: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderAway(f"{_place(url)} answers something else than an object of JSON")
    return found


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _trust(authority: Path | None) -> ssl.SSLContext:
    if authority is None:
        context = httpx.create_ssl_context()  # of the public web
        context.load_default_certs()  # and what a hospital has added to this machine
        return context
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            "CXR_OIDC_AUTHORITY", f"{authority} holds no certificates to be read: {error.strerror}"
        ) from None
