"""Settings of signing in by a provider: nothing where nothing is said, and nothing by halves."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from worker.access.roles import Role
from worker.oidc.elsewhere import Elsewhere, provider_of
from worker.oidc.role_rules import RoleRules
from worker.settings import Settings

ISSUER = {"CXR_OIDC_ISSUER": "https://sso.example.org/realms/hospital"}
WHOLE = {
    **ISSUER, "CXR_OIDC_CLIENT_ID": "cxr-worker", "CXR_OIDC_ROLES": "groups:radiology=reader",
}  # fmt: skip
OTHERS = {
    "CXR_WEB_BIND": "192.0.2.7", "CXR_WEB_HOSTS": "cxr.example.org", "CXR_WEB_PROXIES": "192.0.2.1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def read(**environ: str) -> Settings:
    return Settings.from_env({**WHOLE, **environ})


def mistake(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(**environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_set_is_local_users_alone() -> None:
    settings = Settings.from_env({})
    assert settings.oidc_issuer is None
    assert Elsewhere.of(settings) is None


def test_on_this_machine_people_come_back_to_where_the_pages_are() -> None:
    settings = read()
    assert settings.web_origin == "http://127.0.0.1:8080"
    client = provider_of(settings).client
    assert client.redirect_uri == "http://127.0.0.1:8080/sign-in/oidc/back"
    assert (client.secret, client.scopes) == (None, "openid profile")


def test_others_come_back_to_the_address_that_is_set() -> None:
    settings = read(**OTHERS, CXR_WEB_URL="https://CXR.example.org:443/")
    client = provider_of(settings).client
    assert client.redirect_uri == "https://cxr.example.org/sign-in/oidc/back"
    there = read(**OTHERS, CXR_WEB_URL="https://cxr.example.org:8443")
    assert there.web_origin == "https://cxr.example.org:8443"


@pytest.mark.parametrize("missing", ["CXR_OIDC_CLIENT_ID", "CXR_OIDC_ROLES"])
def test_what_is_missing_is_named(missing: str) -> None:
    assert mistake(**{missing: ""}).startswith(f"{missing}: is not set, but CXR_OIDC_ISSUER is")


def test_an_address_that_others_reach_must_be_told() -> None:
    assert mistake(**OTHERS).startswith("CXR_WEB_URL: is not set, but CXR_OIDC_ISSUER is")


def test_an_address_that_is_not_answered_to_is_refused() -> None:
    words = mistake(**OTHERS, CXR_WEB_URL="https://pacs.example.org")
    assert words.startswith("CXR_WEB_URL: names pacs.example.org, which CXR_WEB_HOSTS does not")


def test_without_pages_nothing_of_it_is_needed() -> None:
    assert read(CXR_WEB_PORT="off", CXR_WEB_BIND="192.0.2.7").web_port is None


@pytest.mark.parametrize(
    "issuer",
    [
        "http://sso.example.org", "sso.example.org", "https://", "ftp://sso.example.org",
        "https://a:b@sso.example.org", "https://sso.example.org?x=1", "https://sso.example.org#x",
        "https://sso.example.org:port", "https://sso.ex ample.org", "https://[::1",
        "https://sso.example.org/" + "x" * 255,
    ],
)  # fmt: skip
def test_an_issuer_that_is_not_safe_is_refused(issuer: str) -> None:
    assert mistake(CXR_OIDC_ISSUER=issuer).startswith("CXR_OIDC_ISSUER: ")


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8180/realms/x", "http://localhost:1"])
def test_an_issuer_on_this_machine_may_do_without_tls(issuer: str) -> None:
    assert read(CXR_OIDC_ISSUER=issuer).oidc_issuer == issuer


@pytest.mark.parametrize(
    "url", ["http://cxr.example.org", "https://cxr.example.org/pages", "cxr.example.org"]
)
def test_an_address_of_the_pages_that_is_none_is_refused(url: str) -> None:
    assert mistake(**OTHERS, CXR_WEB_URL=url).startswith("CXR_WEB_URL: ")


def test_scopes_hold_openid() -> None:
    assert read(CXR_OIDC_SCOPES="openid, groups").oidc_scopes == "openid groups"
    assert mistake(CXR_OIDC_SCOPES="profile").startswith("CXR_OIDC_SCOPES: must hold openid")


# --- roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "claim", "roles"),
    [
        ("groups:radiology=reader,it=admin", "groups",
         (("radiology", Role.READER), ("it", Role.ADMIN))),
        (" groups : /Radiology = Reader ,", "groups", (("/Radiology", Role.READER),)),
        ("https://example.org/roles:a=viewer", "https://example.org/roles", (("a", Role.VIEWER),)),
        ("groups:CN=radiology=reader", "groups", (("CN=radiology", Role.READER),)),
    ],
)  # fmt: skip
def test_roles_are_read(text: str, claim: str, roles: object) -> None:
    assert read(CXR_OIDC_ROLES=text).oidc_roles == RoleRules(claim, roles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("radiology=reader", "must be a claim and its values"),
        ("groups:radiology", "'radiology' gives no role"),
        ("groups:", "must be a claim"),
        ("groups:radiology=reader,it", "'it' gives no role"),
        ("groups:radiology=doctor", "'doctor' is no role; there are viewer, reader, admin"),
        ("groups:=reader", "gives no role to a value"),
    ],
)
def test_roles_that_are_none_are_told(text: str, words: str) -> None:
    assert words in mistake(CXR_OIDC_ROLES=text)


def test_the_highest_role_counts_and_dots_lead_into_objects() -> None:
    rules = read(CXR_OIDC_ROLES="realm_access.roles:a=viewer,b=admin,c=reader").oidc_roles
    assert rules is not None
    assert rules.role_of({"realm_access": {"roles": ["c", "b", "a"]}}) is Role.ADMIN
    assert rules.role_of({"realm_access.roles": "a"}) is Role.VIEWER
    assert rules.role_of({"realm_access": "a"}) is None
    assert rules.role_of({}) is None


# --- files -----------------------------------------------------------------------------------


def test_the_secret_is_what_its_file_holds(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret: & more\n")
    settings = read(CXR_OIDC_CLIENT_SECRET_FILE="secret")
    assert provider_of(settings).client.secret == "a secret: & more"


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff"])
def test_a_secret_that_cannot_be_read_stops_the_start(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^CXR_OIDC_CLIENT_SECRET_FILE: ") as caught:
        provider_of(read(CXR_OIDC_CLIENT_SECRET_FILE="secret"))
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_stops_the_start(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConfigurationError, match=r"^CXR_OIDC_AUTHORITY: "):
        provider_of(read(CXR_OIDC_AUTHORITY="ca.pem"))
