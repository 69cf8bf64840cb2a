"""Settings of notices: off by default, and refused where they would tell in the clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from worker.settings import Settings
from worker.settings_notify import NotifyField, Target

SECRET = {"CXR_WEBHOOK_SECRET_FILE": "secret"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_nobody_is_told_by_default_and_nothing_is_said() -> None:
    settings = Settings.from_env({})
    assert settings.targets == ()
    assert settings.notify_fields == ()


def test_both_may_be_told() -> None:
    settings = Settings.from_env(
        SECRET | {"CXR_WEBHOOK_URL": "https://h/x", "CXR_HL7_DESTINATION": "mllps://[::1]:2575"}
    )
    assert settings.targets == (Target.WEBHOOK, Target.HL7)
    assert str(settings.hl7_destination) == "mllps://[::1]:2575"
    assert settings.hl7_destination is not None
    assert settings.hl7_destination.tls


def test_fields_are_each_named_once() -> None:
    settings = Settings.from_env({"CXR_NOTIFY_FIELDS": "patient_id, study_date,patient_id"})
    assert settings.notify_fields == (NotifyField.PATIENT_ID, NotifyField.STUDY_DATE)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_webhook_on_this_machine_may_be_without_tls(host: str) -> None:
    assert Settings.from_env(SECRET | {"CXR_WEBHOOK_URL": f"http://{host}:8000/x"}).targets


def test_a_webhook_elsewhere_is_without_tls_only_when_that_is_meant() -> None:
    environ = SECRET | {"CXR_WEBHOOK_URL": "http://alerts.example.org/s3cret"}
    with pytest.raises(ConfigurationError, match="CXR_WEBHOOK_PLAINTEXT") as caught:
        Settings.from_env(environ)
    assert "s3cret" not in str(caught.value)
    assert Settings.from_env(environ | {"CXR_WEBHOOK_PLAINTEXT": "on"}).targets


@pytest.mark.parametrize("url", ["https://u:hunter2@h/x", "ftp://h/hunter2", "https://h/hunter2 x"])
def test_a_wrong_address_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(SECRET | {"CXR_WEBHOOK_URL": url})
    assert "hunter2" not in str(caught.value)


def test_a_webhook_needs_a_secret() -> None:
    with pytest.raises(ConfigurationError, match="openssl rand") as caught:
        Settings.from_env({"CXR_WEBHOOK_URL": "https://h/x"})
    assert caught.value.setting == "CXR_WEBHOOK_SECRET_FILE"


@pytest.mark.parametrize(("there", "missing"), [("CERTIFICATE", "KEY"), ("KEY", "CERTIFICATE")])
def test_certificate_and_key_come_together(there: str, missing: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({f"CXR_NOTIFY_{there}": "x.pem"})
    assert caught.value.setting == f"CXR_NOTIFY_{missing}"
