"""The receivers of notices in the chaos run: told by our own senders, and as bad as asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import receivers
from tests.chaos.behaviour import ABORT, BUSY, HANG, SLOW
from tests.chaos.diary import Diary
from tests.chaos.words import READERS
from tests.e2e.programs import wait_until
from tests.notices import SECRET, news, secret_file
from worker.notice import News, TargetAway
from worker.notifying import sender
from worker.settings import Settings

FIELDS = {"study_instance_uid": "2.25.1", "report_uid": "2.25.2"}
TARGETS = ["webhook", "hl7"]
Tell = Callable[[News], object]


@contextmanager
def listening(target: str, folder: Path, **environ: str) -> Iterator[tuple[Diary, Tell]]:
    """Give the diary of a receiver, and what tells it something."""
    diary = Diary(folder / "diary")
    made = receivers.webhook(0, diary, SECRET) if target == "webhook" else receivers.hl7(0, diary)
    port = made.server_address[1]
    secret = environ.pop("secret", "").encode() or SECRET
    settings = Settings.from_env({
        "CXR_HOME": str(folder),
        "CXR_WEBHOOK_URL": f"http://127.0.0.1:{port}/",
        "CXR_WEBHOOK_SECRET_FILE": str(secret_file(folder, secret)),
        "CXR_HL7_DESTINATION": f"mllp://127.0.0.1:{port}",
        "CXR_DELIVERY_TIMEOUT_S": "30",
        **environ,
    })  # fmt: skip
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield diary, lambda told: sender(target)(settings, told)
    finally:
        diary.behaviour.behave("ok")
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_receiver_takes_is_in_its_diary_as_it_was_told(target: str, tmp_path: Path) -> None:
    with listening(target, tmp_path) as (diary, tell):
        tell(news(fields=FIELDS))
        tell(replace(news(fields=FIELDS), finding="ABSENT", corrects=True))
    first, second = (READERS[target](came) for came in diary.tries())
    assert first.says == (news().reference, "2.25.1", True, False)
    assert second.says == (news().reference, "2.25.1", False, True)
    assert first.message_id == second.message_id == news().message_id
    assert first.report == "2.25.2"
    assert first.came.genuine
    assert first.came.kept
    assert first.came.acknowledged


@pytest.mark.parametrize("target", TARGETS)
def test_two_tries_of_one_notice_have_one_content_whenever_they_are_sent(
    target: str, tmp_path: Path
) -> None:
    with listening(target, tmp_path) as (diary, tell):
        tell(news(fields=FIELDS))
        diary.behaviour.behave(BUSY)
        with pytest.raises(TargetAway):
            tell(news(fields=FIELDS))
    kept, refused = (READERS[target](came) for came in diary.tries())
    assert kept.content == refused.content
    assert not refused.came.kept
    assert not refused.came.acknowledged


@pytest.mark.parametrize("target", TARGETS)
def test_one_that_breaks_off_has_kept_some_and_acknowledged_none(
    target: str, tmp_path: Path
) -> None:
    with listening(target, tmp_path) as (diary, tell):
        diary.behaviour.behave(ABORT)
        for number in range(10):
            with pytest.raises(TargetAway):
                tell(news(message_id=f"{number:020d}"))
    assert {came.kept for came in diary.tries()} == {True, False}
    assert not any(came.acknowledged for came in diary.tries())


@pytest.mark.parametrize("target", TARGETS)
def test_one_that_hangs_says_nothing_until_it_is_healed(target: str, tmp_path: Path) -> None:
    with listening(target, tmp_path) as (diary, tell):
        diary.behaviour.behave(HANG)
        failed: list[Exception] = []

        def told() -> None:
            try:
                tell(news())
            except TargetAway as error:
                failed.append(error)

        thread = threading.Thread(target=told, daemon=True)
        thread.start()
        wait_until(lambda: len(diary.tries()) == 1, 60, "the try")
        diary.behaviour.behave("ok")
        thread.join()
    assert len(failed) == 1
    assert not diary.tries()[0].acknowledged


@pytest.mark.parametrize("target", TARGETS)
def test_one_that_is_slow_is_understood_in_the_end(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "SLOW_S", 0.2)
    with listening(target, tmp_path) as (diary, tell):
        diary.behaviour.behave(SLOW)
        tell(news())
    assert diary.tries()[0].acknowledged


def test_what_another_has_signed_is_not_genuine(tmp_path: Path) -> None:
    with listening("webhook", tmp_path, secret="z" * 32) as (diary, tell):
        tell(news())
    assert not diary.tries()[0].genuine
