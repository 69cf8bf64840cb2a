"""Storage Commitment: every way in which a destination may answer, or stay silent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import PeerError, ReportRefused
from dicom_node.status import Status
from tests.fakes import answered
from tests.ward import PACS, VIEWER, Ward, chest
from worker import relay
from worker.desk import Bell
from worker.states import JobKind
from worker.tables import CommitmentRequest, Delivery

AWAY = PeerError("PACS: nothing listens on port 104.", PACS)
NOT_OFFERED = ReportRefused("PACS does not offer Storage Commitment.", PACS, 0x0122)
NO_SUCH_INSTANCE = Status.NO_SUCH_INSTANCE


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    ward = Ward(tmp_path, sqlite_sessions)
    ward.send.offers_commitment = True
    return ward


def delivered(ward: Ward, count: int = 1) -> str:
    """Bring a study as far as its commitment being owed."""
    study = ward.receive_study()
    for _ in range(count - 1):
        ward.receive_study()
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    while ward.report() + ward.deliver():
        pass
    return study


def kinds(ward: Ward) -> list[tuple[str, str]]:
    return [(job.kind, job.state) for job in ward.jobs()]


def test_a_report_that_is_kept_is_committed(ward: Ward) -> None:
    delivered(ward)
    assert ward.states() == ["DELIVERED"]
    assert kinds(ward) == [("COMMIT", "DUE")]
    assert ward.commit() == 1
    assert ward.states() == ["COMMITTED"]
    assert ward.deliveries() == [(PACS, "COMMITTED")]
    assert ward.jobs() == []
    ((_, uids),) = ward.ask.asked
    assert uids == [ward.reports()[0].SOPInstanceUID]
    assert ward.all(Delivery)[0].committed_at == ward.clock()


def test_the_delivery_announces_that_there_is_something_to_ask(ward: Ward) -> None:
    delivered(ward)
    assert ward.bells.rung[-2:] != []
    assert Bell(JobKind.COMMIT, PACS) in ward.bells.rung


def test_the_relay_announces_what_nobody_asked_about(ward: Ward) -> None:
    delivered(ward)
    ward.clock.forward(1)
    assert relay.announce_due(ward.desk, ward.bells, lambda _: 0) == [Bell(JobKind.COMMIT, PACS)]


def test_what_does_not_offer_it_is_not_asked(ward: Ward) -> None:
    ward.send.offers_commitment = False
    delivered(ward)
    assert (ward.jobs(), ward.commit(), ward.states()) == ([], 0, ["DELIVERED"])


def test_what_is_not_to_be_asked_is_not_asked(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?commitment=off")
    ward.send.offers_commitment = True
    delivered(ward)
    assert (ward.jobs(), ward.commit(), ward.states()) == ([], 0, ["DELIVERED"])


def test_what_is_no_longer_to_be_asked_is_asked_no_more(
    ward: Ward, tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    delivered(ward)
    later = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS}?commitment=off")
    later.clock.now = ward.clock()
    assert later.commit() == 1
    assert (later.ask.asked, later.jobs(), later.states()) == ([], [], ["DELIVERED"])


def test_a_study_is_committed_when_every_destination_keeps_its_report(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS},{VIEWER}")
    ward.send.offers_commitment = True
    delivered(ward)
    ward.commit(PACS)
    assert ward.states() == ["REPORTED"]
    ward.deliver(VIEWER)
    assert ward.states() == ["DELIVERED"]
    ward.commit(VIEWER)
    assert ward.states() == ["COMMITTED"]


def test_several_reports_are_asked_about_at_once(ward: Ward) -> None:
    delivered(ward, 3)
    assert ward.commit() == 3
    assert len(ward.ask.asked) == 1
    assert ward.states() == ["COMMITTED"] * 3


def test_an_answer_that_comes_later_to_the_node_counts(ward: Ward) -> None:
    ward.ask.answers = [None]
    delivered(ward)
    ward.commit()
    assert (ward.states(), kinds(ward)) == (["DELIVERED"], [("COMMIT", "DUE")])
    assert ward.answer(answered(*ward.ask.asked[0]))
    assert (ward.states(), ward.jobs()) == (["COMMITTED"], [])


def test_an_answer_that_comes_while_we_still_ask_counts_and_is_not_undone(ward: Ward) -> None:
    ward.ask.answers = [None]
    known: list[bool] = []
    ward.ask.during = lambda: known.append(ward.answer(answered(*ward.ask.asked[0])))
    delivered(ward)
    ward.commit()
    assert known == [True]
    assert (ward.states(), ward.jobs()) == (["COMMITTED"], [])


def test_an_answer_to_nothing_that_was_asked_is_unknown(ward: Ward) -> None:
    delivered(ward)
    assert not ward.answer(answered("1.2.3", ["4.5.6"]))
    assert ward.states() == ["DELIVERED"]


def test_an_answer_that_does_not_mention_the_report_leaves_it_open(ward: Ward) -> None:
    ward.ask.answers = [None]
    delivered(ward)
    ward.commit()
    assert ward.answer(answered(ward.ask.asked[0][0], ["4.5.6"]))
    assert (ward.states(), kinds(ward)) == (["DELIVERED"], [("COMMIT", "DUE")])


def test_an_answer_to_an_earlier_request_counts(ward: Ward) -> None:
    ward.ask.answers = [None, None]
    delivered(ward)
    ward.commit()
    ward.clock.forward(700)
    assert ward.commit() == 1
    first, second = ward.ask.asked
    assert first[0] != second[0]
    ward.answer(answered(*first))
    assert ward.states() == ["COMMITTED"]
    assert ward.answer(answered(*second, reason=NO_SUCH_INSTANCE))  # known, and too late to matter
    assert ward.states() == ["COMMITTED"]


def test_silence_is_asked_again_with_growing_waits_and_then_told_to_a_person(ward: Ward) -> None:
    ward.ask.answers = [None] * 99
    study = delivered(ward)
    start, times = ward.clock(), []
    ward.ask.during = lambda: times.append((ward.clock() - start).total_seconds())
    ward.work(seconds=7 * 24 * 3600)
    assert len(times) == ward.settings.max_attempts
    waits = [b - a for a, b in pairwise(times)]
    assert waits == sorted(waits)
    assert waits[0] >= 400
    (job,) = ward.jobs()
    assert (job.kind, job.state, job.destination) == ("COMMIT", "DEAD", PACS)
    assert job.last_error == f"{PACS} did not answer 5 requests to commit itself"
    assert ward.states() == ["DELIVERED"]
    ward.ask.answers = []
    assert ward.requeue(study) == 1
    assert ward.states() == ["DELIVERED"]
    ward.work()
    assert (ward.states(), ward.jobs()) == (["COMMITTED"], [])
    assert len(ward.send.sent) == 1


def test_a_late_answer_ends_what_was_given_up(ward: Ward) -> None:
    ward.ask.answers = [None] * 99
    delivered(ward)
    ward.work(seconds=7 * 24 * 3600)
    ward.answer(answered(*ward.ask.asked[0]))
    assert (ward.states(), ward.jobs()) == (["COMMITTED"], [])


def test_a_destination_that_is_away_is_asked_when_it_is_back(ward: Ward) -> None:
    ward.ask.answers = [AWAY] * 20
    delivered(ward)
    ward.work(seconds=3600)
    assert ward.states() == ["COMMITTED"]
    assert len(ward.ask.asked) == 21


def test_what_refuses_for_good_is_told_to_a_person_and_the_study_stays_delivered(
    ward: Ward,
) -> None:
    ward.ask.answers = [NOT_OFFERED]
    delivered(ward)
    ward.commit()
    (job,) = ward.jobs()
    assert (job.kind, job.state, job.last_error) == ("COMMIT", "DEAD", str(NOT_OFFERED))
    assert ward.states() == ["DELIVERED"]


def test_of_several_reports_that_are_refused_together_each_is_asked_about_alone(
    ward: Ward,
) -> None:
    ward.ask.answers = [NOT_OFFERED, NOT_OFFERED]
    delivered(ward, 3)
    ward.work(seconds=60)
    assert [len(uids) for _, uids in ward.ask.asked] == [3, 1, 1, 1]
    assert sorted(ward.states()) == ["COMMITTED", "COMMITTED", "DELIVERED"]
    assert kinds(ward) == [("COMMIT", "DEAD")]


def test_a_refused_commitment_does_not_fail_a_study_that_is_still_owed_elsewhere(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS},{VIEWER}")
    ward.send.offers_commitment = True
    ward.ask.answers = [NOT_OFFERED]
    delivered(ward)
    ward.commit(PACS)
    assert ward.states() == ["REPORTED"]


def test_what_is_not_kept_is_sent_again(ward: Ward) -> None:
    ward.ask.answers = [NO_SUCH_INSTANCE]
    delivered(ward)
    ward.commit()
    assert ward.states() == ["REPORTED"]
    assert ward.deliveries() == [(PACS, "PENDING")]
    (row,) = ward.all(Delivery)
    assert row.last_answer == "taken, but not kept: no such SOP instance (0x0112)"
    assert ward.deliver() == 0  # not at once
    ward.work(seconds=30)
    assert ward.states() == ["COMMITTED"]
    assert len({data for data, *_ in ward.send.sent}) == 1
    assert [row.failure_reason for row in ward.all(CommitmentRequest)] == [NO_SUCH_INSTANCE, None]


def test_what_is_never_kept_is_told_to_a_person_after_some_tries(ward: Ward) -> None:
    ward.ask.answers = [NO_SUCH_INSTANCE] * 99
    study = delivered(ward)
    ward.work(seconds=24 * 3600)
    assert len(ward.send.sent) == 4
    (job,) = ward.jobs()
    assert (job.kind, job.state) == ("COMMIT", "DEAD")
    assert "not kept" in job.last_error
    assert ward.states() == ["DELIVERED"]
    assert ward.requeue(study) == 1
    ward.ask.answers = [NO_SUCH_INSTANCE]
    ward.work(seconds=3600)
    assert ward.states() == ["COMMITTED"]


def test_of_several_reports_each_has_its_own_answer(ward: Ward) -> None:
    ward.ask.answers = [None]
    delivered(ward, 2)
    ward.commit()
    transaction, (first, second) = ward.ask.asked[0]
    ward.answer(answered(transaction, [first]))
    ward.answer(answered(transaction, [second], NO_SUCH_INSTANCE))
    assert ward.states() == ["COMMITTED", "REPORTED"]


def test_a_report_that_was_replaced_is_no_longer_asked_about(ward: Ward) -> None:
    study = delivered(ward)
    ward.receive(chest(study), association_id="late")
    assert ward.states() == ["RECEIVING"]
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    ward.report()
    assert kinds(ward) == [("DELIVER", "DUE")]
    ward.work()
    assert ward.states() == ["COMMITTED"]
    assert [uids for _, uids in ward.ask.asked] == [[ward.reports()[1].SOPInstanceUID]]


def test_a_report_that_is_replaced_while_we_ask_is_left_in_peace(ward: Ward) -> None:
    study = delivered(ward)

    def late() -> None:
        ward.ask.during = lambda: None
        ward.receive(chest(study), association_id="late")
        ward.classify()
        ward.clock.forward(ward.settings.quiet_s)
        assert ward.report() == 1

    ward.ask.during, ward.ask.answers = late, [NO_SUCH_INSTANCE]
    ward.commit()
    ward.work(seconds=60)
    assert ward.states() == ["COMMITTED"]
    assert [state for _, state in ward.deliveries()] == ["DELIVERED", "COMMITTED"]
    assert len(ward.send.sent) == 2


def test_a_late_image_takes_a_committed_study_back(ward: Ward) -> None:
    study = delivered(ward)
    ward.commit()
    ward.receive(chest(study), association_id="late")
    assert ward.states() == ["RECEIVING"]
    ward.work(seconds=60)
    assert ward.states() == ["COMMITTED"]
    assert [state for _, state in ward.deliveries()] == ["COMMITTED", "COMMITTED"]


def test_a_committed_study_that_is_requeued_is_sent_and_asked_about_anew(ward: Ward) -> None:
    study = delivered(ward)
    ward.commit()
    ward.requeue(study)
    assert ward.states() == ["RECEIVING"]
    ward.work(seconds=60)
    assert ward.states() == ["COMMITTED"]
    assert (len(ward.send.sent), len(ward.ask.asked)) == (2, 2)


def test_killed_at_any_moment_the_report_is_committed_in_the_end(ward: Ward) -> None:
    killed = 0
    while True:
        delivered(ward)
        with ward.killed_at(killed) as happened:
            ward.commit()
        ward.work(seconds=ward.settings.lease_s + 700)
        if not happened[0]:
            break
        killed += 1
    assert killed >= 3
    assert ward.states() == ["COMMITTED"] * (killed + 1)


def test_one_request_at_a_time_goes_to_a_destination(ward: Ward) -> None:
    delivered(ward)
    meanwhile: list[int] = []
    ward.ask.during = lambda: meanwhile.append(ward.commit())
    ward.commit()
    assert meanwhile == [0]


def test_what_we_ask_about_is_known_before_we_ask(ward: Ward) -> None:
    delivered(ward)
    seen: list[list[str]] = []
    ward.ask.during = lambda: seen.append(
        [row.transaction_uid for row in ward.all(CommitmentRequest)]
    )
    ward.commit()
    assert seen == [[ward.ask.asked[0][0]]]
