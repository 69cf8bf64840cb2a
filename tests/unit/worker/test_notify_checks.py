"""What doctor finds of those who are told of positive studies."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from tests.certificates import Authority
from tests.notices import secret_file
from tests.receivers import Mllp, Webhook
from worker import notify_tls
from worker.notify_checks import check_target
from worker.settings import Settings
from worker.settings_notify import Target


def webhook(folder: Path, url: str, **environ: str) -> Settings:
    values = {"CXR_WEBHOOK_URL": url, "CXR_WEBHOOK_SECRET_FILE": str(secret_file(folder))}
    return Settings.from_env({"CXR_HOME": str(folder), **values, **environ})


def test_a_webhook_that_answers_is_healthy_and_is_told_nothing(tmp_path: Path) -> None:
    with Webhook().listening() as receiver:
        check = check_target(webhook(tmp_path, receiver.url), Target.WEBHOOK)
        assert receiver.came == []
    assert check.healthy
    assert "signed with 1 secret" in check.found
    assert "nothing of whose study" in check.found
    assert "s3cret-path" not in check.found


def test_a_receiver_that_is_away_says_which_setting(tmp_path: Path) -> None:
    with Webhook().listening() as gone, Mllp().listening() as away:
        settings = webhook(tmp_path, gone.url, CXR_HL7_DESTINATION=f"mllp://127.0.0.1:{away.port}")
    for target, key in ((Target.WEBHOOK, "CXR_WEBHOOK_URL"), (Target.HL7, "CXR_HL7_DESTINATION")):
        check = check_target(settings, target)
        assert not check.healthy
        assert key in check.advice


def test_a_secret_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    settings = webhook(tmp_path, "https://127.0.0.1:1/")
    (tmp_path / "secret").write_text("short")
    check = check_target(settings, Target.WEBHOOK)
    assert "CXR_WEBHOOK_SECRET_FILE" in check.advice


def test_a_certificate_is_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue("his", hosts="DNS:localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    with Mllp().listening(tls) as receiver:
        address = {"CXR_HL7_DESTINATION": f"mllps://localhost:{receiver.port}"}
        vouched = {"CXR_NOTIFY_AUTHORITY": str(authority.certificate)}
        assert "over TLS" in check_target(Settings.from_env(address | vouched), Target.HL7).found
        assert not check_target(Settings.from_env(address), Target.HL7).healthy


def test_files_of_tls_that_cannot_be_used_name_their_setting(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    one, other = authority.issue("one"), authority.issue("other")
    junk, gone = tmp_path / "junk.pem", tmp_path / "gone.pem"
    junk.write_text("no certificate")
    for key, paths in {
        notify_tls.AUTHORITY: [(junk, None, None), (gone, None, None)],
        notify_tls.CERTIFICATE: [(None, gone, one.key)],
        notify_tls.KEY: [(None, one.certificate, gone), (None, one.certificate, other.key)],
    }.items():
        for given in paths:
            names = ("CXR_NOTIFY_AUTHORITY", "CXR_NOTIFY_CERTIFICATE", "CXR_NOTIFY_KEY")
            environ = {n: str(path) for n, path in zip(names, given, strict=True) if path}
            with pytest.raises(ConfigurationError) as caught:
                notify_tls.context_of(Settings.from_env(environ))
            assert caught.value.setting == key
