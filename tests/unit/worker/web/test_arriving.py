"""Signing in by a provider, over real HTTP with one of our own: what works, and what must not."""

from __future__ import annotations

import base64
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from tests.e2e.programs import wait_until
from tests.oidc import CLIENT, KEYS, ORIGIN, Claims, Provider, elsewhere, running, visit
from tests.ward import Ward
from tests.web import PASSWORD, Browser, Web
from worker.access import tokens, users
from worker.access.roles import Role
from worker.audit.trail import NotRecorded
from worker.oidc import fetching
from worker.oidc.paths import BACK, SIGNED_OUT, START
from worker.tables import User


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as provider:
        yield provider


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions)


@pytest.fixture
def web(provider: Provider, ward: Ward, tmp_path: Path) -> Iterator[Web]:
    there = elsewhere(provider)
    yield Web(ward, tmp_path, elsewhere=there)
    there.close()


@pytest.fixture
def browser(web: Web) -> Iterator[Browser]:
    with web.browser() as browser:
        yield browser


def go(browser: Browser, to: str = "/") -> str:
    """Begin a sign-in; give the address to which the provider sends the browser back."""
    begun = browser.get(START, params={"to": to})
    assert begun.status_code == 303
    return visit(begun.headers["location"])


def sign_in(browser: Browser, to: str = "/") -> Any:
    return browser.get(go(browser, to))


def who(browser: Browser) -> str:
    """Give who the worklist says is there; "" when it asks to sign in."""
    page = browser.get("/")
    found = re.search(r"<span>(\S+ \(\w+\))</span>", page.text)
    return found[1] if found else ""


def user(web: Web, name: str) -> User:
    with web.ward.sessions() as session:
        return session.scalars(select(User).where(User.name == name)).one()


def names(web: Web) -> list[str]:
    with web.ward.sessions() as session:
        return [each.name for each in users.list_users(session)]


def outcomes(web: Web) -> list[tuple[str, str]]:
    """Give of each sign-in in the audit trail whose it was, and its outcome."""
    return [
        (found[2], found[1])
        for line in web.audited().splitlines()
        if 'csd-code="110122"' in line
        and (found := re.search(r'EventOutcomeIndicator="(\d+)".*?UserName="([^"]*)"', line))
    ]


# --- what works ------------------------------------------------------------------------------


def test_whoever_the_provider_vouches_for_is_let_in(
    web: Web, browser: Browser, provider: Provider
) -> None:
    answer = sign_in(browser, "/agreement?model=x")
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/agreement?model=x"' in answer.text
    assert who(browser) == "anna (reader)"
    anna = user(web, "anna")
    assert (anna.subject, anna.password_hash) == (f"{provider.issuer} 0a1b", None)
    assert anna.last_sign_in_at is not None
    assert outcomes(web) == [("anna", "0")]
    assert "added as reader" in decoded(web.audited())


def decoded(trail: str) -> str:
    return " ".join(
        base64.b64decode(each).decode()
        for each in re.findall(r'type="[^"]*" value="([^"]*)"', trail)
    )


