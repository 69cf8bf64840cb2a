"""The audit trail on its way to a syslog receiver: in order, and nothing left out."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from tests.certificates import Authority
from tests.e2e.programs import wait_until
from tests.syslog_receiver import SyslogReceiver
from worker.audit import messages, shipping, syslog
from worker.audit.messages import Person, StudyOf
from worker.audit.position import ENDING
from worker.audit.shipping import Shipping, waiting_bytes
from worker.audit.trail import Trail
from worker.settings import Settings
from worker.settings_values import Receiver

ANNA = Person("anna", "192.0.2.7")


def viewed(number: int) -> messages.Message:
    return messages.study_viewed(ANNA, StudyOf(f"1.2.{number}", f"P{number}"))


def numbers(lines: list[str]) -> list[int]:
    found = (re.search(r'ParticipantObjectID="1\.2\.(\d+)"', line) for line in lines)
    return [int(each[1]) for each in found if each]


class Inbox:
    """What a receiver got, without a network; it can be away."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.away = False
        self.breaks_after: int | None = None
        self.connections = 0

    def connect(self) -> Inbox:
        self._require()
        self.connections += 1
        return self

    def send(self, line: bytes) -> None:
        self._require()
        if self.breaks_after is not None and len(self.got) >= self.breaks_after:
            self.breaks_after = None
            raise ConnectionResetError
        self.got.append(line.decode("ascii"))

    def confirm(self) -> None:
        self._require()

    def close(self) -> None:
        pass

    def _require(self) -> None:
        if self.away:
            raise ConnectionRefusedError


