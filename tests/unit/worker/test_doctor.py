"""The doctor looks at everything, whatever is broken, and says what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.uid import HTJ2K, RLELossless
from pynetdicom import AE
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from dicom_node import decoders
from dicom_node.archive import Archive
from dicom_node.commitment import PUSH_MODEL
from dicom_node.contexts import REPORT_SOP_CLASSES, VERIFICATION
from dicom_node.decoders import DecoderState
from dicom_node.errors import ConfigurationError
from dicom_node.tls import TlsFiles
from tests import oidc
from tests.certificates import Authority
from tests.collectors import Collector
from tests.e2e.programs import free_port
from tests.fakes import model_info
from tests.ledgers import PACS, Desk
from tests.syslog_receiver import SyslogReceiver
from worker import composition, database, doctor, ledger, web_checks
from worker.audit.messages import application_started
from worker.audit.trail import Trail
from worker.doctor import Check
from worker.settings import Settings


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "model_info", model_info)


def settings(folder: Path, **environ: str) -> Settings:
    return Settings.from_env({"CXR_HOME": str(folder / "home"), **environ})


def examine(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(settings)}


@pytest.fixture
def listener() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_every_part_is_looked_at_though_all_are_broken(tmp_path: Path) -> None:
    checks = examine(settings(tmp_path, CXR_DESTINATIONS="PACS@127.0.0.1:1"))
    assert list(checks) == [
        "database", "broker", "archive", "model", "decoders", "destinations", "deliveries",
        "PACS@127.0.0.1:1",
    ]  # fmt: skip
    assert not checks["database"].healthy
    assert not checks["broker"].healthy
    assert checks["model"].healthy
    assert checks["decoders"].healthy


def test_each_sick_part_says_what_to_do(tmp_path: Path) -> None:
    for check in examine(settings(tmp_path)).values():
        assert check.healthy or len(check.advice) > 20
        assert "\n" not in check.found + check.advice


def test_a_decoder_that_does_not_work_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {RLELossless: DecoderState.BROKEN, HTJ2K: DecoderState.MISSING}
    monkeypatch.setattr(decoders, "decoder_state", lambda uid: states.get(uid, DecoderState.WORKS))
    assert examine(settings(tmp_path))["decoders"].advice.startswith(
        "not offered: RLE Lossless, which has a decoder that does not work; "
        "High-Throughput JPEG 2000 Image Compression, which has no decoder installed."
    )


def test_a_missing_schema_is_told_with_the_command(tmp_path: Path) -> None:
    check = examine(settings(tmp_path))["database"]
    assert "cxr-worker db upgrade" in check.advice


def test_a_good_database_says_its_revision_and_what_is_owed(
    tmp_path: Path, sqlite_engine: Engine, sqlite_sessions: sessionmaker[Session]
) -> None:
    Desk(sqlite_sessions).receive()
    check = examine(settings(tmp_path, CXR_DATABASE_URL=str(sqlite_engine.url)))["database"]
    assert check.healthy
    assert database.head_revision() in check.found
    assert "1 classify due" in check.found


def test_dead_letters_are_something_to_look_at(
    tmp_path: Path, sqlite_engine: Engine, sqlite_sessions: sessionmaker[Session]
) -> None:
    desk = Desk(sqlite_sessions)
    desk.ready()
    desk.do(ledger.bury, desk.claim_report(), "broken")
    check = examine(settings(tmp_path, CXR_DATABASE_URL=str(sqlite_engine.url)))["database"]
    assert "1 given up" in check.advice


def test_a_destination_that_is_away_is_told_with_what_it_said(
    tmp_path: Path, sqlite_engine: Engine, sqlite_sessions: sessionmaker[Session]
) -> None:
    desk = Desk(sqlite_sessions)
    ours = settings(tmp_path, CXR_DATABASE_URL=str(sqlite_engine.url))
    assert examine(ours)["deliveries"].healthy
    later = desk.clock() + timedelta(seconds=30)
    desk.do(ledger.save_outage, PACS, desk.clock(), later, "nothing listens")
    check = examine(ours)["deliveries"]
    assert not check.healthy
    for words in (PACS, "since 2026-11-23 12:00:00Z", "next at 12:00:30Z", "nothing listens"):
        assert words in check.found


def test_the_password_of_the_database_is_not_shown(tmp_path: Path, postgres_server: str) -> None:
    url = postgres_server.replace("postgres:@", "postgres:hunter2@")
    assert "hunter2" in url
    for address in (url, "postgresql+psycopg://user:hunter2@127.0.0.1:1/cxr"):
        check = examine(settings(tmp_path, CXR_DATABASE_URL=address))["database"]
        assert not check.healthy
        assert "hunter2" not in check.found + check.advice


def test_a_database_of_a_later_version_is_told(tmp_path: Path, sqlite_engine: Engine) -> None:
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    check = examine(settings(tmp_path, CXR_DATABASE_URL=str(sqlite_engine.url)))["database"]
    assert "9999" in check.advice


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@127.0.0.1:1/0", "amqp://u:hunter2@127.0.0.1:1//"]
)
def test_a_broker_that_is_away_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    check = examine(settings(tmp_path, CXR_BROKER_URL=url))["broker"]
    assert "does not answer" in check.found
    assert "hunter2" not in check.found + check.advice
    assert "nothing is lost" in check.advice


def test_a_broker_that_hangs_is_told(tmp_path: Path, listener: str) -> None:
    check = examine(settings(tmp_path, CXR_BROKER_URL=f"redis://{listener}/0"))["broker"]
    assert not check.healthy


def test_the_embedded_broker_is_started_by_up(tmp_path: Path) -> None:
    assert "cxr-worker up" in examine(settings(tmp_path))["broker"].advice


def test_an_archive_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = examine(settings(tmp_path, CXR_ARCHIVE=str(tmp_path / "file")))["archive"]
    assert "CXR_ARCHIVE" in check.advice


def test_an_archive_without_room_is_told(tmp_path: Path) -> None:
    check = examine(settings(tmp_path, CXR_ARCHIVE_RESERVE_MB="1000000000"))["archive"]
    assert "0xA700" in check.advice


def test_looking_at_the_archive_leaves_nothing_in_it(tmp_path: Path) -> None:
    told = settings(tmp_path)
    examine(told)
    assert list(told.archive_root.iterdir()) == []


def test_the_mount_point_of_an_archive_that_is_away_is_told(
    tmp_path: Path, sqlite_engine: Engine, sqlite_sessions: sessionmaker[Session]
) -> None:
    Desk(sqlite_sessions).receive()
    told = settings(tmp_path, CXR_DATABASE_URL=str(sqlite_engine.url))
    told.archive_root.mkdir(parents=True)
    check = examine(told)["archive"]
    assert check.found == f"{told.archive_root} is not the archive"
    assert "perhaps its disk is not mounted" in check.advice
    assert list(told.archive_root.iterdir()) == []
    Archive(told.archive_root)
    assert f"{told.archive_root}, " in examine(told)["archive"].found


def test_a_missing_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ConfigurationError("CXR_MODEL", "holds no model")

    monkeypatch.setattr(composition, "model_info", missing)
    advice = examine(settings(tmp_path))["model"].advice
    assert advice.startswith("CXR_MODEL: holds no model")
    assert "goes on answering with the model it has" in advice


def test_an_engine_that_is_not_to_be_had_is_told(tmp_path: Path) -> None:
    told = settings(tmp_path, CXR_ENGINE="openvino", CXR_DEVICE="gpu")
    assert "CXR_ENGINE" in examine(told)["model"].advice


def test_no_destination_is_something_to_look_at(tmp_path: Path) -> None:
    assert "CXR_DESTINATIONS" in examine(settings(tmp_path))["destinations"].advice


COMPREHENSIVE_3D, COMPREHENSIVE, ENHANCED = REPORT_SOP_CLASSES


@contextmanager
def peer(*sop_classes: str, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    entity = AE("GOOD")
    for uid in sop_classes:
        entity.add_supported_context(uid)
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=tls)
    try:
        yield f"GOOD@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def test_each_destination_is_asked(tmp_path: Path) -> None:
    with peer(VERIFICATION, COMPREHENSIVE_3D) as good:
        checks = examine(settings(tmp_path, CXR_DESTINATIONS=f"{good},BAD@127.0.0.1:1"))
    assert checks[good].healthy
    assert "nothing listens" in checks["BAD@127.0.0.1:1"].advice


@pytest.mark.parametrize(
    ("sop_classes", "words"),
    [
        (REPORT_SOP_CLASSES, "takes reports as Comprehensive 3D SR, offers no Storage Commitment"),
        ((ENHANCED, COMPREHENSIVE), "takes reports as Comprehensive SR,"),
        ((ENHANCED, PUSH_MODEL), "takes reports as Enhanced SR, offers Storage Commitment"),
    ],
)
def test_it_is_told_as_what_a_destination_takes_reports_and_whether_it_keeps_them(
    tmp_path: Path, sop_classes: tuple[str, ...], words: str
) -> None:
    with peer(VERIFICATION, *sop_classes) as some:
        check = examine(settings(tmp_path, CXR_DESTINATIONS=some))[some]
    assert check.healthy
    assert words in check.found


def test_a_destination_that_takes_no_reports_is_told_before_the_first_is_refused(
    tmp_path: Path,
) -> None:
    with peer(VERIFICATION) as deaf:
        checks = examine(settings(tmp_path, CXR_DESTINATIONS=deaf))
    assert "does not accept our reports" in checks[deaf].found
    assert all(uid in checks[deaf].advice for uid in REPORT_SOP_CLASSES)


def test_a_destination_that_does_not_take_its_companions_is_told(tmp_path: Path) -> None:
    with peer(VERIFICATION, COMPREHENSIVE_3D) as some:
        wanted = f"{some}?companions=picture"
        check = examine(settings(tmp_path, CXR_DESTINATIONS=wanted))[some]
    assert "Secondary Capture" in check.advice
    assert "Key Object" not in check.advice


@pytest.mark.parametrize(
    ("allowed", "options", "healthy"),
    [("MODALITY", "", False), ("MODALITY", "?commitment=off", True), ("MODALITY,GOOD", "", True)],
)
def test_a_destination_that_could_not_tell_us_what_it_keeps_is_told(
    tmp_path: Path, allowed: str, options: str, healthy: bool
) -> None:
    with peer(VERIFICATION, COMPREHENSIVE_3D, PUSH_MODEL) as some:
        ours = {"CXR_DESTINATIONS": some + options, "CXR_ALLOWED_AE_TITLES": allowed}
        check = examine(settings(tmp_path, **ours))[some]
    assert check.healthy is healthy
    assert healthy or "add GOOD to CXR_ALLOWED_AE_TITLES" in check.advice


def test_without_certificates_nothing_is_said_of_tls(tmp_path: Path) -> None:
    assert "tls" not in examine(settings(tmp_path))


def test_without_a_receiver_nothing_is_said_of_the_audit_trail(tmp_path: Path) -> None:
    assert "audit" not in examine(settings(tmp_path))


def test_the_receiver_of_the_audit_trail_is_called(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    receiver = SyslogReceiver(authority.issue("receiver", hosts="IP:127.0.0.1"))
    receiver.start()
    environ = {
        "CXR_AUDIT_SYSLOG": str(receiver.address),
        "CXR_AUDIT_AUTHORITY": str(authority.certificate),
    }
    well = examine(settings(tmp_path, **environ))["audit"]
    assert well.found.startswith(f"{receiver.address} answers over TLS, 0 bytes wait in ")
    assert well.healthy
    receiver.stop()
    Trail(settings(tmp_path).audit_path, "CXRWORKER").record(application_started())
    sick = examine(settings(tmp_path, **environ))["audit"]
    assert "does not answer: ConnectionRefusedError; " in sick.found
    assert "; 0 bytes" not in sick.found
    assert "CXR_AUDIT_SYSLOG" in sick.advice


def test_a_certificate_for_the_audit_trail_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    environ = {"CXR_AUDIT_SYSLOG": "127.0.0.1:1", "CXR_AUDIT_AUTHORITY": "gone.pem"}
    assert "CXR_AUDIT_AUTHORITY: " in examine(settings(tmp_path, **environ))["audit"].advice


def with_tls(files: TlsFiles, **environ: str) -> dict[str, str]:
    return {
        "CXR_TLS_CERTIFICATE": str(files.certificate), "CXR_TLS_KEY": str(files.key),
        "CXR_TLS_AUTHORITY": str(files.authority), "CXR_TLS_PORT": "2762", **environ,
    }  # fmt: skip


def test_a_destination_is_asked_over_tls_where_it_is_set(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    environ = with_tls(authority.issue("us", days=400))
    with peer(VERIFICATION, COMPREHENSIVE_3D, tls=authority.server("pacs")) as some:
        checks = examine(settings(tmp_path, CXR_DESTINATIONS=f"{some}?tls=on", **environ))
        plain = examine(settings(tmp_path, CXR_DESTINATIONS=some, **environ))[some]
    assert checks[some].healthy
    assert "over TLS" in checks[some].found
    assert "speaks TLS on this port, although TLS is not set" in plain.advice
    assert checks["tls"].healthy
    assert "listens on 2762" in checks["tls"].found


@pytest.mark.parametrize(("days", "words"), [(29, "expires in 28 days"), (0, "has expired")])
def test_a_certificate_that_expires_soon_is_told(tmp_path: Path, days: int, words: str) -> None:
    files = Authority(tmp_path / "ca").issue("us", days=days)
    check = examine(settings(tmp_path, **with_tls(files)))["tls"]
    assert check.advice == f"it {words}: put a new one into CXR_TLS_CERTIFICATE"


def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    gone = TlsFiles(*(tmp_path / name for name in "abc"))
    check = examine(settings(tmp_path, **with_tls(gone)))["tls"]
    assert check.advice.startswith("CXR_TLS_AUTHORITY: ")


def test_a_collector_that_takes_traces_is_healthy(tmp_path: Path) -> None:
    with Collector().listening() as collector:
        check = examine(settings(tmp_path, CXR_OTLP_ENDPOINT=collector.url))["traces"]
    assert check.healthy
    assert check.found == f"127.0.0.1:{collector.port} takes them"
    assert (collector.paths, collector.spans) == (["/v1/traces"], [])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"])
def test_a_collector_that_takes_no_traces_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    collector = Collector(free_port(), answer=answer)
    with collector.listening() if answer else nullcontext():
        check = examine(settings(tmp_path, CXR_OTLP_ENDPOINT=collector.url))["traces"]
    assert "CXR_OTLP_HEADERS_FILE" in check.advice
    assert check.found == f"127.0.0.1:{collector.port} does not take them"


def web_files(files: TlsFiles, **environ: str) -> dict[str, str]:
    return {
        "CXR_WEB_CERTIFICATE": str(files.certificate), "CXR_WEB_KEY": str(files.key), **environ,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("days", "advice"),
    [
        (400, ""), (29, "it expires in 28 days: put a new one into CXR_WEB_CERTIFICATE"),
        (0, "it has expired: put a new one into CXR_WEB_CERTIFICATE"),
    ],
)  # fmt: skip
def test_a_certificate_of_the_web_pages_that_expires_soon_is_told(
    tmp_path: Path, days: int, advice: str
) -> None:
    files = Authority(tmp_path / "ca").issue("web", days=days)
    assert examine(settings(tmp_path, **web_files(files)))["web"].advice == advice
    assert "web" not in examine(settings(tmp_path, **web_files(files), CXR_WEB_PORT="off"))


def test_a_certificate_of_the_web_pages_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    ours, others = authority.issue("ours"), authority.issue("others")
    mixed = {**web_files(ours), "CXR_WEB_KEY": str(others.key)}
    assert examine(settings(tmp_path, **mixed))["web"].advice.startswith("CXR_WEB_KEY: ")
    with pytest.raises(ConfigurationError, match=r"^CXR_WEB_KEY: "):
        web_checks.require_files(settings(tmp_path, **mixed))
    gone = {**web_files(ours), "CXR_WEB_CERTIFICATE": str(tmp_path / "gone")}
    assert examine(settings(tmp_path, **gone))["web"].advice.startswith("CXR_WEB_CERTIFICATE: ")


def of_provider(issuer: str, **environ: str) -> dict[str, str]:
    return {
        "CXR_OIDC_ISSUER": issuer, "CXR_OIDC_CLIENT_ID": "cxr-worker",
        "CXR_OIDC_ROLES": "groups:radiology=reader", **environ,
    }  # fmt: skip


def test_a_provider_over_tls_is_believed_by_its_authority_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = authority.issue("sso", hosts="IP:127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    named = {"CXR_OIDC_AUTHORITY": str(authority.certificate)}
    with oidc.running(tls) as provider:
        known = examine(settings(tmp_path, **of_provider(provider.issuer, **named)))["oidc"]
        unknown = examine(settings(tmp_path, **of_provider(provider.issuer)))["oidc"]
    assert known.healthy
    assert "does not answer: ConnectError" in unknown.advice


def test_the_provider_by_which_people_sign_in_is_asked(tmp_path: Path) -> None:
    with oidc.running() as provider:
        environ = of_provider(provider.issuer)
        well = examine(settings(tmp_path, **environ))["oidc"]
        provider.document = lambda found: {**found, "issuer": "https://evil.example"}
        other = examine(settings(tmp_path, **environ))["oidc"]
    away = examine(settings(tmp_path, **environ))["oidc"]
    assert well.healthy
    assert "sends people back to http://127.0.0.1:8080/sign-in/oidc/back" in well.found
    assert "calls itself 'https://evil.example'" in other.advice
    assert "does not answer: ConnectError" in away.advice
    assert "Check CXR_OIDC_ISSUER" in away.advice
    unread = {**environ, "CXR_OIDC_CLIENT_SECRET_FILE": str(tmp_path / "gone")}
    advice = examine(settings(tmp_path, **unread))["oidc"].advice
    assert advice.startswith("CXR_OIDC_CLIENT_SECRET_FILE: ")
    with pytest.raises(ConfigurationError, match=r"^CXR_OIDC_CLIENT_SECRET_FILE: "):
        web_checks.require_files(settings(tmp_path, **unread))
    assert "oidc" not in examine(settings(tmp_path))
