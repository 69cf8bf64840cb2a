"""Delivery: once to every destination, or a dead letter that says why."""

from __future__ import annotations

import itertools
import logging
import ssl
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import AssociationRejected, PeerError, ReportRefused
from tests.certificates import Authority
from tests.ward import PACS, VIEWER, Killed, Ward, chest
from worker import delivering, relay
from worker.delivering import MOST_DEATHS
from worker.desk import Bell
from worker.states import JobKind
from worker.tables import Companion, Delivery, Outage


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS},{VIEWER}")


def reported(ward: Ward) -> str:
    study = ward.receive_study()
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    ward.report()
    return study


def test_a_refusal_is_a_dead_letter_at_once(ward: Ward) -> None:
    ward.send.answers = [ReportRefused("PACS refused: cannot understand (0xC000)", PACS, 0xC000)]
    study = reported(ward)
    ward.deliver(PACS)
    ward.deliver(VIEWER)
    assert ward.states() == ["FAILED"]
    assert ward.deliveries() == [(PACS, "FAILED"), (VIEWER, "DELIVERED")]
    (job,) = ward.jobs()
    assert (job.state, job.last_error) == ("DEAD", "PACS refused: cannot understand (0xC000)")
    delivery = ward.records()[0]["reports"][0]["deliveries"][0]
    assert delivery["answer"] == "PACS refused: cannot understand (0xC000)"
    assert ward.requeue(study) == 1
    ward.work()
    assert ward.states() == ["DELIVERED"]


def test_a_dead_destination_does_not_hold_up_another(ward: Ward) -> None:
    ward.send.answers = [PeerError("down", PACS)]
    for _ in range(3):
        reported(ward)
    ward.deliver(PACS)
    ward.send.answers = []
    assert [ward.deliver(VIEWER) for _ in range(2)] == [3, 0]


def test_what_comes_while_reports_are_delivered_goes_by_the_same_association(ward: Ward) -> None:
    reported(ward)

    def another() -> None:
        ward.send.during = lambda: None
        reported(ward)

    ward.send.during = another
    assert ward.deliver(PACS) == 2
    assert ward.send.associations == 1
    assert [state for peer, state in ward.deliveries() if peer == PACS] == ["DELIVERED"] * 2


def test_each_report_is_settled_before_the_next_is_sent(ward: Ward) -> None:
    for _ in range(3):
        reported(ward)
    seen: list[int] = []
    ward.send.during = lambda: seen.append(ward.deliveries().count((PACS, "DELIVERED")))
    assert ward.deliver(PACS) == 3
    assert seen == [0, 1, 2]
    assert ward.send.associations == 1


