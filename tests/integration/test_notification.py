"""Notices by real processes: to a receiver that fails, hangs and is killed, and then takes them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.e2e.programs import wait_until
from tests.fakes import PRESENT, FakeClassifier
from tests.integration.house import WORKED_S, House, Redis
from tests.notices import PATIENT, secret_file
from tests.receivers import HANG, Mllp, Webhook
from tests.ward import Ward
from worker.database import build_engine, build_sessions, upgrade
from worker.tables import Job, Notice

pytestmark = pytest.mark.timeout(900)

# What a worker does with a notice; it is killed as soon as the receiver has taken it.
WORKER = """
import os, signal, sys
from worker import composition, notifying

target, is_killed = sys.argv[1:]
send = notifying.sender(target)

def killed(settings, news):
    send(settings, news)
    os.kill(os.getpid(), signal.SIGKILL)

trail = composition.trail()
done = killed if is_killed == "killed" else send
print(notifying.notify(composition.desk(), target, done, trail.record, lambda bell: None))
"""


@dataclass
class Office:
    """A home with work that is owed, and processes that do it."""

    house: House
    webhook: Webhook
    mllp: Mllp

    def work(self, target: str, *, killed: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WORKER, target, "killed" if killed else "lives"],
            env=self.house.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def notices(self) -> dict[str, str]:
        engine = build_engine(self.house.sqlite_url)
        with build_sessions(engine)() as session:
            found = {row.target: row.state for row in session.scalars(select(Notice))}
        engine.dispose()
        return found

    def owed(self) -> int:
        engine = build_engine(self.house.sqlite_url)
        with build_sessions(engine)() as session:
            found = session.scalars(select(Job.id).where(Job.kind == "NOTIFY")).all()
        engine.dispose()
        return len(found)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A home with a positive study that both receivers are owed to hear of."""
    webhook, mllp = Webhook(), Mllp()
    with ExitStack() as stack:
        stack.enter_context(webhook.listening())
        stack.enter_context(mllp.listening())
        settings = {
            "CXR_WEBHOOK_URL": webhook.url,
            "CXR_WEBHOOK_SECRET_FILE": str(secret_file(tmp_path)),
            "CXR_HL7_DESTINATION": f"mllp://127.0.0.1:{mllp.port}",
            "CXR_DELIVERY_RETRY_S": "0.1", "CXR_DELIVERY_RETRY_MAX_S": "0.2",
            "CXR_DELIVERY_TIMEOUT_S": "2", "CXR_LEASE_S": "1",
        }  # fmt: skip
        house = House(tmp_path / "home", tmp_path / "logs")
        house.env |= settings
        (tmp_path / "home").mkdir()
        upgrade(house.sqlite_url)
        engine = build_engine(house.sqlite_url)
        ward = Ward(tmp_path, build_sessions(engine), **settings)
        ward.classifier = FakeClassifier(PRESENT)
        ward.clock.now = datetime.now(UTC) - timedelta(minutes=1)  # real processes go on with it
        ward.receive_study(**PATIENT)
        ward.classify()
        ward.clock.forward(ward.settings.quiet_s)
        ward.report()
        engine.dispose()
        house.env["CXR_ARCHIVE"] = str(ward.archive.root)
        yield Office(house, webhook, mllp)


@pytest.mark.parametrize("target", ["webhook", "hl7"])
def test_a_worker_killed_between_sending_and_committing_sends_again_under_the_same_id(
    office: Office, target: str
) -> None:
    done = office.work(target, killed=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert office.notices()[target] == "PENDING"

    def sent() -> bool:
        again = office.work(target)
        assert again.returncode == 0, again.stderr
        return office.notices()[target] == "SENT"

    wait_until(sent, WORKED_S, "the end of the lease")
    ids = _ids(office, target)
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert office.owed() == 1  # of the other target


def _ids(office: Office, target: str) -> list[str]:
    if target == "webhook":
        return [headers["webhook-id"] for headers, _ in office.webhook.came]
    return [message.split(b"|")[9].decode() for message in office.mllp.came]


@pytest.mark.parametrize(
    ("target", "answers"),
    [("webhook", [500, HANG, 503, 429]), ("hl7", ["AE", HANG, b"no frame", "CE"])],
)
def test_a_receiver_that_fails_and_hangs_is_told_once_it_takes_it(
    office: Office, target: str, answers: list[object]
) -> None:
    receiver: Webhook | Mllp = office.webhook if target == "webhook" else office.mllp
    receiver.answers = list(answers)  # type: ignore[assignment]

    def sent() -> bool:
        done = office.work(target)
        assert done.returncode == 0, done.stderr
        for words in (*PATIENT.values(), "s3cret-path"):
            assert len(words) < 2 or words not in done.stdout + done.stderr
        return office.notices()[target] == "SENT"

    wait_until(sent, WORKED_S, "the notice")
    ids = _ids(office, target)
    assert len(ids) == len(answers) + 1
    assert len(set(ids)) == 1


def test_a_receiver_that_refuses_leaves_a_dead_letter_that_people_see(office: Office) -> None:
    office.webhook.answers, office.mllp.answers = [410], ["AR"]
    for target in ("webhook", "hl7"):
        assert office.work(target).returncode == 0
    assert office.notices() == {"webhook": "FAILED", "hl7": "FAILED"}
    shown = office.house.command("dead-letters")
    for words in ("the webhook answered 410", "the HL7 receiver answered AR", "notify"):
        assert words in " ".join(shown.stdout.split())
    found = office.house.command("dead-letters", "--destination", "webhook").stdout
    assert "410" in found
    assert "AR" not in found


def test_doctor_looks_at_who_is_told(office: Office) -> None:
    told = office.house.command("doctor").stdout
    assert "signed with 1 secret" in " ".join(told.split())
    assert office.webhook.came == []
    assert office.mllp.came == []


def test_a_relay_rings_for_it_and_a_worker_tells_both(office: Office) -> None:
    office.webhook.answers, office.mllp.answers = [503], ["AE"]
    redis, house = Redis(), office.house
    with ExitStack() as stack:
        stack.callback(redis.kill)
        redis.start()
        house.env["CXR_BROKER_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        stack.callback(house.kill_all)
        house.start("relay")
        house.start("worker", "--queues", "io")
        wait_until(
            lambda: office.notices() == {"webhook": "SENT", "hl7": "SENT"}, WORKED_S, "the notices"
        )
        for words in (*PATIENT.values(), "s3cret-path"):
            assert len(words) < 2 or words not in house.text()
    assert len(set(_ids(office, "webhook"))) == len(set(_ids(office, "hl7"))) == 1
    assert office.owed() == 0
