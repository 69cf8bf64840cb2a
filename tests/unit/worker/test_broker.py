"""The broker as the settings have it, and TLS before a real Redis."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from tests.brokers import Valkey, forwarding
from tests.certificates import Authority
from worker import broker
from worker.checks import check_broker
from worker.settings import Settings

SENTINELS = "sentinel://:secret@a:26379/1;sentinel://b:26379/1"


def settings(tmp_path: Path, url: str, **others: str) -> Settings:
    return Settings.from_env({"CXR_HOME": str(tmp_path), "CXR_BROKER_URL": url, **others})


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("redis://h:6379/0", "redis"),
        ("rediss://user:p%40ss@h/0", "rediss"),
        ("redis+socket:///run/redis.sock", "redis+socket"),
        ("redis://[::1]:6379/0", "redis"),
        ("amqp://u:p@h//", "amqp"),
        ("amqps://u:p@h:5671/cxr", "amqps"),
        (SENTINELS, "sentinel"),
    ],
)
def test_a_broker_is_known_by_its_scheme(tmp_path: Path, url: str, scheme: str) -> None:
    ours = settings(tmp_path, url)
    assert (ours.broker_url, ours.broker_scheme) == (url, scheme)
    assert not ours.embedded_broker


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@a/0;redis://:hunter2@b/0", "amqp://u:hunter2@a//;amqp://u:hunter2@b//",
        "sentinel://:hunter2@a;redis://b", "sentinel://:hunter2@a;b", "redis://:hunter2@/0",
        "redis://:hunter2@h:port/0", "amqp://u:hunter2@h:70000//", "amqp://u:hunter2#@h//",
    ],
)  # fmt: skip
def test_a_wrong_url_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^CXR_BROKER_URL: ") as caught:
        settings(tmp_path, url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "given", "key"),
    [
        ("redis://h/0", {"CXR_BROKER_AUTHORITY": "a.pem"}, "CXR_BROKER_AUTHORITY"),
        ("amqp://h//", {"CXR_BROKER_AUTHORITY": "a.pem"}, "CXR_BROKER_AUTHORITY"),
        ("", {"CXR_BROKER_AUTHORITY": "a.pem"}, "CXR_BROKER_AUTHORITY"),
        ("rediss://h/0", {"CXR_BROKER_KEY": "k.pem"}, "CXR_BROKER_CERTIFICATE"),
        ("amqps://h//", {"CXR_BROKER_CERTIFICATE": "c.pem"}, "CXR_BROKER_KEY"),
        (
            SENTINELS,
            {"CXR_BROKER_CERTIFICATE": "c.pem", "CXR_BROKER_KEY": "k.pem"},
            "CXR_BROKER_AUTHORITY",
        ),
    ],
)
def test_files_of_tls_that_would_not_be_used_are_refused(
    tmp_path: Path, url: str, given: dict[str, str], key: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, url, **given)
    assert caught.value.setting == key


@pytest.mark.parametrize("url", ["redis://h/0", "amqp://h//", SENTINELS])
def test_without_tls_nothing_is_said_of_it(tmp_path: Path, url: str) -> None:
    assert "broker_use_ssl" not in broker.celery_options(settings(tmp_path, url))


@pytest.mark.parametrize("url", ["redis://h/0", "amqp://h//", SENTINELS])
def test_messages_are_not_kept_and_nobody_waits_long_for_a_broker(tmp_path: Path, url: str) -> None:
    options = broker.celery_options(settings(tmp_path, url))
    transport = options["broker_transport_options"]
    assert options["task_default_delivery_mode"] == "transient"
    assert transport["max_retries"] == 1
    assert not transport.get("ack_emulation")
    assert not transport.get("confirm_publish")
    assert max(transport.get("socket_timeout", 0), transport.get("write_timeout", 0)) <= 10


@pytest.mark.parametrize(("url", "prefix"), [("rediss://h/0", "ssl_"), ("amqps://h//", "")])
def test_a_broker_with_tls_is_held_against_its_certificate(
    tmp_path: Path, url: str, prefix: str
) -> None:
    files = {"AUTHORITY": "ca_certs", "CERTIFICATE": "certfile", "KEY": "keyfile"}
    given = {f"CXR_BROKER_{key}": str(tmp_path / f"{key}.pem") for key in files}
    tls = broker.celery_options(settings(tmp_path, url, **given))["broker_use_ssl"]
    assert {key: tls[prefix + name] for key, name in files.items()} == {
        key: str(tmp_path / f"{key}.pem") for key in files
    }
    assert tls[f"{prefix}cert_reqs"] in ("required", ssl.CERT_REQUIRED)


def test_the_sentinels_have_a_password_and_tls_of_their_own(tmp_path: Path) -> None:
    ours = settings(
        tmp_path, SENTINELS, CXR_BROKER_MASTER="cxr", CXR_BROKER_SENTINEL_PASSWORD="s3",
        CXR_BROKER_AUTHORITY=str(tmp_path / "a.pem"),
    )  # fmt: skip
    options = broker.transport_options(ours)
    assert options["master_name"] == "cxr"
    sentinels = options["sentinel_kwargs"]
    assert (sentinels["password"], sentinels["ssl"]) == ("s3", True)
    assert sentinels["ssl_ca_certs"] == broker.tls_options(ours)["ssl_ca_certs"]


def test_bells_for_later_wait_at_home_where_they_would_fill_a_worker(tmp_path: Path) -> None:
    held = {url: broker.holds_bells(settings(tmp_path, url)) for url in ("redis://h", "amqp://h")}
    assert held == {"redis://h": False, "amqp://h": True}


# --- a real server behind TLS ----------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("broker-tls") / "ours")


@pytest.fixture(scope="module")
def tls_port(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis behind TLS, which asks for a certificate."""
    files = authority.issue("broker", hosts="IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    try:
        with forwarding(lambda: server.port, context) as port:
            yield port
    finally:
        server.kill()


def certificates(authority: Authority, trusted: Authority | None = None) -> dict[str, str]:
    files = authority.issue("worker")
    return {
        "CXR_BROKER_AUTHORITY": str((trusted or authority).certificate),
        "CXR_BROKER_CERTIFICATE": str(files.certificate),
        "CXR_BROKER_KEY": str(files.key),
    }


def test_a_broker_answers_over_tls(tmp_path: Path, tls_port: int, authority: Authority) -> None:
    url = f"rediss://127.0.0.1:{tls_port}/0"
    check = check_broker(settings(tmp_path, url, **certificates(authority)))
    assert check.healthy, check.found


def test_a_broker_of_others_is_not_believed(
    tmp_path: Path, tls_port: int, authority: Authority
) -> None:
    others = Authority(tmp_path / "others")
    url = f"rediss://127.0.0.1:{tls_port}/0"
    assert not check_broker(settings(tmp_path, url, **certificates(authority, others))).healthy


def test_a_broker_without_our_certificate_lets_nobody_in(
    tmp_path: Path, tls_port: int, authority: Authority
) -> None:
    trusted = {"CXR_BROKER_AUTHORITY": str(authority.certificate)}
    assert not check_broker(
        settings(tmp_path, f"rediss://127.0.0.1:{tls_port}/0", **trusted)
    ).healthy


def test_a_broker_under_another_name_is_not_believed(
    tmp_path: Path, tls_port: int, authority: Authority
) -> None:
    url = f"rediss://localhost:{tls_port}/0"
    assert not check_broker(settings(tmp_path, url, **certificates(authority))).healthy
