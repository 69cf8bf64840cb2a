"""The webhook: what is posted, how it is signed, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import ConfigurationError
from tests.certificates import Authority
from tests.notices import SECRET, news, secret_file
from tests.receivers import HANG, Webhook
from worker import webhook
from worker.notice import CAUTION, NoticeRefused, TargetAway
from worker.settings import Settings


def settings(folder: Path, url: str, **environ: str) -> Settings:
    values = {"CXR_HOME": str(folder), "CXR_WEBHOOK_URL": url, "CXR_DELIVERY_TIMEOUT_S": "20"}
    values["CXR_WEBHOOK_SECRET_FILE"] = str(secret_file(folder))
    return Settings.from_env(values | environ)


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with Webhook().listening() as receiver:
        yield receiver


def told(receiver: Webhook, at: int = -1) -> tuple[dict[str, str], Any]:
    headers, body = receiver.came[at]
    return headers, json.loads(body)


def test_a_notice_is_posted_signed_as_standard_webhooks_has_it(
    receiver: Webhook, tmp_path: Path
) -> None:
    ours = settings(tmp_path, receiver.url)
    assert webhook.send(ours, news(), lambda: 1_700_000_000.9).status == 204
    headers, body = receiver.came[0]
    assert headers["webhook-id"] == news().message_id
    assert headers["webhook-timestamp"] == "1700000000"
    assert headers["content-type"] == "application/json"
    signed = f"{news().message_id}.1700000000.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_the_example_of_the_standard() -> None:
    """Of its reference libraries' own test: the message, the secret and what comes of it."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = webhook.headers_of(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret]
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_secret_signs_while_one_is_replaced(receiver: Webhook, tmp_path: Path) -> None:
    path = secret_file(tmp_path, b"n" * 32, SECRET)
    path.write_text("whsec_" + path.read_text())
    ours = settings(tmp_path, receiver.url)
    path = secret_file(tmp_path, b"n" * 32, SECRET)
    path.write_text("whsec_" + path.read_text())
    webhook.send(ours, news())
    signatures = told(receiver)[0]["webhook-signature"].split()
    assert len(set(signatures)) == 2


def test_what_is_told_is_careful_and_names_nobody(receiver: Webhook, tmp_path: Path) -> None:
    webhook.send(settings(tmp_path, receiver.url), news(unassessed=1, flags=("AGE_UNKNOWN",)))
    _, body = told(receiver)
    data = body["data"]
    assert body["type"] == "study.positive"
    assert (data["answer"], data["corrected"], data["status"]) == ("PRESENT", False, "PRELIMINARY")
    assert data["presence"] == {"value": "52101004", "scheme": "SCT", "meaning": "Present"}
    assert data["finding"]["value"] == "233604007"
    assert data["caution"].startswith(CAUTION)
    assert "1 of 2 images were not assessed" in data["caution"]
    assert "age is not known" in data["caution"]
    assert data["chosen"] == {}


def test_a_correction_says_that_it_is_one(receiver: Webhook, tmp_path: Path) -> None:
    webhook.send(settings(tmp_path, receiver.url), news(finding="NOT_ASSESSED", corrects=True))
    _, body = told(receiver)
    assert (body["type"], body["data"]["corrected"]) == ("study.corrected", True)
    assert (body["data"]["answer"], body["data"]["presence"]) == ("NOT_ASSESSED", None)
    assert "corrects an earlier notice" in body["data"]["caution"]


def test_each_try_is_the_same_message(receiver: Webhook, tmp_path: Path) -> None:
    receiver.answers = [503]
    ours = settings(tmp_path, receiver.url)
    with pytest.raises(TargetAway):
        webhook.send(ours, news(), lambda: 1.0)
    webhook.send(ours, news(), lambda: 9.0)
    (first, one), (second, other) = receiver.came
    assert one == other
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 599])
def test_what_a_receiver_cannot_take_now_is_tried_again(
    receiver: Webhook, tmp_path: Path, status: int
) -> None:
    receiver.answers = [status]
    with pytest.raises(TargetAway, match=str(status)) as caught:
        webhook.send(settings(tmp_path, receiver.url), news())
    assert (caught.value.status, caught.value.answered) == (status, True)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
