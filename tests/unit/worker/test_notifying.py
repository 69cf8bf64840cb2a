"""From a positive report to whoever is told at once: owed, sent, tried again, given up."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError
from model.predict import Prediction
from tests.fakes import PRESENT
from tests.notices import PATIENT, secret_file
from tests.ward import PACS, Killed, Ward, chest
from worker import chart, hl7, notifying, webhook, worklist
from worker.audit.trail import NotRecorded, Trail
from worker.desk import Bell
from worker.notice import Answer, News, NoticeRefused, TargetAway
from worker.notifying import AT_ONCE, MOST_DEATHS
from worker.settings_notify import NotifyField
from worker.states import JobKind
from worker.tables import Instance, Notice, Outage, Report, Study
from worker.worklist import Wanted

ABSENT = Prediction(0.1, 0.05, 0.05, "ABSENT")
UNDETERMINED = Prediction(0.5, 0.3, 0.2, "UNDETERMINED")
IDENTIFYING = [value for value in PATIENT.values() if len(value) > 1]
WEBHOOK, HL7 = "webhook", "hl7"


class FakeTell:
    """Takes notices as it is told: what is in `answers` is raised, or called; then all is taken."""

    def __init__(self, answers: Iterable[Exception | Callable[[], None]] = ()) -> None:
        self.answers = list(answers)
        self.told: list[News] = []

    def __call__(self, settings: Any, news: News) -> Answer:
        self.told.append(news)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer()
        return Answer(204, "the webhook answered 204")


class Telling(Ward):
    """A ward whose positive studies are told of."""

    def __init__(
        self, folder: Path, sessions: sessionmaker[Session], target: str = WEBHOOK, **environ: str
    ) -> None:
        chosen = {
            WEBHOOK: {
                "CXR_WEBHOOK_URL": "https://alerts.example.org/s3cret-path",
                "CXR_WEBHOOK_SECRET_FILE": str(secret_file(folder)),
            },
            HL7: {"CXR_HL7_DESTINATION": "mllp://his.example.org:2575"},
        }  # fmt: skip
        super().__init__(folder, sessions, **chosen[target], **environ)
        self.target, self.tell = target, FakeTell()
        self.trail = Trail(folder / "audit.log", "CXRWORKER")

    def reported(self, answer: Prediction = PRESENT, **attributes: Any) -> str:
        self.classifier.answer = answer
        study = self.receive_study(**attributes)
        self.report_it()
        return study

    def again(self, study: str, answer: Prediction) -> None:
        """Send another image of a study, and report it with another answer to all of them."""
        self.classifier.answer = answer
        info = self.classifier.info
        self.classifier.info = replace(info, digest=f"{info.digest}x"[-64:])
        self.receive(chest(study))
        self.report_it()

    def report_it(self) -> None:
        for _ in range(3):
            self.classify()
            self.clock.forward(self.settings.quiet_s)
            self.report()

    def notify(self, record: Any = None) -> int:
        return notifying.notify(
            self.desk, self.target, self.tell, record or self.trail.record, self.bells
        )

    def notices(self) -> list[tuple[str, str]]:
        return [(row.finding, row.state) for row in self.all(Notice)]

    def audited(self) -> str:
        path = Path(self.trail._file.path)
        return path.read_text() if path.exists() else ""


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Telling:
    return Telling(tmp_path, sqlite_sessions)


# --- what is owed ----------------------------------------------------------------------------


def test_a_positive_report_owes_a_notice_and_rings_for_it(ward: Telling) -> None:
    ward.reported()
    assert ward.notices() == [("PRESENT", "PENDING")]
    assert Bell(JobKind.NOTIFY, WEBHOOK) in ward.bells.rung
    assert ward.notify() == 1
    (news,) = ward.tell.told
    assert (news.finding, news.corrects, news.images, news.unassessed) == ("PRESENT", False, 1, 0)
    assert news.probability == pytest.approx(PRESENT.pneumonia)
    assert ward.notices() == [("PRESENT", "SENT")]
    assert ward.notify() == 0


@pytest.mark.parametrize("answer", [ABSENT, UNDETERMINED])
def test_no_other_report_owes_one(ward: Telling, answer: Prediction) -> None:
    ward.reported(answer)
    assert ward.notices() == []
    assert Bell(JobKind.NOTIFY, WEBHOOK) not in ward.bells.rung


def test_a_study_outside_the_population_owes_none(ward: Telling) -> None:
    ward.reported(PatientAge="060Y")
    assert ward.reasons() == ["OUTSIDE_POPULATION"]
    assert ward.notices() == []


def test_what_is_positive_is_what_the_worklist_says(ward: Telling) -> None:
    for answer in (PRESENT, UNDETERMINED, ABSENT, PRESENT):
        ward.reported(answer)
    with ward.sessions() as session:
        lines = worklist.page(session, Wanted()).lines
    positive = {line.found.study.id for line in lines if line.answer == "PRESENT"}
    assert {row.study_id for row in ward.all(Notice)} == positive
    assert len(positive) == 2


def test_nothing_is_owed_when_nobody_is_to_be_told(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions)
    ward.receive_study()
    ward.work(9)
    assert ward.all(Notice) == []
    assert ward.jobs() == []


def test_notice_and_report_are_committed_together(ward: Telling) -> None:
    ward.receive_study()
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s)
    for moment in range(20):
        with ward.killed_at(moment) as happened:
            ward.report()
        assert bool(ward.deliveries()) == bool(ward.notices())
        ward.clock.forward(ward.settings.lease_s + 1)
        if not happened[0]:
            break
    assert ward.notices() == [("PRESENT", "PENDING")]


def test_another_answer_is_told_as_a_correction(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    ward.again(study, ABSENT)
    ward.notify()
    assert [(n.finding, n.corrects, n.revision) for n in ward.tell.told] == [
        ("PRESENT", False, 1), ("ABSENT", True, 2),
    ]  # fmt: skip
    first, second = ward.tell.told
    assert first.reference == second.reference
    assert first.message_id != second.message_id


def test_an_alarm_is_not_withdrawn_because_its_image_could_not_be_assessed(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    ward.classifier.answer = ABSENT
    ward.receive(chest(study))
    ward.report_it()
    path = ward.archive.absolute(ward.all(Instance)[0].path)
    whole = path.read_bytes()
    _replace(path, whole[:-8])
    ward.requeue(study)
    ward.report_it()
    assert [bool(reason) for reason in ward.reasons()] == [True, False]
    assert ward.notify() == 0
    assert ward.notices() == [("PRESENT", "SENT")]
    _replace(path, whole)
    ward.requeue(study)
    ward.report_it()
    ward.notify()
    assert ward.notices() == [("PRESENT", "SENT"), ("ABSENT", "SENT")]
    assert ward.tell.told[-1].unassessed == 0


def _replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_an_image_that_never_gave_cause_does_not_hold_a_correction_up(ward: Telling) -> None:
    study = ward.reported()
    ward.receive(chest(study, PatientAge="060Y"))
    ward.report_it()
    ward.notify()
    ward.again(study, ABSENT)
    ward.notify()
    assert [(n.finding, n.unassessed) for n in ward.tell.told] == [("PRESENT", 1), ("ABSENT", 1)]


def test_the_same_answer_is_not_told_again(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    ward.again(study, PRESENT)
    assert ward.notify() == 0
    assert ward.requeue(study)
    ward.report_it()
    assert ward.notify() == 0
    assert len(ward.tell.told) == 1


# --- what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [WEBHOOK, HL7])
def test_nothing_of_the_patient_leaves_or_is_logged_unless_it_is_chosen(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], target: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    ward = Telling(tmp_path, sqlite_sessions, target)
    study = ward.reported(**PATIENT)
    ward.tell.answers = [TargetAway("the webhook answered 503", 503)]
    ward.notify()
    ward.clock.forward(60)
    ward.notify()
    secrets = [*IDENTIFYING, "Noether", "Emmy", study, ward.all(Study)[0].study_instance_uid]
    secrets += [report.sop_instance_uid for report in _reports(ward)]
    for news in ward.tell.told:
        assert news.fields == {}
        sent = (
            webhook.body_of(news).decode()
            + hl7.message_of(news, hl7.Ends("US"), ward.clock()).decode()
        )
        assert [each for each in secrets if each in sent] == []
    assert [each for each in IDENTIFYING if each in caplog.text] == []
    assert "s3cret-path" not in caplog.text + ward.audited()


def _reports(ward: Ward) -> list[Any]:
    return list(ward.all(Report))


def test_what_is_chosen_is_told_as_the_modality_wrote_it(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    fields = "patient_name,patient_id,study_date"
    ward = Telling(tmp_path, sqlite_sessions, CXR_NOTIFY_FIELDS=fields)
    ward.reported(**PATIENT | {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"})
    ward.notify()
    (news,) = ward.tell.told
    assert news.fields == {
        "patient_name": "Müller^Jörg", "patient_id": "PID-4711", "study_date": "20260102",
        "issuer_of_patient_id": "GOETTINGEN",
    }  # fmt: skip


def test_every_field_that_may_be_chosen_is_found_in_the_report(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Telling(tmp_path, sqlite_sessions, CXR_NOTIFY_FIELDS=",".join(NotifyField))
    ward.reported(**PATIENT)
    ward.notify()
    assert set(ward.tell.told[0].fields) == {*NotifyField, "issuer_of_patient_id"}


def test_each_try_is_in_the_audit_trail_before_it_leaves(ward: Telling) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(ward.audited().count("110106"))  # Export
        if len(seen) == 1:
            raise TargetAway("away", 503)

    ward.tell.answers = [look, look]
    study = ward.reported(**PATIENT)
    ward.notify()
    ward.clock.forward(60)
    ward.notify()
    assert seen == [1, 2]
    trail = ward.audited()
    for words in (study, PATIENT["PatientID"], "notice by https://alerts.example.org"):
        assert words in trail


def test_what_is_set_anew_between_tries_is_in_the_audit_trail(ward: Telling) -> None:
    ward.tell.answers = [TargetAway("away", 503)]
    ward.reported(**PATIENT)
    ward.notify()
    assert "patient_name" not in ward.audited()
    ward.clock.forward(60)
    anew = {
        "webhook_url": "https://other.example.org",
        "notify_fields": (NotifyField.PATIENT_NAME,),
    }
    ward.desk = replace(ward.desk, settings=ward.settings.model_copy(update=anew))
    ward.notify()
    assert ward.tell.told[-1].fields == {"patient_name": PATIENT["PatientName"]}
    assert "notice by https://other.example.org with patient_name" in ward.audited()


def test_what_cannot_be_recorded_does_not_leave(ward: Telling) -> None:
    def refuse(*_: Any) -> None:
        raise NotRecorded("the audit trail cannot be written")

    ward.reported()
    ward.notify(refuse)
    assert ward.tell.told == []
    assert ward.notices() == [("PRESENT", "PENDING")]
    ward.clock.forward(60)
    ward.notify()
    assert len(ward.tell.told) == 1
    assert "110106" in ward.audited()


# --- when it goes wrong ----------------------------------------------------------------------


def test_a_target_that_is_away_is_tried_again_further_and_further_apart(ward: Telling) -> None:
    ward.tell.answers = [TargetAway("cannot be reached", reached=False) for _ in range(4)]
    ward.reported()
    waits = []
    for _ in range(4):
        ward.notify()
        (outage,) = ward.all(Outage)
        assert outage.destination == WEBHOOK
        waits.append(outage.next_try_at - ward.clock())
        assert ward.notify() == 0  # nothing is sent meanwhile
        ward.clock.now = outage.next_try_at + timedelta(seconds=1)
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
    ward.notify()
    assert ward.notices() == [("PRESENT", "SENT")]
    assert ward.all(Outage) == []
    assert len({news.message_id for news in ward.tell.told}) == 1
    assert [row.attempts for row in ward.all(Notice)] == [1]  # what was never sent is no try


def test_one_try_finds_out_for_all_that_is_owed(ward: Telling) -> None:
    ward.tell.answers = [TargetAway("cannot be reached", reached=False)]
    for _ in range(3):
        ward.reported()
    ward.notify()
    assert len(ward.tell.told) == 1
    ward.clock.forward(60)
    ward.notify()
    assert ward.notices() == [("PRESENT", "SENT")] * 3


def test_a_target_is_left_alone_as_long_as_it_asks(ward: Telling) -> None:
    ward.tell.answers = [TargetAway("the webhook answered 429", 429, 600)]
    ward.reported()
    ward.notify()
    ward.clock.forward(599)
    assert ward.notify() == 0
    ward.clock.forward(2)
    assert ward.notify() == 1
    assert ward.notices() == [("PRESENT", "SENT")]


def test_a_refusal_is_a_dead_letter_at_once_and_the_next_notice_goes(ward: Telling) -> None:
    ward.tell.answers = [NoticeRefused("the webhook answered 410", 410)]
    study = ward.reported()
    ward.reported()
    ward.notify()
    assert ward.notices() == [("PRESENT", "FAILED"), ("PRESENT", "SENT")]
    dead = [job for job in ward.jobs() if job.state == "DEAD"]
    assert [(job.kind, job.destination, job.last_error) for job in dead] == [
        ("NOTIFY", WEBHOOK, "the webhook answered 410")
    ]
    ward.deliver(PACS)
    assert ward.states() == ["DELIVERED", "DELIVERED"]  # the reports are where they should be
    assert ward.requeue(study) == 1
    ward.notify()
    assert ward.notices() == [("PRESENT", "SENT"), ("PRESENT", "SENT")]


def test_a_notice_that_came_through_before_it_was_refused_is_corrected(ward: Telling) -> None:
    away, refused = TargetAway("no answer in time"), NoticeRefused("the webhook answered 410", 410)
    ward.tell.answers = [away, refused]
    study = ward.reported()
    for _ in range(2):
        ward.notify()
        ward.clock.forward(60)
    assert ward.notices() == [("PRESENT", "FAILED")]
    ward.again(study, ABSENT)
    ward.notify()
    assert ward.notices() == [("PRESENT", "FAILED"), ("ABSENT", "SENT")]
    assert ward.tell.told[-1].corrects


def test_a_notice_that_was_refused_alone_is_not_corrected(ward: Telling) -> None:
    ward.tell.answers = [NoticeRefused("the webhook answered 410", 410)]
    study = ward.reported()
    ward.notify()
    ward.again(study, ABSENT)
    assert ward.notices() == [("PRESENT", "FAILED")]


def test_what_becomes_untrue_while_it_waits_behind_another_is_not_sent(ward: Telling) -> None:
    ward.reported()
    waits = ward.reported()
    ward.tell.answers = [lambda: ward.again(waits, ABSENT)]
    assert ward.notify() == 2
    assert ward.notices() == [("PRESENT", "SENT"), ("PRESENT", "SUPERSEDED")]
    assert ward.notify() == 0


def test_a_wrong_setting_is_waited_for_until_it_is_right(ward: Telling) -> None:
    ward.tell.answers = [ConfigurationError("CXR_WEBHOOK_SECRET_FILE", "cannot be read")]
    ward.reported()
    ward.notify()
    assert "CXR_WEBHOOK_SECRET_FILE" in ward.all(Outage)[0].last_error
    ward.clock.forward(60)
    ward.notify()
    assert ward.notices() == [("PRESENT", "SENT")]


def test_what_nobody_foresaw_is_tried_some_times_and_its_text_is_not_kept(ward: Telling) -> None:
    ward.tell.answers = [ValueError("Noether") for _ in range(99)]
    ward.reported()
    for _ in range(10):
        ward.notify()
        ward.clock.forward(60)
    assert ward.notices() == [("PRESENT", "FAILED")]
    assert len(ward.tell.told) == ward.settings.max_attempts
    assert {row.last_answer for row in ward.all(Notice)} == {"ValueError"}


def test_who_is_no_longer_set_is_not_told_and_a_person_sees_it(ward: Telling) -> None:
    ward.reported()
    ward.desk = replace(ward.desk, settings=ward.settings.model_copy(update={"webhook_url": ""}))
    ward.notify()
    assert ward.tell.told == []
    (job,) = [job for job in ward.jobs() if job.kind == JobKind.NOTIFY]
    assert job.state == "DEAD"
    assert "webhook" in job.last_error


def test_a_worker_killed_after_it_sent_sends_again_under_the_same_id(ward: Telling) -> None:
    def die() -> None:
        raise Killed

    ward.tell.answers = [die]
    ward.reported()
    with pytest.raises(Killed):
        ward.notify()
    assert ward.notices() == [("PRESENT", "PENDING")]
    ward.clock.forward(ward.settings.lease_s + 1)
    ward.notify()
    first, second = ward.tell.told
    assert webhook.body_of(first) == webhook.body_of(second)
    assert first.message_id == second.message_id
    assert ward.notices() == [("PRESENT", "SENT")]


def test_a_notice_that_ends_its_worker_again_and_again_is_given_up(ward: Telling) -> None:
    def die() -> None:
        raise Killed

    ward.tell.answers = [die] * (MOST_DEATHS + 9)
    ward.reported()
    for _ in range(MOST_DEATHS + 1):
        try:
            ward.notify()
        except Killed:
            ward.clock.forward(ward.settings.lease_s + 1)
    assert ward.notices() == [("PRESENT", "FAILED")]
    assert len(ward.tell.told) == MOST_DEATHS


def test_more_than_one_step_takes_is_announced(ward: Telling) -> None:
    for _ in range(AT_ONCE + 1):
        ward.reported()
    ward.bells.rung.clear()
    assert ward.notify() == AT_ONCE
    assert ward.bells.rung == [Bell(JobKind.NOTIFY, WEBHOOK)]
    assert ward.notify() == 1


# --- where people see it ---------------------------------------------------------------------


def test_the_page_of_a_study_tells_who_was_told(ward: Telling) -> None:
    study = ward.reported()
    ward.notify()
    with ward.sessions() as session:
        found = chart.chart(session, study)
    assert found is not None
    assert [(row.target, row.state) for row in found.line.found.notices] == [(WEBHOOK, "SENT")]
    assert "a notice (present) acknowledged by webhook" in [event.what for event in found.events]


def test_a_discarded_notice_leaves_the_study_as_it_is(ward: Telling) -> None:
    ward.tell.answers = [NoticeRefused("the webhook answered 410", 410)]
    study = ward.reported()
    ward.deliver(PACS)
    ward.notify()
    assert ward.discard(study) == 1
    assert ward.notices() == [("PRESENT", "DISCARDED")]
    assert ward.states() == ["DELIVERED"]
    assert ward.jobs() == []


def test_the_body_is_json_that_others_can_read(ward: Telling) -> None:
    ward.reported()
    ward.notify()
    assert json.loads(webhook.body_of(ward.tell.told[0]))["data"]["answer"] == "PRESENT"


# --- whatever dies ---------------------------------------------------------------------------


def test_killed_at_any_moment_each_notice_is_sent_under_one_id(ward: Telling) -> None:
    for moment in range(40):
        ward.reported()
        with ward.killed_at(moment) as happened:
            ward.notify()
        for _ in range(3):
            ward.clock.forward(ward.settings.lease_s + 1)
            ward.notify()
        (*_, last) = ward.all(Notice)
        assert last.state == "SENT", f"killed at {moment}"
        assert [job for job in ward.jobs() if job.kind == JobKind.NOTIFY] == []
        if not happened[0]:
            break
    assert moment >= 3
    ids = [news.message_id for news in ward.tell.told]
    assert set(ids) == {row.message_id for row in ward.all(Notice)}
    assert len(ids) > len(set(ids))  # some were sent twice, under the same id
