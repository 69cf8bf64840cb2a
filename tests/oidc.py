"""A provider of OpenID Connect on this machine, which can be told to lie; signing in by it."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html import escape
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

from worker.access.roles import Role
from worker.oidc.elsewhere import Elsewhere
from worker.oidc.fetching import Fetching
from worker.oidc.paths import BACK
from worker.oidc.provider import Client
from worker.oidc.provider import Provider as OurProvider
from worker.oidc.role_rules import RoleRules

CLIENT, SECRET = "cxr-worker", "a secret: with / signs & more"
ORIGIN = "http://testserver"
# Two keys for the whole run: to make one takes a second on a slow machine.
KEYS = [RSAKey.generate_key(2048, {"kid": f"key-{n}", "use": "sig"}) for n in (1, 2)]

Claims = dict[str, Any]


class Provider:
    """What a provider does, and how it may be wrong.

    Attributes
    ----------
    claims
        Of whoever signs in next.
    spoil
        Changes the claims of an ID token before it is signed.
    sign
        Signs claims; by default as it should.
    asks_first
        Whether it shows a page before it sends a browser back.
    sends_issuer
        Whether it sends `iss` back (RFC 9207); a text is sent in place of its own.
    knows_challenge
        Whether it holds a verifier against its challenge.
    """

    def __init__(self) -> None:
        self.claims: Claims = {
            "sub": "0a1b", "preferred_username": "Anna", "groups": ["radiology", "staff"],
        }  # fmt: skip
        self.userinfo: Claims | None = None
        self.key, self.published = KEYS[0], [KEYS[0]]
        self.spoil: Callable[[Claims], None] = lambda claims: None
        self.sign: Callable[[Claims], str] = self.signed
        self.sends_issuer: bool | str = True
        self.knows_challenge = True
        self.is_public = False
        self.asks_first = False
        self.document: Callable[[Claims], Any] = lambda document: document
        self.status = 200
        self.hold: threading.Event | None = None
        self.asked: list[str] = []
        self.cookies: set[str | None] = set()
        self.codes: dict[str, dict[str, str]] = {}
        self.redeemed: list[dict[str, str]] = []
        self.address = ""

    @property
    def issuer(self) -> str:
        return f"{self.address}/realms/hospital"

    def signed(self, claims: Claims, **header: str) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.key.kid, **header}, claims, self.key)

    def unsigned(self, claims: Claims) -> str:
        return f"{_encoded({'alg': 'none'})}.{_encoded(claims)}."

    def signed_with_the_public_key(self, claims: Claims) -> str:
        # By hand, as libraries refuse to take a public key for a shared secret.
        words = f"{_encoded({'alg': 'HS256', 'kid': self.key.kid})}.{_encoded(claims)}"
        mac = hmac.digest(self.key.as_pem(private=False), words.encode(), "sha256")
        return f"{words}.{_base64(mac)}"

    # --- what it is asked ---------------------------------------------------------------------

    def discovered(self) -> Any:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
            "end_session_endpoint": f"{self.address}/logout",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": self.sends_issuer is not False,
        }
        if self.userinfo is not None:
            document["userinfo_endpoint"] = f"{self.address}/userinfo"
        return self.document(document)

    def keys(self) -> Claims:
        return {"keys": [key.as_dict(private=False) for key in self.published]}

    def authorized(self, asked: dict[str, str]) -> str:
        """Give where a browser goes back to, with a code; nobody is asked for a password."""
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"]}
        if self.sends_issuer:
            back["iss"] = self.issuer if self.sends_issuer is True else self.sends_issuer
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        self.redeemed.append(form)
        if not self.is_public and not self.knows_us(authorization):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        challenge = create_s256_code_challenge(form["code_verifier"])
        if self.knows_challenge and challenge != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], **self.claims,
        }  # fmt: skip
        self.spoil(claims)
        return 200, {
            "id_token": self.sign(claims),
            "access_token": "access",
            "token_type": "Bearer",
        }

    @staticmethod
    def knows_us(authorization: str) -> bool:
        words = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        return [unquote_plus(word) for word in words] == [CLIENT, SECRET]


def _encoded(value: Claims) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def visit(address: str) -> str:
    """Go to a provider; give where it sends a browser, without a library that would log it."""
    place = urlsplit(address)
    with closing(HTTPConnection(place.hostname or "", place.port, timeout=60)) as connection:
        connection.request("GET", f"{place.path}?{place.query}")
        answer = connection.getresponse()
        assert answer.status == 302
        return str(answer.headers["Location"])


def elsewhere(provider: Provider, origin: str = ORIGIN, **clocks: Any) -> Elsewhere:
    """Make what signs in by a provider, as a confidential client unless it is a public one."""
    secret = None if provider.is_public else SECRET
    client = Client(provider.issuer, CLIENT, secret, f"{origin}{BACK}", "openid profile")
    rules = RoleRules("groups", (("radiology", Role.READER), ("it", Role.ADMIN)))
    asked = OurProvider(client, Fetching(provider.issuer), **clocks)
    return Elsewhere("Hospital account", origin, asked, rules)


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        provider, url = self.provider, urlsplit(self.path)
        if url.path == "/authorize":
            asked = {key: values[0] for key, values in parse_qs(url.query).items()}
            self._lead_to(provider.authorized(asked))
            return
        answers = {
            "/realms/hospital/.well-known/openid-configuration": provider.discovered,
            "/keys": provider.keys,
            "/userinfo": lambda: provider.userinfo,
            "/logout": dict,
            "/favicon.ico": dict,
        }
        self._answer(provider.status, answers[url.path]())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        self._answer(*self.provider.redeem(form, self.headers.get("Authorization", "")))

    def _lead_to(self, address: str) -> None:
        if not self.provider.asks_first:
            self.send_response(302)
            self.send_header("Location", address)
            self.end_headers()
            return
        page = f'<!doctype html><title>Hospital</title><a href="{escape(address)}">Let me in</a>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def _answer(self, status: int, found: Any) -> None:
        self.provider.asked.append(urlsplit(self.path).path)
        self.provider.cookies.add(self.headers.get("Cookie"))
        if self.provider.hold is not None:
            self.provider.hold.wait(100)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "session=of-one; Path=/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Provider]:
    """Run a provider on a port of this machine, over TLS if there is a context for it."""
    provider = Provider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        provider.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield provider
        finally:
            if provider.hold is not None:
                provider.hold.set()
            server.shutdown()
            thread.join()