class Writer:
    """A process that writes the trail and sends it."""

    def __init__(self, path: Path, inbox: Inbox) -> None:
        self.shipping = Shipping(path, inbox.connect, retry_s=0.05, retry_max_s=0.2)
        self.trail = Trail(path, "CXRWORKER", shipping=self.shipping)

    def view(self, *studies: int) -> None:
        for number in studies:
            self.trail.record(viewed(number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "audit.log"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def writer(path: Path, inbox: Inbox) -> Iterator[Writer]:
    writer = Writer(path, inbox)
    yield writer
    writer.trail.close()


def arrives(inbox: Inbox, expected: list[int]) -> None:
    wait_until(lambda: numbers(inbox.got) == expected, 10, f"{expected}, not {numbers(inbox.got)}")


# --- without a network -----------------------------------------------------------------------


def test_what_is_recorded_is_sent_as_it_stands_in_the_file(
    path: Path, inbox: Inbox, writer: Writer
) -> None:
    writer.view(1, 2)
    arrives(inbox, [1, 2])
    assert inbox.got == path.read_text().splitlines()
    assert inbox.connections == 1


def test_what_other_processes_write_is_sent_too(path: Path, inbox: Inbox, writer: Writer) -> None:
    writer.view(1)
    Trail(path, "CXRWORKER").record(viewed(2))
    arrives(inbox, [1, 2])


def test_what_a_receiver_that_is_away_missed_is_sent_when_it_is_back(
    inbox: Inbox, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.away = True
    with caplog.at_level(logging.INFO):
        writer.view(*range(300))
        wait_until(lambda: "cannot be sent" in caplog.text, 5, "the warning")
        assert inbox.got == []
        inbox.away = False
        arrives(inbox, list(range(300)))
        wait_until(lambda: "sent again" in caplog.text, 5, "that it goes on")
    assert caplog.text.count("cannot be sent") == 1
    assert "P1" not in caplog.text, "logs name no patient"
    assert "1.2." not in caplog.text


def test_nothing_is_lost_or_doubled_by_a_restart(path: Path, inbox: Inbox) -> None:
    first = Writer(path, inbox)
    first.view(1, 2)
    arrives(inbox, [1, 2])
    inbox.away = True
    first.view(3, 4)
    first.trail.close()
    Trail(path, "CXRWORKER").record(viewed(5))
    inbox.away = False
    second = Writer(path, inbox)
    arrives(inbox, [1, 2, 3, 4, 5])
    second.view(6)
    arrives(inbox, [1, 2, 3, 4, 5, 6])
    second.trail.close()


def test_what_was_written_right_before_the_end_is_sent_before_it(path: Path, inbox: Inbox) -> None:
    writer = Writer(path, inbox)
    writer.view(*range(20))
    writer.trail.close()
    assert numbers(inbox.got) == list(range(20))


def test_a_connection_that_breaks_among_messages_costs_none(inbox: Inbox, writer: Writer) -> None:
    inbox.breaks_after = 7
    writer.view(*range(20))
    wait_until(lambda: set(numbers(inbox.got)) == set(range(20)), 10, "all messages")
    sent = numbers(inbox.got)
    assert list(dict.fromkeys(sent)) == list(range(20)), "in order, some of them twice"


@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_a_rotated_file_is_sent_to_its_end_before_the_new_one(
    path: Path, inbox: Inbox, writer: Writer, how: str
) -> None:
    writer.view(1, 2)
    arrives(inbox, [1, 2])
    inbox.away = True
    writer.view(3, 4)
    rotate(path, path.with_name("audit.log.1"), how)
    writer.view(5)
    inbox.away = False
    arrives(inbox, [1, 2, 3, 4, 5])


def rotate(path: Path, to: Path, how: str = "renamed") -> None:
    if how == "renamed":
        path.rename(to)
    else:
        to.write_bytes(path.read_bytes())
        path.write_bytes(b"")


def test_files_that_were_rotated_while_nothing_was_sent_come_in_their_order(
    path: Path, inbox: Inbox
) -> None:
    first = Writer(path, inbox)
    first.view(1)
    arrives(inbox, [1])
    first.trail.close()
    later = Trail(path, "CXRWORKER")
    later.record(viewed(2))
    for number in (3, 4, 5):
        rotate(path, path.with_name(f"audit.log-2026112{number}"))
        later.record(viewed(number))
    second = Writer(path, inbox)
    arrives(inbox, [1, 2, 3, 4, 5])
    second.trail.close()


def test_a_file_that_is_rotated_and_followed_by_nothing_is_sent(
    path: Path, inbox: Inbox, writer: Writer
) -> None:
    writer.view(1)
    arrives(inbox, [1])
    inbox.away = True
    writer.view(2)
    rotate(path, path.with_name("audit.log.1"))
    inbox.away = False
    arrives(inbox, [1, 2])


def test_when_the_file_of_the_position_is_gone_what_was_written_since_is_sent(
    path: Path, inbox: Inbox
) -> None:
    trail = Trail(path, "CXRWORKER")
    trail.record(viewed(0))
    rotate(path, path.with_name("audit.log.2"))  # of long ago
    first = Writer(path, inbox)
    first.view(1)
    arrives(inbox, [0, 1])
    first.trail.close()
    path.unlink()
    trail.record(viewed(2))
    rotate(path, path.with_name("audit.log.1"))
    trail.record(viewed(3))
    second = Writer(path, inbox)
    arrives(inbox, [0, 1, 2, 3])
    second.trail.close()


def test_when_a_receiver_is_first_set_all_that_is_there_is_sent(path: Path, inbox: Inbox) -> None:
    before = Trail(path, "CXRWORKER")
    before.record(viewed(1))
    rotate(path, path.with_name("audit.log.1"))
    before.record(viewed(2))
    writer = Writer(path, inbox)
    arrives(inbox, [1, 2])
    writer.trail.close()


def test_compressed_files_and_strange_ones_are_left(path: Path, inbox: Inbox) -> None:
    path.parent.mkdir()
    for name in ("audit.log.2.gz", "audit.log.1.xz", "audit.logs", "audit.log~"):
        path.with_name(name).write_bytes(b"\x1f\x8b not a line\n")
    writer = Writer(path, inbox)
    writer.view(1)
    arrives(inbox, [1])
    writer.trail.close()
    assert len(inbox.got) == 1


def test_a_line_that_is_not_complete_waits(path: Path, inbox: Inbox, writer: Writer) -> None:
    writer.view(1)
    arrives(inbox, [1])
    with path.open("a") as file:
        file.write("<85>1 half")
    writer.shipping.wake()
    writer.view(2)  # which ends it
    arrives(inbox, [1, 2])
    assert inbox.got[1] == "<85>1 half"


def test_a_position_that_cannot_be_read_sends_the_file_again(path: Path, inbox: Inbox) -> None:
    first = Writer(path, inbox)
    first.view(1)
    arrives(inbox, [1])
    first.trail.close()
    path.with_name(path.name + ENDING).write_bytes(b"{ broken")
    second = Writer(path, inbox)
    arrives(inbox, [1, 1])
    second.trail.close()


def test_of_two_processes_one_sends(path: Path, inbox: Inbox, writer: Writer) -> None:
    other = Writer(path, inbox)
    for number in range(0, 40, 2):
        writer.view(number)
        other.view(number + 1)
    wait_until(lambda: len(inbox.got) >= 40, 10, "all messages")
    other.trail.close()
    assert numbers(inbox.got) == list(range(40))


def test_the_file_of_the_position_is_ours_alone_and_names_no_patient(
    path: Path, inbox: Inbox
) -> None:
    writer = Writer(path, inbox)
    writer.view(17)
    writer.trail.close()
    kept = path.with_name(path.name + ENDING)
    assert json.loads(kept.read_text()) == {
        "file": hashlib.sha256(path.read_bytes()).hexdigest(), "offset": path.stat().st_size,
    }  # fmt: skip
    assert oct(kept.stat().st_mode)[-3:] == "600"


def test_what_waits_is_counted(path: Path, inbox: Inbox) -> None:
    assert waiting_bytes(path) == 0
    trail = Trail(path, "CXRWORKER")
    trail.record(viewed(1))
    rotated = path.rename(path.with_name("audit.log.1"))
    trail.record(viewed(2))
    assert waiting_bytes(path) == rotated.stat().st_size + path.stat().st_size
    writer = Writer(path, inbox)
    arrives(inbox, [1, 2])
    writer.trail.close()
    assert waiting_bytes(path) == 0
    trail.record(viewed(3))
    assert 0 < waiting_bytes(path) < path.stat().st_size


def shift(path: Path) -> None:
    """Rotate as logrotate does: each to the next number."""
    numbered = sorted(path.parent.glob("audit.log.[0-9]*"), key=lambda each: -int(each.suffix[1:]))
    for each in numbered:
        each.rename(each.with_suffix(f".{int(each.suffix[1:]) + 1}"))
    if path.exists():
        path.rename(path.with_name("audit.log.1"))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_in_whatever_order_all_is_sent_in_its_order(
    path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(shipping, "LOOK_S", 0.02)
    chance, writers, count = random.Random(seed), [Writer(path, inbox)], 0

    def view() -> None:
        nonlocal count
        writers[-1].view(count)
        count += 1

    def restart() -> None:
        writers[-1].trail.close()
        writers.append(Writer(path, inbox))

    happenings = {
        view: 55, partial(shift, path): 15, partial(setattr, inbox, "away", True): 5, restart: 7,
        partial(setattr, inbox, "away", False): 5, partial(time.sleep, 0.03): 7,
        lambda: setattr(inbox, "breaks_after", len(inbox.got) + chance.randrange(3)): 6,
    }  # fmt: skip
    for happens in chance.choices([*happenings], weights=[*happenings.values()], k=60):
        happens()
    inbox.away = False
    wait_until(lambda: set(numbers(inbox.got)) >= set(range(count)), 10, "all messages")
    writers[-1].trail.close()
    assert list(dict.fromkeys(numbers(inbox.got))) == list(range(count))


# --- over TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("audit") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("audit") / "theirs")


@pytest.fixture
def receiver(authority: Authority) -> Iterator[SyslogReceiver]:
    receiver = SyslogReceiver(authority.issue("receiver", hosts="IP:127.0.0.1"))
    receiver.start()
    yield receiver
    receiver.stop()


def sending(path: Path, receiver: SyslogReceiver, authority: Authority, name: str = "") -> Trail:
    """Make a trail that sends over TLS, with a certificate of its own if it has a name."""
    files = authority.issue(name) if name else None
    context = syslog.client_context(
        authority.certificate, files and files.certificate, files and files.key
    )
    sender = Shipping(
        path, lambda: syslog.Connection(receiver.address, context), retry_s=0.1, retry_max_s=0.3
    )
    return Trail(path, "CXRWORKER", shipping=sender)


def comes(receiver: SyslogReceiver, expected: list[int]) -> None:
    wait_until(
        lambda: numbers(receiver.messages) == expected, 15,
        f"{expected}, not {numbers(receiver.messages)}",
    )  # fmt: skip


def test_a_receiver_gets_the_messages_by_tls(
    path: Path, receiver: SyslogReceiver, authority: Authority
) -> None:
    trail = sending(path, receiver, authority)
    for number in range(250):
        trail.record(viewed(number))
    comes(receiver, list(range(250)))
    trail.close()
    assert receiver.messages == path.read_text().splitlines()


def test_a_receiver_that_goes_away_and_comes_back_gets_all(
    path: Path, receiver: SyslogReceiver, authority: Authority
) -> None:
    trail = sending(path, receiver, authority)
    trail.record(viewed(1))
    comes(receiver, [1])
    receiver.stop()
    trail.record(viewed(2))
    trail.record(viewed(3))
    receiver.start()
    comes(receiver, [1, 2, 3])
    trail.close()


def test_a_connection_that_the_receiver_ended_while_it_was_idle_costs_no_message(
    path: Path, receiver: SyslogReceiver, authority: Authority
) -> None:
    trail = sending(path, receiver, authority)
    for number in range(4):
        trail.record(viewed(number))
        comes(receiver, list(range(number + 1)))
        receiver.hang_up()
    trail.close()


def test_a_receiver_that_asks_for_a_certificate_gets_ours(path: Path, authority: Authority) -> None:
    receiver = SyslogReceiver(authority.issue("strict", hosts="IP:127.0.0.1"), asks=True)
    receiver.start()
    without = sending(path, receiver, authority)
    without.record(viewed(1))
    wait_until(lambda: receiver.refused >= 1, 10, "the refusal")
    without.close()
    assert receiver.messages == []
    with_one = sending(path, receiver, authority, "worker")
    comes(receiver, [1])
    with_one.close()
    receiver.stop()


@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
def test_nothing_is_sent_to_somebody_else(
    path: Path, authority: Authority, stranger: Authority, wrong: str
) -> None:
    issuer = stranger if wrong == "authority" else authority
    hosts = "IP:192.0.2.9" if wrong == "name" else "IP:127.0.0.1"
    days = 0 if wrong == "expired" else 2
    receiver = SyslogReceiver(issuer.issue(f"fake-{wrong}", days, hosts))
    receiver.start()
    context = syslog.client_context(authority.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        syslog.Connection(receiver.address, context)
    trail = sending(path, receiver, authority)
    trail.record(viewed(1))
    wait_until(lambda: receiver.refused >= 2, 10, "the second try")
    trail.close()
    receiver.stop()
    assert receiver.messages == []


def test_a_receiver_may_be_trusted_by_its_own_certificate(
    path: Path, authority: Authority, receiver: SyslogReceiver
) -> None:
    files = authority.issue("pinned", hosts="IP:127.0.0.1")
    pinned = SyslogReceiver(files)
    pinned.start()
    syslog.Connection(pinned.address, syslog.client_context(files.certificate)).close()
    pinned.stop()


def test_a_receiver_that_takes_nothing_more_is_given_up_after_a_while(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "TIMEOUT_S", 0.5)
    receiver = SyslogReceiver(authority.issue("slow", hosts="IP:127.0.0.1"))
    monkeypatch.setattr(receiver, "_length", lambda _stream: threading.Event().wait(30))
    receiver.start()
    connection = syslog.Connection(receiver.address, syslog.client_context(authority.certificate))

    def send_much() -> None:
        for _ in range(1000):
            connection.send(b"x" * 100_000)

    with pytest.raises(TimeoutError):
        send_much()
    connection.close()
    receiver.stop()


def test_the_settings_lead_to_the_receiver(
    tmp_path: Path, receiver: SyslogReceiver, authority: Authority
) -> None:
    files = authority.issue("worker-by-settings")
    settings = Settings.from_env({
        "CXR_HOME": str(tmp_path),
        "CXR_AUDIT_SYSLOG": str(receiver.address),
        "CXR_AUDIT_AUTHORITY": str(files.authority),
        "CXR_AUDIT_CERTIFICATE": str(files.certificate),
        "CXR_AUDIT_KEY": str(files.key),
    })  # fmt: skip
    trail = Trail.of(settings, sends=True)
    trail.record(viewed(1))
    comes(receiver, [1])
    trail.close()
    silent = Trail.of(settings)
    silent.record(viewed(2))
    silent.close()
    assert numbers(receiver.messages) == [1], "only the process that lasts sends"


def test_files_of_tls_that_cannot_be_used_name_their_setting(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    ours, theirs = authority.issue("mine"), stranger.issue("yours")
    junk, gone = tmp_path / "junk.pem", tmp_path / "gone.pem"
    junk.write_text("no certificate")
    for setting, told, files in (
        (syslog.AUTHORITY, "holds no certificate", (junk, None, None)),
        (syslog.AUTHORITY, "cannot be read", (gone, None, None)),
        (syslog.CERTIFICATE, "cannot be read", (ours.authority, gone, ours.key)),
        (syslog.KEY, "cannot be read", (ours.authority, ours.certificate, gone)),
        (syslog.KEY, "not that of the certificate", (ours.authority, ours.certificate, theirs.key)),
        (syslog.KEY, "is no private key", (ours.authority, ours.certificate, junk)),
    ):
        with pytest.raises(ConfigurationError, match=f"^{setting}: .*{told}"):
            syslog.client_context(*files)


def test_a_host_name_that_is_odd_is_still_one_word_of_the_envelope() -> None:
    from tests.fakes import NOON
    from worker.audit.schema import Outcome

    def host(name: str) -> str:
        line = syslog.enveloped("<x/>", Outcome.SUCCESS, name, 7, NOON)
        return line.decode().split(" ")[2]

    assert [host(each) for each in ("a b", "ü", "", "x" * 300)] == ["ab", "-", "-", "x" * 255]
    assert Receiver("h", 1).host == "h"