def test_a_turn_that_is_over_hands_back_what_is_left_and_announces_another(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        reported(ward)
    ward.bells.rung.clear()
    ward.send.during = lambda: monkeypatch.setattr(delivering, "TURN_S", 0)
    ward.deliver(PACS)
    assert ward.bells.rung == [Bell(JobKind.DELIVER, PACS)]
    assert len(ward.send.sent) == 1
    left = [job for job in ward.jobs() if job.destination == PACS]
    assert [(job.state, job.attempts) for job in left] == [("DUE", 0)] * 2


def test_a_report_that_is_refused_does_not_hold_up_those_after_it(ward: Ward) -> None:
    for _ in range(3):
        reported(ward)
    ward.send.answers = [0x0000, ReportRefused("no", PACS, 0xC000)]
    assert ward.deliver(PACS) == 3
    assert ward.send.associations == 1
    states = [state for peer, state in ward.deliveries() if peer == PACS]
    assert states == ["DELIVERED", "FAILED", "DELIVERED"]


def test_an_association_that_is_lost_says_nothing_of_the_reports_after_it(ward: Ward) -> None:
    for _ in range(3):
        reported(ward)
    hung_up = PeerError("hung up", PACS)
    ward.send.answers = [0x0000, hung_up, hung_up]
    ward.deliver(PACS)
    assert len(ward.send.sent) == 3
    _, untried = (job for job in ward.jobs() if job.destination == PACS)
    assert (untried.state, untried.attempts, untried.due_at) == ("DUE", 0, ward.clock())
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"] * 3


def test_a_destination_that_takes_one_report_by_each_association_gets_all_at_once(
    ward: Ward,
) -> None:
    for _ in range(4):
        reported(ward)
    hung_up = PeerError("hung up", PACS)
    ward.send.answers = [0x0000, hung_up, 0x0000, hung_up, 0x0000, hung_up]
    assert ward.deliver(PACS) == 4
    assert [state for peer, state in ward.deliveries() if peer == PACS] == ["DELIVERED"] * 4
    assert not ward.all(Outage)
    assert ward.send.associations == 4


def test_a_destination_that_says_that_it_has_no_room_is_not_asked_again_at_once(
    ward: Ward,
) -> None:
    for _ in range(2):
        reported(ward)
    ward.send.answers = [0x0000, PeerError("no room", PACS, 0xA700)]
    ward.deliver(PACS)
    assert ward.send.associations == 1
    assert len(ward.all(Outage)) == 1


def test_a_failure_that_nobody_foresaw_ends_the_association(ward: Ward) -> None:
    for _ in range(2):
        reported(ward)
    ward.send.answers = [KeyError("surprise")]
    ward.deliver(PACS)
    assert len(ward.send.sent) == 1
    ward.work(seconds=60)
    assert ward.states() == ["DELIVERED"] * 2


def test_a_report_that_is_replaced_while_it_waits_its_turn_is_not_sent(ward: Ward) -> None:
    reported(ward)
    study = reported(ward)

    def late() -> None:
        ward.send.during = lambda: None
        ward.receive(chest(study), association_id="late")
        ward.classify()
        ward.clock.forward(ward.settings.quiet_s)
        assert ward.report() == 1

    ward.send.during = late
    ward.deliver(PACS)
    first, replaced, last = ward.reports()
    sent = [dcmread(BytesIO(data)).SOPInstanceUID for data, *_ in ward.send.sent]
    assert sent == [first.SOPInstanceUID, last.SOPInstanceUID]
    assert ("SUPERSEDED", replaced.StudyInstanceUID) == (ward.deliveries()[2][1], study)


def test_killed_at_any_moment_no_more_than_one_report_is_sent_twice(ward: Ward) -> None:
    killed = 0
    while True:
        ward.send.sent.clear()
        for _ in range(3):
            reported(ward)
        with ward.killed_at(killed) as happened:
            ward.deliver(PACS)
        ward.work(seconds=ward.settings.lease_s + 5)
        to_pacs = [data for data, peer, *_ in ward.send.sent if peer == PACS]
        assert len(set(to_pacs)) == 3
        assert len(to_pacs) <= 4
        if not happened[0]:
            break
        killed += 1
    assert killed >= 7
    assert set(ward.states()) == {"DELIVERED"}


def test_a_destination_that_hangs_holds_one_worker_and_never_all(ward: Ward) -> None:
    for _ in range(3):
        reported(ward)
    ward.clock.forward(1)
    meanwhile: list[int] = []

    def hang() -> None:
        ward.send.during = lambda: None
        meanwhile.extend(ward.deliver(each) for each in (PACS, VIEWER, PACS, VIEWER))
        relay.announce_due(ward.desk, ward.bells, lambda _: 0)

    ward.bells.rung.clear()
    ward.send.during = hang
    assert ward.deliver(PACS) == 3
    assert meanwhile == [0, 3, 0, 0]
    assert ward.bells.rung == []
    assert ward.states() == ["DELIVERED"] * 3


def test_what_is_owed_to_a_destination_that_is_away_waits_for_one_try(ward: Ward) -> None:
    for _ in range(5):
        reported(ward)
    ward.send.answers = [PeerError("down", PACS)] * 3
    tried = []
    for _ in range(3):
        while not ward.deliver(PACS):
            ward.clock.forward(1)
        tried.append(ward.clock())
        assert ward.deliver(PACS) == 0
    first, second = (b - a for a, b in itertools.pairwise(tried))
    assert second > 1.4 * first
    ward.work(seconds=ward.settings.delivery_retry_max_s)
    assert ward.states() == ["DELIVERED"] * 5
    assert len([peer for _, peer, *_ in ward.send.sent if peer == PACS]) == 3 + 5
    assert ward.all(Outage) == []


def test_the_wait_for_a_destination_has_a_limit(ward: Ward) -> None:
    reported(ward)
    ward.send.answers = [PeerError("down", PACS)] * 20
    for _ in range(20):
        ward.clock.forward(ward.settings.delivery_retry_max_s)
        assert ward.deliver(PACS) == 1
    (row,) = ward.all(Outage)
    assert (row.failures, row.last_error) == (20, "down")
    assert row.since < row.next_try_at


def test_while_a_destination_is_away_nobody_rings_for_it(ward: Ward) -> None:
    reported(ward)
    ward.send.answers = [PeerError("down", PACS)]
    ward.deliver(PACS)
    ward.deliver(VIEWER)
    ward.clock.forward(1)
    assert relay.announce_due(ward.desk, ward.bells, lambda _: 0) == []
    ward.clock.forward(ward.settings.delivery_retry_s)
    due = [Bell(JobKind.DELIVER, PACS)]
    assert relay.announce_due(ward.desk, ward.bells, lambda _: 0) == due


def test_a_report_that_the_destination_has_no_room_for_lets_the_others_pass(ward: Ward) -> None:
    """It may be the report: if it came first each time, nothing else would ever arrive."""
    studies = [reported(ward) for _ in range(3)]
    first = ward.reports()[0].SOPInstanceUID

    def answer() -> None:
        report = dcmread(BytesIO(ward.send.sent[-1][0]))
        if report.SOPInstanceUID == first and len(ward.send.sent) < 12:
            ward.send.answers = [PeerError("no room", PACS, 0xA700)]

    ward.send.during = answer
    ward.work(seconds=600)
    assert [record["state"] for record in ward.records()] == ["DELIVERED"] * len(studies)
    order = [dcmread(BytesIO(data)).SOPInstanceUID for data, peer, *_ in ward.send.sent]
    assert order.index(ward.reports()[2].SOPInstanceUID) < len(order) - 2


def test_a_destination_that_rejects_us_for_good_is_a_dead_letter_at_once(ward: Ward) -> None:
    words = "PACS rejected the association: Calling AE title not recognised"
    ward.send.answers = [AssociationRejected(words, PACS)]
    study = reported(ward)
    ward.deliver(PACS)
    (job,) = [each for each in ward.jobs() if each.destination == PACS]
    assert (job.state, job.last_error) == ("DEAD", words)
    assert ward.all(Outage) == []
    ward.requeue(study)
    ward.work()
    assert ward.states() == ["DELIVERED"]


def test_a_requeue_does_not_wait_for_a_destination_that_was_away(ward: Ward) -> None:
    ward.send.answers = [ReportRefused("no", PACS, 0xC000), PeerError("down", PACS)]
    refused = reported(ward)
    ward.deliver(PACS)
    reported(ward)
    ward.deliver(PACS)
    assert ward.deliver(PACS) == 0
    ward.requeue(refused)
    assert ward.deliver(PACS) == 1


def test_a_report_that_is_gone_for_good_is_a_dead_letter(ward: Ward) -> None:
    reported(ward)
    Path(str(ward.reports()[0].filename)).unlink()
    ward.work(seconds=3600)
    letters = [job for job in ward.jobs() if job.state == "DEAD"]
    assert len(letters) == 2
    assert all("gone from the archive" in letter.last_error for letter in letters)


def test_nothing_owed_to_a_destination_is_nothing_sent(ward: Ward) -> None:
    reported(ward)
    assert ward.deliver("OTHER@192.0.2.3:104") == 0
    assert ward.send.sent == []


def test_a_superseded_report_is_not_sent(ward: Ward) -> None:
    ward.send.answers = [PeerError("down", PACS)]
    study = reported(ward)
    ward.deliver(PACS)
    ward.receive(chest(study), association_id="late")
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    ward.report()
    ward.work(seconds=700)
    first, second = ward.reports()
    assert [state for _, state in ward.deliveries()] == [
        "SUPERSEDED", "SUPERSEDED", "DELIVERED", "DELIVERED",
    ]  # fmt: skip
    sent = [data for data, peer, *_ in ward.send.sent if peer == PACS]
    assert sent[1:] == [Path(str(second.filename)).read_bytes()]
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_a_report_that_is_replaced_while_it_is_sent_is_followed_by_its_replacement(
    ward: Ward,
) -> None:
    study = reported(ward)

    def late() -> None:
        ward.send.during = lambda: None
        ward.receive(chest(study), association_id="late")
        ward.classify()
        ward.clock.forward(ward.settings.quiet_s)
        assert ward.report() == 1

    ward.send.during = late
    ward.send.answers = [PeerError("hung up", PACS)]
    ward.deliver(PACS)
    ward.work(seconds=700)
    _, second = ward.reports()
    last = {peer: data for data, peer, *_ in ward.send.sent}
    assert last == dict.fromkeys((PACS, VIEWER), Path(str(second.filename)).read_bytes())
    assert len([peer for _, peer, *_ in ward.send.sent if peer == PACS]) == 2
    assert ward.states() == ["DELIVERED"]


def test_a_report_that_cannot_be_read_just_now_is_tried_again(ward: Ward) -> None:
    reported(ward)
    file = Path(str(ward.reports()[0].filename))
    away = file.rename(file.with_suffix(".away"))
    ward.deliver(PACS)
    assert ward.send.sent == []
    assert str(file) not in str(ward.jobs()[0].last_error)
    away.rename(file)
    ward.work(seconds=10)
    assert ward.states() == ["DELIVERED"]


def test_killed_at_any_moment_a_report_arrives_and_always_the_same(ward: Ward) -> None:
    killed = 0
    while True:
        reported(ward)
        with ward.killed_at(killed) as happened:
            ward.deliver(PACS)
        ward.work(seconds=ward.settings.lease_s + 5)
        if not happened[0]:
            break
        killed += 1
    assert killed >= 2
    assert ward.states() == ["DELIVERED"] * (killed + 1)
    assert len({data for data, *_ in ward.send.sent}) == killed + 1


def test_a_failure_that_nobody_foresaw_keeps_the_delivery_owed(ward: Ward) -> None:
    ward.send.answers = [KeyError("surprise")]
    reported(ward)
    ward.deliver(PACS)
    ward.work(seconds=60)
    assert ward.states() == ["DELIVERED"]


def test_a_failure_that_nobody_foresaw_each_time_is_a_dead_letter(ward: Ward) -> None:
    ward.send.answers = [KeyError("Surname^Name")] * 99
    reported(ward)
    ward.work(seconds=3600)
    assert ward.states() == ["FAILED"]
    assert {(job.state, job.last_error) for job in ward.jobs()} == {("DEAD", "KeyError")}


def test_a_delivery_that_ends_its_worker_each_time_is_a_dead_letter(ward: Ward) -> None:
    def die() -> None:
        raise Killed

    reported(ward)
    ward.send.during = die
    for _ in range(MOST_DEATHS):
        with pytest.raises(Killed):
            ward.deliver(PACS)
        ward.clock.forward(ward.settings.lease_s)
    ward.deliver(PACS)
    (job,) = [job for job in ward.jobs() if job.state == "DEAD"]
    assert job.last_error == f"it ended its worker {MOST_DEATHS} times"


def test_a_file_that_is_gone_for_a_moment_after_a_long_outage_is_tried_again(ward: Ward) -> None:
    ward.send.answers = [PeerError("down", PACS)] * 9
    reported(ward)
    for _ in range(9):
        ward.clock.forward(ward.settings.delivery_retry_max_s)
        assert ward.deliver(PACS) == 1
    file = Path(str(ward.reports()[0].filename))
    away = file.rename(file.with_suffix(".away"))
    ward.clock.forward(ward.settings.delivery_retry_max_s)
    ward.deliver(PACS)
    away.rename(file)
    ward.work(seconds=120)
    assert ward.states() == ["DELIVERED"]


def test_a_destination_that_is_no_longer_set_still_gets_what_it_is_owed(
    ward: Ward, tmp_path: Path
) -> None:
    reported(ward)
    later = Ward(tmp_path, ward.sessions, CXR_DESTINATIONS=VIEWER)
    later.clock.now = ward.clock()
    later.work()
    assert later.states() == ["DELIVERED"]
    assert {peer for _, peer, *_ in later.send.sent} == {PACS, VIEWER}


# --- what goes along -------------------------------------------------------------------------


def test_a_companion_that_is_refused_is_told_and_the_report_is_delivered(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?companions=key-object")
    reported(ward)
    ward.send.refused = {0}
    with caplog.at_level(logging.INFO, logger="worker.delivering"):
        ward.deliver(PACS)
    assert ward.states() == ["DELIVERED"]
    answer = ward.all(Delivery)[0].last_answer
    (companion,) = ward.all(Companion)
    refused = f"key object {companion.sop_instance_uid} not taken: the data set does not match"
    assert answer.startswith(f"success (0x0000); {refused}")
    (line,) = caplog.messages
    assert line.endswith(answer)


def test_a_companion_that_is_gone_does_not_hold_up_its_report(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?companions=key-object")
    reported(ward)
    (companion,) = ward.all(Companion)
    ward.archive.absolute(companion.path).unlink()
    ward.deliver(PACS)
    assert (ward.states(), ward.send.companions) == (["DELIVERED"], [[]])


def test_the_database_says_as_what_a_report_was_taken(ward: Ward) -> None:
    reported(ward)
    ward.deliver(PACS)
    row, other = ward.all(Delivery)
    report = ward.reports()[0]
    assert (row.sop_class_uid, row.sop_instance_uid) == (report.SOPClassUID, report.SOPInstanceUID)
    assert (other.sop_class_uid, other.sop_instance_uid) == (None, None)


# --- TLS -------------------------------------------------------------------------------------


def test_a_destination_with_tls_gets_tls_and_no_other(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    certificates = Authority(tmp_path / "ca").issue("us")
    ward = Ward(
        tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?tls=on,{VIEWER}",
        CXR_TLS_CERTIFICATE=str(certificates.certificate), CXR_TLS_KEY=str(certificates.key),
        CXR_TLS_AUTHORITY=str(certificates.authority),
    )  # fmt: skip
    ward.send.offers_commitment = True
    reported(ward)
    for destination in (PACS, VIEWER):
        ward.deliver(destination)
        ward.commit(destination)
    assert [isinstance(tls, ssl.SSLContext) for tls in ward.send.tls] == [True, False]
    assert [isinstance(tls, ssl.SSLContext) for tls in ward.ask.tls] == [True, False]


def test_certificates_that_are_gone_are_told_and_the_report_stays_owed(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    ward = Ward(
        tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?tls=on",
        CXR_TLS_CERTIFICATE="gone.pem", CXR_TLS_KEY="gone.pem", CXR_TLS_AUTHORITY="gone.pem",
    )  # fmt: skip
    reported(ward)
    ward.deliver(PACS)
    assert ward.send.sent == []
    (job,) = ward.jobs()
    assert (job.state, job.last_error.split(":")[0]) == ("DUE", "CXR_TLS_AUTHORITY")
    assert "CXR_TLS_AUTHORITY: " in caplog.text