def test_the_provider_is_asked_as_the_standards_say(browser: Browser, provider: Provider) -> None:
    begun = browser.get(START)
    asked = {k: v[0] for k, v in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert {key: asked[key] for key in ("response_type", "client_id", "scope", "redirect_uri")} == {
        "response_type": "code", "client_id": CLIENT, "scope": "openid profile",
        "redirect_uri": f"{ORIGIN}{BACK}",
    }  # fmt: skip
    assert asked["code_challenge_method"] == "S256"
    assert all(len(asked[key]) == 43 for key in ("state", "nonce", "code_challenge"))
    assert browser.get(visit(begun.headers["location"])).status_code == 200
    assert provider.redeemed[0].keys() == {
        "grant_type", "code", "redirect_uri", "code_verifier",
    }  # fmt: skip


def test_a_public_client_has_its_verifier_alone(
    ward: Ward, tmp_path: Path, provider: Provider
) -> None:
    provider.is_public = True
    with Web(ward, tmp_path, elsewhere=elsewhere(provider)).browser() as browser:
        assert sign_in(browser).status_code == 200
    assert provider.redeemed[0]["client_id"] == CLIENT
    assert "client_secret" not in provider.redeemed[0]


def test_a_secret_goes_in_the_form_where_the_provider_wants_it(
    browser: Browser, provider: Provider
) -> None:
    provider.document = lambda found: {
        **found, "token_endpoint_auth_methods_supported": ["client_secret_post"],
    }  # fmt: skip
    provider.knows_us = staticmethod(lambda authorization: authorization == "")
    assert sign_in(browser).status_code == 200
    assert provider.redeemed[0]["client_secret"]


def test_the_cookie_of_a_sign_in_is_for_this_browser_and_a_while(
    ward: Ward, tmp_path: Path, provider: Provider
) -> None:
    safe = elsewhere(provider, "https://testserver")
    with Web(ward, tmp_path, elsewhere=safe).browser(base_url="https://testserver") as browser:
        begun = browser.get(START).headers["set-cookie"]
        answer = sign_in(browser)
    for words in ("__Host-cxr-signing-in=", "HttpOnly", "Max-Age=600", "SameSite=lax", "Secure"):
        assert words in begun
    kept = answer.headers.get_list("set-cookie")
    assert any("__Host-cxr-session=" in each and "SameSite=strict" in each for each in kept)
    assert any('__Host-cxr-signing-in=""' in each and "Max-Age=0" in each for each in kept)


def test_the_sign_in_page_offers_both_ways(web: Web, browser: Browser) -> None:
    web.add("rescue", Role.ADMIN)
    page = browser.get("/sign-in?to=/model%3Fa%26b").text
    assert 'href="/sign-in/oidc?to=%2Fmodel%3Fa%26b"' in page
    assert "Sign in by Hospital account" in page
    assert browser.sign_in("rescue").status_code == 303
    assert who(browser) == "rescue (admin)"


def test_without_a_provider_there_is_no_such_way(ward: Ward, tmp_path: Path) -> None:
    with Web(ward, tmp_path).browser() as browser:
        assert "oidc" not in browser.get("/sign-in").text
        for path in (START, BACK, SIGNED_OUT):
            assert browser.get(path).status_code == 404


def test_a_role_is_what_the_provider_says_at_each_sign_in(
    web: Web, browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    provider.claims["groups"] = ["it", "radiology"]
    sign_in(browser)
    assert who(browser) == "anna (admin)"
    provider.claims["groups"] = "radiology"
    sign_in(browser)
    assert who(browser) == "anna (reader)"
    assert names(web) == ["anna"]
    assert "is reader now, was admin" in decoded(web.audited())


def test_a_role_that_the_userinfo_alone_tells_counts(browser: Browser, provider: Provider) -> None:
    del provider.claims["groups"]
    provider.userinfo = {"sub": "0a1b", "groups": ["it"], "iss": "https://evil.example"}
    assert sign_in(browser).status_code == 200
    assert who(browser) == "anna (admin)"


def test_another_name_at_the_provider_is_still_the_same_user(
    web: Web, browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    provider.claims["preferred_username"] = "Anna Married"
    sign_in(browser)
    assert names(web) == ["anna"]


def test_signing_out_ends_ours_and_offers_to_end_theirs(
    web: Web, browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    out = browser.post("/sign-out")
    assert out.headers["location"] == SIGNED_OUT
    page = browser.get(SIGNED_OUT).text
    address = re.search(rf'href="({provider.address}/logout[^"]*)"', page)
    assert address
    asked = parse_qs(urlsplit(address[1].replace("&amp;", "&")).query)
    assert asked == {
        "client_id": [CLIENT], "post_logout_redirect_uri": [f"{ORIGIN}/sign-in"],
    }  # fmt: skip
    assert who(browser) == ""
    assert 'csd-code="110123"' in web.audited()


def test_a_local_user_signs_out_as_before(web: Web, browser: Browser) -> None:
    web.add("rescue", Role.ADMIN)
    browser.sign_in("rescue")
    assert browser.post("/sign-out").headers["location"] == "/sign-in"


def test_nothing_of_one_who_signs_in_goes_along_with_the_next(
    browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    sign_in(browser)
    assert provider.asked.count("/token") == 2
    assert provider.cookies == {None}


def test_a_session_by_the_provider_grows_old_as_any(web: Web, browser: Browser) -> None:
    sign_in(browser)
    web.ward.clock.forward(31 * 60)
    assert who(browser) == ""


def test_whoever_signs_in_again_ends_the_session_before(web: Web, browser: Browser) -> None:
    sign_in(browser)
    old = browser.client.cookies["cxr-session"]
    sign_in(browser)
    assert web.doors.identify(old) is None
    assert who(browser) == "anna (reader)"


# --- attacks ---------------------------------------------------------------------------------


def refused(web: Web, browser: Browser, answer: Any, status: int = 401) -> bool:
    """Check that nobody is let in, nobody is added, and that it is written down."""
    assert answer.status_code == status
    assert "cxr-session" not in browser.client.cookies
    assert who(browser) == ""
    assert names(web) == []
    assert outcomes(web)[-1][1] != "0"
    return True


def test_another_state_is_refused(web: Web, browser: Browser, provider: Provider) -> None:
    back = re.sub(r"state=[^&]*", "state=guessed", go(browser))
    assert refused(web, browser, browser.get(back), 400)
    assert provider.redeemed == []


def test_a_way_back_that_was_not_begun_is_refused(web: Web, browser: Browser) -> None:
    assert refused(web, browser, browser.get(f"{BACK}?code=a&state=b"), 400)
    assert refused(web, browser, browser.get(f"{BACK}?error=access_denied"), 400)


def test_a_way_back_goes_once(web: Web, browser: Browser, provider: Provider) -> None:
    back = go(browser)
    kept = dict(browser.client.cookies)
    assert browser.get(back).status_code == 200
    assert browser.get(back).status_code == 400
    browser.client.cookies.update(kept)  # also where the browser's cookie was copied
    assert browser.get(back).status_code == 401
    assert len(provider.redeemed) == 2


def test_a_code_of_one_browser_is_nothing_in_another(
    web: Web, browser: Browser, provider: Provider
) -> None:
    stolen = go(browser)
    with web.browser() as other:
        assert refused(web, other, other.get(stolen), 400)
        mine = go(other)
        code, state = (parse_qs(urlsplit(at).query) for at in (stolen, mine))
        injected = {"code": code["code"][0], "state": state["state"][0], "iss": provider.issuer}
        assert refused(web, other, other.get(BACK, params=injected))


def test_a_code_of_another_browser_is_refused_by_its_nonce_too(
    web: Web, browser: Browser, provider: Provider
) -> None:
    provider.knows_challenge = False
    stolen = parse_qs(urlsplit(go(browser)).query)["code"][0]
    with web.browser() as other:
        state = parse_qs(urlsplit(go(other)).query)["state"][0]
        injected = {"code": stolen, "state": state, "iss": provider.issuer}
        assert refused(web, other, other.get(BACK, params=injected))


def test_a_sign_in_that_took_too_long_is_refused(
    web: Web, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = go(browser)
    there = web.services.elsewhere
    assert there is not None
    now = there._clock()
    monkeypatch.setattr(there, "_clock", lambda: now.replace(year=now.year + 1, day=1))
    assert refused(web, browser, browser.get(back), 400)


Spoil = Callable[[Claims], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda claims: claims.update(nonce="another"),
        lambda claims: claims.pop("nonce"),
        lambda claims: claims.update(aud="another-client"),
        lambda claims: claims.update(aud=["another-client"]),
        lambda claims: claims.update(aud=[CLIENT, "another-client"]),
        lambda claims: claims.update(aud=[CLIENT, "another-client"], azp="another-client"),
        lambda claims: claims.update(azp="another-client"),
        lambda claims: claims.pop("aud"),
        lambda claims: claims.update(iss="https://evil.example"),
        lambda claims: claims.update(iss=claims["iss"] + "/"),
        lambda claims: claims.pop("iss"),
        lambda claims: claims.update(exp=int(time.time()) - 120, iat=int(time.time()) - 500),
        lambda claims: claims.update(exp="tomorrow"),
        lambda claims: claims.update(exp=float("nan")),
        lambda claims: claims.pop("exp"),
        lambda claims: claims.update(iat=int(time.time()) + 3600),
        lambda claims: claims.update(nbf=int(time.time()) + 3600),
        lambda claims: claims.update(sub=""),
        lambda claims: claims.update(sub="x" * 256),
        lambda claims: claims.update(sub=7),
        lambda claims: claims.update(at_hash="another"),
    ],
)
def test_a_token_that_says_something_else_is_refused(
    web: Web, browser: Browser, provider: Provider, spoil: Spoil
) -> None:
    provider.spoil = spoil
    assert refused(web, browser, sign_in(browser))


def test_clocks_may_differ_a_little(browser: Browser, provider: Provider) -> None:
    now = int(time.time())
    provider.spoil = lambda claims: claims.update(iat=now + 30, exp=now - 20)
    assert sign_in(browser).status_code == 200


def test_a_token_of_several_may_be_for_us(browser: Browser, provider: Provider) -> None:
    provider.spoil = lambda claims: claims.update(aud=[CLIENT, "other"], azp=CLIENT)
    assert sign_in(browser).status_code == 200


@pytest.mark.parametrize("how", ["unsigned", "signed_with_the_public_key"])
def test_a_token_that_everybody_could_have_signed_is_refused(
    web: Web, browser: Browser, provider: Provider, how: str
) -> None:
    provider.sign = getattr(provider, how)
    assert refused(web, browser, sign_in(browser))


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "é.é.é", 7, None, "x" * 2000])
def test_what_is_no_token_is_refused(
    web: Web, browser: Browser, provider: Provider, token: Any
) -> None:
    provider.sign = lambda claims: token
    assert refused(web, browser, sign_in(browser))


def test_a_signature_of_another_key_under_the_same_name_is_refused(
    web: Web, browser: Browser, provider: Provider
) -> None:
    provider.sign = lambda claims: provider.signed(claims, kid=KEYS[0].kid)
    provider.key = KEYS[1]
    assert refused(web, browser, sign_in(browser))


def test_keys_are_fetched_again_once_when_they_were_changed(
    browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    assert provider.asked.count("/keys") == 1
    provider.key, provider.published = KEYS[1], KEYS
    assert sign_in(browser).status_code == 200
    assert sign_in(browser).status_code == 200
    assert provider.asked.count("/keys") == 2


def test_a_key_that_is_not_published_is_looked_for_once(
    web: Web, browser: Browser, provider: Provider
) -> None:
    provider.key = KEYS[1]
    assert refused(web, browser, sign_in(browser))
    assert provider.asked.count("/keys") == 2


def test_a_token_without_a_key_id_is_taken_where_there_is_one_key(
    browser: Browser, provider: Provider
) -> None:
    provider.sign = lambda claims: nameless(provider, claims)
    assert sign_in(browser).status_code == 200


def test_a_token_without_a_key_id_is_refused_where_there_are_several(
    web: Web, browser: Browser, provider: Provider
) -> None:
    provider.sign, provider.published = lambda claims: nameless(provider, claims), KEYS
    assert refused(web, browser, sign_in(browser))


def nameless(provider: Provider, claims: Claims) -> str:
    return jwt.encode({"alg": "RS256"}, claims, provider.key)


@pytest.mark.parametrize("sent", ["https://evil.example", False])
def test_the_way_back_from_another_provider_is_refused(
    web: Web, browser: Browser, provider: Provider, sent: str | bool
) -> None:
    provider.document = lambda found: {
        **found, "authorization_response_iss_parameter_supported": True,
    }  # fmt: skip
    provider.sends_issuer = sent
    assert refused(web, browser, sign_in(browser))
    assert provider.redeemed == []


def test_a_provider_that_never_says_who_it_is_need_not(
    browser: Browser, provider: Provider
) -> None:
    provider.sends_issuer = False
    assert sign_in(browser).status_code == 200


def test_userinfo_about_somebody_else_is_refused(
    web: Web, browser: Browser, provider: Provider
) -> None:
    del provider.claims["groups"]
    provider.userinfo = {"sub": "another", "groups": ["it"]}
    assert refused(web, browser, sign_in(browser))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "TESTSERVER:81"])
def test_the_host_that_a_browser_names_changes_nothing(
    web: Web, provider: Provider, host: str
) -> None:
    with web.browser() as browser:
        begun = browser.get(START, headers={"Host": host})
    assert begun.status_code == 303
    assert begun.headers["location"] == f"{ORIGIN}{START}?again=true&to=%2F"
    assert browser.client.cookies.get("cxr-signing-in") is None
    assert provider.asked == []


def test_a_host_that_is_not_ours_is_refused(browser: Browser) -> None:
    assert browser.get(START, headers={"Host": "evil.example"}).status_code == 400


def test_a_proxy_that_hides_the_address_is_told_and_goes_in_no_circle(browser: Browser) -> None:
    answer = browser.get(f"{START}?again=true", headers={"Host": "localhost"})
    assert answer.status_code == 500
    assert "CXR_WEB_URL is http://testserver, but this came as http://localhost" in answer.text


@pytest.mark.parametrize(
    "to", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "x"]
)
def test_a_sign_in_leads_to_no_other_site(browser: Browser, to: str) -> None:
    answer = sign_in(browser, to)
    assert answer.status_code == 200
    assert 'content="0; url=/">' in answer.text


def test_a_path_is_text_in_the_page_that_leads_on(browser: Browser) -> None:
    answer = sign_in(browser, "/studies/\"><script>alert(1)</script>'; url=//evil.example")
    assert "<script>alert" not in answer.text
    assert answer.text.count("http-equiv") == 1


def test_an_error_of_the_provider_is_told_by_its_code_alone(web: Web, browser: Browser) -> None:
    state = parse_qs(urlsplit(go(browser)).query)["state"][0]
    answer = browser.get(BACK, params={"state": state, "error": "access_denied"})
    assert "The provider let nobody in: access_denied." in answer.text
    assert refused(web, browser, answer)
    state = parse_qs(urlsplit(go(browser)).query)["state"][0]
    answer = browser.get(BACK, params={"state": state, "error": "call 0800 1234 now"})
    assert "0800" not in answer.text


def test_those_who_come_back_too_often_wait(web: Web, browser: Browser, provider: Provider) -> None:
    provider.spoil = lambda claims: claims.pop("nonce")
    assert [sign_in(browser).status_code for _ in range(21)] == [401] * 20 + [429]
    assert len(provider.redeemed) == 20
    assert outcomes(web)[-1] == ("(somebody by the provider)", "8")
    assert sign_in(browser).status_code == 429
    assert len(outcomes(web)) == 21


def test_strays_keep_nobody_out_and_do_not_fill_the_trail(web: Web, browser: Browser) -> None:
    statuses = [browser.get(f"{BACK}?code=a&state=b").status_code for _ in range(30)]
    assert statuses == [400] * 20 + [429] * 10
    assert len(outcomes(web)) == 21
    assert sign_in(browser).status_code == 200


def test_many_who_sign_in_from_one_address_are_not_kept_out(browser: Browser) -> None:
    assert {sign_in(browser).status_code for _ in range(25)} == {200}


# --- who may not -----------------------------------------------------------------------------


def test_whoever_has_no_role_is_not_let_in(web: Web, browser: Browser, provider: Provider) -> None:
    provider.claims["groups"] = ["kitchen"]
    answer = sign_in(browser)
    assert "none of the roles" in answer.text
    assert refused(web, browser, answer, 403)
    assert outcomes(web) == [("Anna", "4")]


@pytest.mark.parametrize(
    "groups", [None, {}, {"radiology": True}, [["radiology"]], 7, "radiology,x"]
)
def test_a_claim_that_is_not_understood_gives_no_role(
    web: Web, browser: Browser, provider: Provider, groups: Any
) -> None:
    provider.claims["groups"] = groups
    assert refused(web, browser, sign_in(browser), 403)


def test_a_role_that_was_taken_away_ends_what_still_works(
    web: Web, browser: Browser, provider: Provider
) -> None:
    sign_in(browser)
    now = web.ward.clock()
    with web.ward.sessions() as session, session.begin():
        token = tokens.add(session, "anna", "viewer of OHIF", now, web.doors.absolute)
    assert tokens.find(web.ward.sessions, token, now) is not None
    provider.claims["groups"] = []
    with web.browser() as other:
        assert sign_in(other).status_code == 403
    assert who(browser) == ""
    assert tokens.find(web.ward.sessions, token, now) is None


def test_a_local_user_of_the_same_name_stays_who_they_are(
    web: Web, browser: Browser, provider: Provider
) -> None:
    web.add("anna", Role.ADMIN)
    assert sign_in(browser).status_code == 200
    assert re.fullmatch(r"anna-[0-9a-f]{6} \(reader\)", who(browser))
    local = user(web, "anna")
    assert (local.role, local.subject) == ("admin", None)
    with web.browser("anna") as other:
        assert who(other) == "anna (admin)"


def test_a_user_of_the_provider_has_no_password(web: Web, browser: Browser) -> None:
    sign_in(browser)
    with web.browser() as other:
        for password in ("", PASSWORD, "None"):
            assert other.sign_in("anna", password).status_code in (401, 422)


def test_a_disabled_user_is_not_let_in(web: Web, browser: Browser, provider: Provider) -> None:
    sign_in(browser)
    with web.ward.sessions() as session, session.begin():
        users.disable(session, "anna")
    assert who(browser) == ""
    provider.claims["groups"] = ["it"]
    answer = sign_in(browser)
    assert (answer.status_code, who(browser)) == (403, "")
    assert "disabled" in answer.text
    assert user(web, "anna").role == "reader"
    assert outcomes(web)[-1] == ("anna", "4")


def test_nobody_is_let_in_or_added_that_is_not_written_down(
    web: Web, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NotRecorded("no space")

    back = go(browser)
    monkeypatch.setattr(web.trail, "record", full)
    assert browser.get(back).status_code == 503
    assert names(web) == []
    assert "cxr-session" not in browser.client.cookies


# --- a provider that is away or talks nonsense -----------------------------------------------


def nonsense(**changes: Any) -> Callable[[Claims], Any]:
    return lambda found: {**found, **changes}


@pytest.mark.parametrize(
    "document",
    [
        lambda found: b"<html>",
        lambda found: [],
        lambda found: {},
        lambda found: b"[" * 100_000,
        lambda found: b" " * (1 << 21),
        nonsense(issuer="https://evil.example"),
        lambda found: {**found, "issuer": found["issuer"] + "/"},
        nonsense(token_endpoint="http://192.0.2.7/token"),
        nonsense(authorization_endpoint="javascript:alert(1)"),
        nonsense(jwks_uri=7),
        nonsense(code_challenge_methods_supported=["plain"]),
        nonsense(id_token_signing_alg_values_supported=["HS256", "none"]),
    ],
)
def test_a_provider_that_cannot_be_used_is_told_and_leaves_the_other_way(
    web: Web, browser: Browser, provider: Provider, document: Any
) -> None:
    web.add("rescue", Role.ADMIN)
    provider.document = document
    answer = browser.get(START)
    assert answer.status_code == 502
    assert "Hospital account cannot be asked just now" in answer.text
    assert browser.sign_in("rescue").status_code == 303


def test_a_provider_that_publishes_no_public_key_is_not_used(
    browser: Browser, provider: Provider
) -> None:
    provider.keys = lambda: {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "key-1"}, {}, 7]}
    assert browser.get(START).status_code == 502