def test_what_a_receiver_will_not_take_is_for_a_person(
    receiver: Webhook, tmp_path: Path, status: int
) -> None:
    receiver.answers = [(status, {"location": receiver.url})]
    with pytest.raises(NoticeRefused, match=str(status)):
        webhook.send(settings(tmp_path, receiver.url), news())
    assert len(receiver.came) == 1  # a redirect is not followed


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("120", 120, 120), ("999999999", 3600, 3600), ("soon", 0, 0), ("-5", 0, 0), ("", 0, 0)],
)
def test_a_receiver_says_how_long_it_wants_to_be_left_alone(
    receiver: Webhook, tmp_path: Path, said: str, least: float, most: float
) -> None:
    receiver.answers = [(429, {"retry-after": said})]
    with pytest.raises(TargetAway) as caught:
        webhook.send(settings(tmp_path, receiver.url), news())
    assert least <= caught.value.wait_s <= most


def test_a_receiver_may_say_so_by_a_date(receiver: Webhook, tmp_path: Path) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    receiver.answers = [(503, {"retry-after": until})]
    with pytest.raises(TargetAway) as caught:
        webhook.send(settings(tmp_path, receiver.url), news())
    assert 60 < caught.value.wait_s <= 1800


def test_who_does_not_answer_may_have_heard_it(receiver: Webhook, tmp_path: Path) -> None:
    receiver.answers = [HANG]
    ours = settings(tmp_path, receiver.url, CXR_DELIVERY_TIMEOUT_S="0.3")
    with pytest.raises(TargetAway, match="cannot be reached") as caught:
        webhook.send(ours, news())
    assert (caught.value.reached, caught.value.answered) == (True, False)


def test_who_draws_the_answer_out_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        from threading import Event, Thread

        over = Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not over.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        try:
            with pytest.raises(TargetAway, match="did not answer within"):
                webhook.send(settings(tmp_path, url, CXR_DELIVERY_TIMEOUT_S="0.5"), news())
        finally:
            over.set()
            thread.join()


def test_who_cannot_be_reached_has_heard_nothing_and_the_url_is_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    caplog.set_level(logging.DEBUG)
    ours = settings(tmp_path, f"http://localhost:{port}/s3cret-path")
    with pytest.raises(TargetAway) as caught:
        webhook.send(ours, news())
    assert caught.value.reached is False
    assert "s3cret-path" not in str(caught.value)
    assert base64.b64encode(SECRET).decode() not in caplog.text


@pytest.mark.parametrize("content", [None, "", "short", "c2hvcnQ=\n", "not base64 at all!\n", "é"])
def test_a_secret_that_cannot_be_used_names_its_setting_and_is_not_repeated(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "own-secret"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        webhook.secrets_of(path)
    assert caught.value.setting == "CXR_WEBHOOK_SECRET_FILE"
    assert content is None or not content.strip() or content.strip() not in str(caught.value)


def test_a_webhook_is_told_over_tls_if_its_certificate_is_vouched_for(tmp_path: Path) -> None:
    import ssl

    authority = Authority(tmp_path / "authority")
    files = authority.issue("hook", hosts="DNS:localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    with Webhook().listening(tls) as receiver:
        ours = settings(tmp_path, receiver.url, CXR_NOTIFY_AUTHORITY=str(authority.certificate))
        assert webhook.send(ours, news()).status == 204
        stranger = settings(tmp_path, receiver.url)
        with pytest.raises(TargetAway) as caught:
            webhook.send(stranger, news())
        assert caught.value.reached is False
        assert len(receiver.came) == 1
