"""Settings of the web pages and of the audit trail: safe where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from worker.settings import Settings
from worker.settings_values import Receiver

PEM = {"CXR_WEB_CERTIFICATE": "c.pem", "CXR_WEB_KEY": "k.pem"}
SYSLOG = {"CXR_AUDIT_SYSLOG": "syslog.example.org:6514", "CXR_AUDIT_AUTHORITY": "a.pem"}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_set_is_safe_for_one_machine(tmp_path: Path) -> None:
    settings = Settings.from_env({})
    assert (settings.web_port, settings.web_bind) == (8080, "127.0.0.1")
    assert settings.web_hosts == LOOPBACK
    assert (settings.web_idle_min, settings.web_session_h) == (30, 12)
    assert settings.web_proxies == ()
    assert settings.audit_path == tmp_path / "cxr-home" / "audit" / "audit.log"
    assert settings.audit_syslog is None


def test_the_web_pages_can_be_turned_off() -> None:
    assert Settings.from_env({"CXR_WEB_PORT": "off"}).web_port is None
    assert Settings.from_env({"CXR_WEB_PORT": "OFF", "CXR_WEB_BIND": "192.0.2.7"}).web_port is None


@pytest.mark.parametrize("bind", ["192.0.2.7", "0.0.0.0", "::", "2001:db8::7", "cxr.example.org"])
def test_an_address_that_others_reach_needs_tls(bind: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^CXR_WEB_CERTIFICATE: is not set, but"
    ) as caught:
        Settings.from_env({"CXR_WEB_BIND": bind, "CXR_WEB_HOSTS": "cxr.example.org"})
    for words in (bind, "CXR_WEB_KEY", "CXR_WEB_PROXIES"):
        assert words in str(caught.value)


@pytest.mark.parametrize("bind", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "LOCALHOST"])
def test_an_address_of_this_machine_alone_needs_none(bind: str) -> None:
    assert Settings.from_env({"CXR_WEB_BIND": bind}).web_certificate is None


@pytest.mark.parametrize("tls", [PEM, {"CXR_WEB_PROXIES": "192.0.2.0/24"}])
def test_tls_may_be_ours_or_that_of_a_proxy(tls: dict[str, str]) -> None:
    settings = Settings.from_env({"CXR_WEB_BIND": "192.0.2.7", **tls})
    assert settings.web_hosts == (*LOOPBACK, "192.0.2.7")


def test_on_every_address_the_hosts_must_be_named() -> None:
    environ = {"CXR_WEB_BIND": "0.0.0.0", **PEM}
    with pytest.raises(ConfigurationError, match=r"^CXR_WEB_HOSTS: is not set, but .* 0\.0\.0\.0"):
        Settings.from_env(environ)
    named = Settings.from_env(
        {**environ, "CXR_WEB_HOSTS": "CXR.example.org, [2001:DB8::1],10.0.0.1"}
    )
    assert named.web_hosts == ("cxr.example.org", "2001:db8::1", "10.0.0.1")


@pytest.mark.parametrize("kind", ["WEB", "AUDIT"])
def test_a_certificate_needs_its_key_and_the_other_way_round(kind: str) -> None:
    certificate, key = f"CXR_{kind}_CERTIFICATE", f"CXR_{kind}_KEY"
    with pytest.raises(ConfigurationError, match=f"^{key}: is not set, but {certificate} is"):
        Settings.from_env({certificate: "c.pem"})
    with pytest.raises(ConfigurationError, match=f"^{certificate}: is not set, but {key} is"):
        Settings.from_env({key: "k.pem"})


@pytest.mark.parametrize(
    ("environ", "other"),
    [
        ({"CXR_WEB_PORT": "11112"}, "CXR_PORT"),
        ({"CXR_PORT": "8080"}, "CXR_PORT"),
        ({"CXR_WEB_PORT": "2762", "CXR_TLS_PORT": "2762"}, "CXR_TLS_PORT"),
    ],
)
def test_the_web_pages_need_a_port_of_their_own(environ: dict[str, str], other: str) -> None:
    tls = dict.fromkeys(("CXR_TLS_CERTIFICATE", "CXR_TLS_KEY", "CXR_TLS_AUTHORITY"), "x.pem")
    with pytest.raises(ConfigurationError, match=f"^CXR_WEB_PORT: is {other} too"):
        Settings.from_env({**environ, **tls})


def test_any_free_port_is_no_port_of_somebody_else() -> None:
    assert Settings.from_env({"CXR_PORT": "0", "CXR_WEB_PORT": "0"}).web_port == 0


def test_a_receiver_of_the_audit_trail_must_be_known_by_its_certificate() -> None:
    with pytest.raises(ConfigurationError, match=r"^CXR_AUDIT_AUTHORITY: is not set; CXR_AUDIT_SY"):
        Settings.from_env({"CXR_AUDIT_SYSLOG": "syslog.example.org:6514"})
    assert Settings.from_env(SYSLOG).audit_syslog == Receiver("syslog.example.org", 6514)


def test_a_receiver_may_be_an_ipv6_address() -> None:
    settings = Settings.from_env({**SYSLOG, "CXR_AUDIT_SYSLOG": "[2001:DB8::7]:6514"})
    assert settings.audit_syslog == Receiver("2001:db8::7", 6514)
    assert str(settings.audit_syslog) == "[2001:db8::7]:6514"
    assert str(Receiver("h", 1)) == "h:1"