def test_a_provider_that_is_away_is_let_be_for_a_moment(
    ward: Ward, tmp_path: Path, provider: Provider
) -> None:
    now = [0.0]
    there = elsewhere(provider, steady=lambda: now[0])
    with Web(ward, tmp_path, elsewhere=there).browser() as browser:
        provider.status = 503
        assert [browser.get(START).status_code for _ in range(3)] == [502] * 3
        assert len(provider.asked) == 1
        provider.status, now[0] = 200, 11.0
        assert sign_in(browser).status_code == 200


def test_what_a_provider_says_of_itself_is_asked_again_after_an_hour(
    ward: Ward, tmp_path: Path, provider: Provider
) -> None:
    now = [0.0]
    there = elsewhere(provider, steady=lambda: now[0])
    with Web(ward, tmp_path, elsewhere=there).browser() as browser:
        for at in (0.0, 3599.0, 3601.0):
            now[0] = at
            assert browser.get(START).status_code == 303
    assert provider.asked.count("/keys") == 2


def test_a_provider_that_goes_away_on_the_way_is_told(
    web: Web, browser: Browser, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = go(browser)
    monkeypatch.setattr(provider, "redeem", lambda *_: (500, b"<html>"))
    assert refused(web, browser, browser.get(back), 502)


def test_those_who_wait_for_a_provider_keep_nobody_else_waiting(
    ward: Ward, tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "STEP_S", 120.0)
    web = Web(ward, tmp_path, elsewhere=elsewhere(provider))
    web.add("rescue", Role.ADMIN)
    provider.hold = threading.Event()
    most = fetching.AT_ONCE

    def begin() -> int:
        with web.browser() as browser:
            return browser.get(START).status_code

    with ThreadPoolExecutor(most) as pool:
        waiting = [pool.submit(begin) for _ in range(most)]
        wait_until(lambda: len(provider.asked) == most, 60, "all to ask")
        assert begin() == 502
        with web.browser("rescue") as browser:
            assert browser.get("/").status_code == 200
        provider.hold.set()
        assert {each.result() for each in waiting} == {303}
    assert begin() == 303


def test_no_secret_is_in_any_log(
    web: Web, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    sign_in(browser)
    provider.spoil = lambda claims: claims.pop("nonce")
    back = go(browser)
    browser.get(back)
    code = parse_qs(urlsplit(back).query)["code"][0]
    form = provider.redeemed[-1]
    log = "\n".join(each.getMessage() for each in caplog.records if each.name != "httpx2")
    assert "nobody is signed in by" in log
    for secret in (code, form["code_verifier"], "Anna", "0a1b"):
        assert secret not in log
    assert code not in web.audited()
