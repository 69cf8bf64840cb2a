"""What every answer of the web says to the browser, and which names it answers to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing from elsewhere, nothing inline, nothing in a frame. Pictures are drawn from memory too.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_ALWAYS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Of what a form sends, in bytes.
_LONGEST: Final = 1 << 16
_ASKING: Final = ("GET", "HEAD", "OPTIONS")
_OURS: Final = ("none", "same-origin")
# OWASP: a year. Only where this very answer came by TLS.
_STRICT_TRANSPORT: Final = "max-age=31536000"


class SafeAnswers:
    """Adds security headers to every answer, and refuses what no page of ours asks for.

    A name that is not ours is of a page of somebody else's that was led to our address (DNS
    rebinding). No form of ours is long.

    Parameters
    ----------
    hosts : collection of str
        Names, in lower case, without a port.
    tls_only : bool
        Whether to refuse what did not come by TLS, to here or to a proxy that is trusted.
    uploads : mapping of str to int
        Paths at and below which more is taken, and how many bytes; whoever answers there counts
        them where they are not told before.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        *,
        tls_only: bool = False,
        uploads: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._app, self._hosts, self._tls_only = app, frozenset(hosts), tls_only
        self._uploads = dict(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._complete(MutableHeaders(scope=message), scope)
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        if self._tls_only and scope["scheme"] != "https":
            words = "Only TLS is taken, here or by a proxy of CXR_WEB_PROXIES that says so.\n"
            return PlainTextResponse(words, 403)
        host = headers.get("host", "")
        if _name_of(host) not in self._hosts:
            words = f"{host} is not one of CXR_WEB_HOSTS, the names that this server answers to.\n"
            return PlainTextResponse(words, 400)
        # Browsers say it by themselves, other clients do not (W3C, Fetch Metadata).
        if scope["method"] not in _ASKING and headers.get("sec-fetch-site", "none") not in _OURS:
            return PlainTextResponse("Another site sent this; it is not done.\n", 403)
        longest = self._longest(scope)
        if "transfer-encoding" in headers and longest == _LONGEST:
            return PlainTextResponse("Say how long it is (Content-Length).\n", 411)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > longest:
            return PlainTextResponse(f"At most {longest} bytes are taken.\n", 413)
        return None

    def _longest(self, scope: Scope) -> int:
        """Give how many bytes a request may bring."""
        path = scope["path"]
        return next(
            (
                max(most, _LONGEST)
                for begin, most in self._uploads.items()
                if scope["method"] == "POST" and (path == begin or path.startswith(f"{begin}/"))
            ),
            _LONGEST,
        )

    def _complete(self, headers: MutableHeaders, scope: Scope) -> None:
        for name, value in _ALWAYS.items():
            headers.setdefault(name, value)
        # What is shown of a patient stays in no cache, also not of a screen that others use.
        headers.setdefault("Cache-Control", "no-store")
        if scope["scheme"] == "https":
            headers.setdefault("Strict-Transport-Security", _STRICT_TRANSPORT)


def _name_of(host: str) -> str:
    """Give the name of a Host header, without its port."""
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.strip("[]").lower()
