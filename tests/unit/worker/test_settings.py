"""Settings from the environment and files; a wrong one is one line that names its key."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.peer import Peer
from dicom_node.tls import TlsFiles
from worker.destinations import Destination, KnownPeer
from worker.settings import Settings, describe_settings
from worker.states import CompanionKind

WRONG = {
    "CXR_AE_TITLE": ["MORE-THAN-SIXTEEN-CHARS", "BACK\\SLASH", "GRÜN", "A\tB"],
    "CXR_PORT": ["70000", "-1", "dicom", "1.5"],
    "CXR_DATABASE_URL": ["mysql://host/x", "postgresql+psycopg://u:p@host:port/x", "results.db"],
    "CXR_BROKER_URL": ["http://host", "host:6379", "amqp://:5672//", "redis://a;redis://b"],
    "CXR_BROKER_AUTHORITY": ["authority.pem"],
    "CXR_ARCHIVE_RESERVE_MB": ["-1", "much"],
    "CXR_ARCHIVE_MAX_GB": ["0", "-1", "nan", "much"],
    "CXR_KEEP_IMAGES_DAYS": ["0", "-1", "inf", "1e9", "long"],
    "CXR_KEEP_REPORTS_DAYS": ["0", "-1", "inf", "1e9", "long"],
    "CXR_KEEP_RESULTS_DAYS": ["0", "-1", "inf", "1e9", "long", "30"],
    "CXR_DESTINATIONS": [
        "PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", "@host:104",
        "A@h:1,A@h:1", "A@h:1,nonsense", "SEVENTEENCHARACTERS@h:1", "A@h:1?tls=on,A@h:1",
        "A@h:1?colour=red", "A@h:1?tls=perhaps", "A@h:1?companions=video",
        "A@h:1;B@h:2", "A@h:1 B@h:2", "CXRWORKER@127.0.0.1:11112", "CXRWORKER@localhost:11112",
        "CXRWORKER@[::1]:11112",
    ],
    "CXR_PEERS": ["PACS", "A@h:1,A@h:2", "A@h:1?companions=picture"],
    "CXR_ALLOWED_HOSTS": ["somewhere", "192.0.2.7/24", "192.0.2.0/33", "192.0.2.7,300.1.1.1"],
    "CXR_REQUIRE_CALLED_AE_TITLE": ["perhaps"],
    "CXR_TLS_PORT": ["70000", "-1", "dicom"],
    "CXR_PLAINTEXT": ["perhaps", "off"],
    "CXR_MAXIMUM_PDU": ["0", "4095", "much"],
    "CXR_DECODE_LIMIT_S": ["0", "nan"],
    "CXR_ALLOWED_AE_TITLES": ["MORE-THAN-SIXTEEN-CHARS", "GOOD,BACK\\SLASH"],
    "CXR_MAX_ASSOCIATIONS": ["0", "many"],
    "CXR_NETWORK_TIMEOUT_S": ["0", "-5", "soon", "nan", "inf"],
    "CXR_QUIET_S": ["-0.1", "quiet", "nan", "inf"],
    "CXR_POPULATION": ["adults", "WITHHOLD"],
    "CXR_DEVICE": ["tpu"],
    "CXR_HEATMAPS": ["perhaps"],
    "CXR_ENGINE": ["onnx", "OpenVINO"],
    "CXR_GPU_MEMORY_MB": ["0", "-1", "all"],
    "CXR_BATCH_SIZE": ["0", "257", "x"],
    "CXR_LEASE_S": ["0", "inf"],
    "CXR_STEP_LIMIT_S": ["0"],
    "CXR_DELIVERY_TIMEOUT_S": ["0"],
    "CXR_DELIVERY_RETRY_S": ["0"],
    "CXR_DELIVERY_RETRY_MAX_S": ["0"],
    "CXR_MAX_ATTEMPTS": ["0"],
    "CXR_RELAY_INTERVAL_S": ["0"],
    "CXR_LOG_LEVEL": ["LOUD", "debug"],
    "CXR_WEB_PORT": ["70000", "-1", "on", "11112"],
    "CXR_WEB_PROXIES": ["somewhere", "192.0.2.7/24"],
    "CXR_WEB_HOSTS": ["https://cxr.example.org", "cxr.example.org:8080", "a b", "*"],
    "CXR_WEB_IDLE_MIN": ["0", "-5", "nan", "1441", "soon"],
    "CXR_WEB_SESSION_H": ["0", "inf", "169", "long"],
    "CXR_WEB_URL": ["http://cxr.example.org", "cxr.example.org", "https://cxr.example.org/pages"],
    "CXR_OIDC_ISSUER": ["http://sso.example.org", "sso.example.org", "https://sso.example.org?x"],
    "CXR_OIDC_CLIENT_ID": ["x" * 256],
    "CXR_OIDC_ROLES": ["radiology=reader", "groups:radiology=doctor", "groups:"],
    "CXR_OIDC_SCOPES": ["profile"],
    "CXR_OIDC_NAME": ["x" * 41],
    "CXR_AUDIT_SYSLOG": ["syslog.example.org", "host:0", "host:99999", ":6514", "tls://h:6514"],
    "CXR_DICOMWEB_ORIGINS": [
        "ohif.example.org", "*", "https://ohif.example.org/viewer", "ftp://ohif.example.org",
        "https://ohif.example.org:0", "https://a b", "null",
    ],
    "CXR_DICOMWEB_STORE_MB": ["-1", "1.5", "all", "65537"],
    "CXR_WEBHOOK_URL": [
        "alerts.example.org", "ftp://h/x", "https://", "https://u:p@h/x", "https://h/x#y",
        "https://h:port/", "http://alerts.example.org/x", "https://h/a b",
    ],
    "CXR_WEBHOOK_PLAINTEXT": ["perhaps"],
    "CXR_HL7_DESTINATION": ["host:2575", "mllp://host", "mllp://host:0", "tcp://host:2575"],
    "CXR_HL7_RECEIVING_APPLICATION": ["more than twenty characters"],
    "CXR_HL7_RECEIVING_FACILITY": ["more than twenty characters"],
    "CXR_HL7_SENDING_FACILITY": ["more than twenty characters"],
    "CXR_NOTIFY_FIELDS": ["everything", "patient_id,PatientName"],
    "CXR_LOG_FORMAT": ["xml", "JSON"],
    "CXR_ARCHIVE": ["ftp://host/x", "s3://", "s3://Not_A_Bucket/x", "s3://bucket/a/../b", "s3://b"],
    "CXR_S3_ENDPOINT": ["minio:9000", "ftp://minio", "http://", "https://me:hunter2@minio"],
    "CXR_METRICS_PORT": ["0", "70000", "http", "11112"],
    "CXR_OTLP_ENDPOINT": ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "off"],
    "CXR_TRACES_SAMPLE": ["-0.1", "1.5", "10%", "nan"],
}  # fmt: skip
# Any path and any host name may be right; these fail when they are used.
FREE = {
    "CXR_BROKER_CERTIFICATE", "CXR_BROKER_KEY", "CXR_BROKER_MASTER", "CXR_BROKER_SENTINEL_PASSWORD",
    "CXR_HOME", "CXR_BIND", "CXR_METRICS_BIND", "CXR_MODEL", "CXR_SPOOL",
    "CXR_TLS_CERTIFICATE", "CXR_TLS_KEY", "CXR_TLS_AUTHORITY",
    "CXR_WEB_BIND", "CXR_WEB_CERTIFICATE", "CXR_WEB_KEY",
    "CXR_OTLP_HEADERS_FILE",
    "CXR_OIDC_CLIENT_SECRET_FILE", "CXR_OIDC_AUTHORITY",
    "CXR_WEBHOOK_SECRET_FILE", "CXR_NOTIFY_AUTHORITY", "CXR_NOTIFY_CERTIFICATE", "CXR_NOTIFY_KEY",
    "CXR_AUDIT_FILE", "CXR_AUDIT_AUTHORITY", "CXR_AUDIT_CERTIFICATE", "CXR_AUDIT_KEY",
}  # fmt: skip
TLS = {"CXR_TLS_CERTIFICATE": "c.pem", "CXR_TLS_KEY": "k.pem", "CXR_TLS_AUTHORITY": "a.pem"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in WRONG.items() for v in values])
def test_a_wrong_value_is_one_line_that_names_the_key(key: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({key: value})
    assert caught.value.setting == key
    assert str(caught.value).startswith(f"{key}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > len(key) + 10


def test_each_setting_is_tried_with_a_wrong_value_or_takes_any() -> None:
    assert {key for key, _, _ in describe_settings()} == set(WRONG) | FREE


def test_each_setting_is_described() -> None:
    assert all(len(meaning) > 20 for _, _, meaning in describe_settings())


@pytest.mark.parametrize("key", ["CXR_DATABASE_URL", "CXR_BROKER_URL"])
def test_a_wrong_url_is_not_repeated_because_it_may_hold_a_password(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({key: "oracle://user:hunter2@host/x"})
    assert "hunter2" not in str(caught.value)


def test_nothing_set_gives_the_documented_defaults(tmp_path: Path) -> None:
    settings = Settings.from_env({})
    home = tmp_path / "cxr-home"
    assert (settings.ae_title, settings.port, settings.quiet_s) == ("CXRWORKER", 11112, 2)
    assert (settings.device, settings.engine) == ("auto", "auto")
    assert settings.population == "withhold"
    assert settings.home == home
    assert settings.archive_root == home / "archive"
    assert settings.database_url == f"sqlite:///{home}/cxr-worker.sqlite3"
    assert settings.broker_url == f"redis+socket://{home}/redis/redis.sock"
    assert settings.embedded_broker
    assert settings.destinations == ()
    assert settings.allowed_ae_titles == frozenset()


def test_the_folders_move_with_home(tmp_path: Path) -> None:
    settings = Settings.from_env({"CXR_HOME": str(tmp_path / "elsewhere")})
    assert settings.archive_root == tmp_path / "elsewhere" / "archive"
    assert str(tmp_path / "elsewhere") in settings.database_url


def test_values_are_read_into_their_types() -> None:
    settings = Settings.from_env({
        "CXR_DESTINATIONS": "PACS@192.0.2.7:104?tls=on, VIEWER@[::1]:11113?commitment=off",
        "CXR_PEERS": "VIEWER@[::1]:11113",
        "CXR_ALLOWED_HOSTS": "192.0.2.7, 198.51.100.0/24",
        **TLS,
        "CXR_ALLOWED_AE_TITLES": "CR1, DX2 ,",
        "CXR_BROKER_URL": "redis://host:6379/0",
        "CXR_DATABASE_URL": "postgresql://user:secret@host/cxr",
    })  # fmt: skip
    assert settings.destinations == (
        Destination(Peer("PACS", "192.0.2.7", 104), tls=True),
        Destination(Peer("VIEWER", "::1", 11113), commitment=False),
    )
    assert settings.peers == (KnownPeer(Peer("VIEWER", "::1", 11113)),)
    assert list(map(str, settings.allowed_hosts)) == ["192.0.2.7/32", "198.51.100.0/24"]
    assert settings.allowed_ae_titles == {"CR1", "DX2"}
    assert not settings.embedded_broker
    assert settings.database_url == "postgresql+psycopg://user:secret@host/cxr"


def test_an_empty_value_counts_as_not_set(tmp_path: Path) -> None:
    keys = (*WRONG, *FREE)
    assert Settings.from_env(dict.fromkeys(keys, "")) == Settings.from_env({})


@pytest.mark.parametrize(
    ("images", "reports", "results", "told"),
    [
        ("30", "30", "29.9", "CXR_KEEP_IMAGES_DAYS is 30"),
        ("10", "30", "20", "CXR_KEEP_REPORTS_DAYS is 30"),
        ("10", "", "20", "CXR_KEEP_REPORTS_DAYS is not set"),
        ("", "10", "20", "CXR_KEEP_IMAGES_DAYS is not set"),
    ],
)
def test_rows_are_kept_as_long_as_the_files_that_they_name(
    images: str, reports: str, results: str, told: str
) -> None:
    environ = {
        "CXR_KEEP_IMAGES_DAYS": images, "CXR_KEEP_REPORTS_DAYS": reports,
        "CXR_KEEP_RESULTS_DAYS": results,
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=told) as caught:
        Settings.from_env(environ)
    assert caught.value.setting == "CXR_KEEP_RESULTS_DAYS"
    settings = Settings.from_env(environ | {"CXR_KEEP_RESULTS_DAYS": ""})
    assert settings.keep_results_days is None


def test_days_may_be_parts_of_a_day() -> None:
    settings = Settings.from_env(
        {f"CXR_KEEP_{kind}_DAYS": "0.5" for kind in ("IMAGES", "REPORTS", "RESULTS")}
    )
    assert (settings.keep_images_days, settings.keep_results_days) == (0.5, 0.5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.from_env({}).port = 1  # type: ignore[misc]


def test_a_dotenv_file_in_the_working_folder_is_read() -> None:
    Path(".env").write_text('CXR_PORT=10400\nexport CXR_AE_TITLE="FROM FILE"\nOTHER=1\n')
    settings = Settings.from_env({})
    assert (settings.port, settings.ae_title) == (10400, "FROM FILE")


def test_the_environment_wins_over_the_file() -> None:
    Path(".env").write_text("CXR_PORT=10400\nCXR_AE_TITLE=FILE\n")
    settings = Settings.from_env({"CXR_PORT": "10500"})
    assert (settings.port, settings.ae_title) == (10500, "FILE")


def test_an_empty_value_in_the_environment_leaves_the_file_its_word() -> None:
    Path(".env").write_text("CXR_PORT=10400\n")
    assert Settings.from_env({"CXR_PORT": ""}).port == 10400


def test_a_toml_file_that_is_named_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cxr.toml"
    path.write_text(
        'port = 10400\nquiet_s = 0.5\ndestinations = ["A@h:1", "B@h:2"]\nCXR_AE_TITLE = "TOML"\n'
    )
    settings = Settings.from_env({"CXR_SETTINGS": str(path)})
    assert (settings.port, settings.quiet_s, settings.ae_title) == (10400, 0.5, "TOML")
    assert [str(each.peer) for each in settings.destinations] == ["A@h:1", "B@h:2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("absent.env", None), ("broken.toml", b"port = = 1"), ("latin1.toml", b'ae_title = "\xfc"'),
     ("latin1.env", b"CXR_AE_TITLE=\xfc\n")],
)  # fmt: skip
def test_a_settings_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^CXR_SETTINGS: .*" + name) as caught:
        Settings.from_env({"CXR_SETTINGS": str(path)})
    assert "\n" not in str(caught.value)


def test_a_wrong_value_in_a_file_names_the_key_too(tmp_path: Path) -> None:
    path = tmp_path / "cxr.toml"
    path.write_text("port = 99999\n")
    with pytest.raises(ConfigurationError, match=r"^CXR_PORT: "):
        Settings.from_env({"CXR_SETTINGS": str(path)})


def test_a_key_that_is_no_setting_is_warned_of_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        Settings.from_env({"CXR_PROT": "104", "HOME": "/nowhere"})
    assert [r.getMessage().split()[0] for r in caplog.records] == ["CXR_PROT"]


def test_keys_that_are_read_elsewhere_are_not_warned_of(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    Path(".env").touch()
    with caplog.at_level(logging.WARNING):
        Settings.from_env({"CXR_TEST_DATA": "/data", "CXR_SETTINGS": ".env"})
    assert not caplog.records


def test_the_socket_lies_in_home_when_its_path_is_short() -> None:
    settings = Settings.from_env({"CXR_HOME": "/srv/cxr"})
    assert settings.redis_socket == Path("/srv/cxr/redis/redis.sock")


def test_a_home_too_deep_for_a_socket_gets_one_elsewhere_of_its_own(tmp_path: Path) -> None:
    deep, other = (tmp_path / (letter * 90) for letter in "ab")
    first = Settings.from_env({"CXR_HOME": str(deep)})
    second = Settings.from_env({"CXR_HOME": str(other)})
    assert len(os.fsencode(first.redis_socket)) <= 107  # unix(7)
    assert first.redis_socket == Settings.from_env({"CXR_HOME": str(deep)}).redis_socket
    assert first.redis_socket != second.redis_socket
    assert first.embedded_broker


def test_destinations_and_peers_may_be_tables_of_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "cxr.toml"
    path.write_text(
        '[[destinations]]\npeer = "A@h:1"\ncompanions = ["picture"]\n'
        '[[destinations]]\npeer = "B@h:2"\ncommitment = false\n[[peers]]\npeer = "C@h:3"\n'
    )
    settings = Settings.from_env({"CXR_SETTINGS": str(path)})
    first, second = settings.destinations
    assert (str(first.peer), first.companions) == ("A@h:1", {CompanionKind.PICTURE})
    assert (str(second.peer), second.commitment) == ("B@h:2", False)
    assert [str(each.peer) for each in settings.peers] == ["C@h:3"]


def test_a_wrong_table_of_a_toml_file_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "cxr.toml"
    path.write_text('[[destinations]]\npeer = "A@h:1"\ncolour = "red"\n')
    with pytest.raises(ConfigurationError, match=r"^CXR_DESTINATIONS: A@h:1: 'colour' is no op"):
        Settings.from_env({"CXR_SETTINGS": str(path)})


@pytest.mark.parametrize(
    "environ",
    [
        {"CXR_TLS_PORT": "2762"},
        {"CXR_DESTINATIONS": "A@h:1?tls=on"},
        {"CXR_PEERS": "A@h:1?tls=on"},
        {"CXR_TLS_PORT": "2762", **TLS, "CXR_TLS_KEY": ""},
        {**TLS, "CXR_TLS_AUTHORITY": ""},
    ],
)
def test_tls_needs_its_three_files(environ: dict[str, str]) -> None:
    missing = next(key for key in TLS if not environ.get(key))
    with pytest.raises(ConfigurationError, match=f"^{missing}: is not set; .* needs") as caught:
        Settings.from_env(environ)
    assert all(key in str(caught.value) for key in TLS)
    assert ".pem" not in str(caught.value)


def test_tls_is_whole_with_its_three_files(tmp_path: Path) -> None:
    files = Settings.from_env({"CXR_TLS_PORT": "2762", "CXR_PLAINTEXT": "off", **TLS}).tls_files
    assert files == TlsFiles(*(tmp_path / name for name in ("c.pem", "k.pem", "a.pem")))
    assert Settings.from_env({}).tls_files is None


def test_one_port_cannot_be_both() -> None:
    with pytest.raises(ConfigurationError, match=r"^CXR_TLS_PORT: is CXR_PORT too"):
        Settings.from_env({"CXR_PORT": "2762", "CXR_TLS_PORT": "2762", **TLS})


def test_metrics_are_off_and_then_on_loopback_unless_something_is_set() -> None:
    assert Settings.from_env({}).metrics_port is None
    assert Settings.from_env({"CXR_METRICS_PORT": "off"}).metrics_port is None
    ours = Settings.from_env({"CXR_METRICS_PORT": "9110"})
    assert (ours.metrics_bind, ours.metrics_port) == ("127.0.0.1", 9110)


def test_a_destination_is_found_by_its_name_in_the_database() -> None:
    settings = Settings.from_env({"CXR_DESTINATIONS": "A@h:1?commitment=off"})
    assert settings.destination("A@h:1") == Destination(Peer("A", "h", 1), commitment=False)
    assert settings.destination("GONE@h:2") == Destination(Peer("GONE", "h", 2))
