"""What people see: the JSON contract, CSV and the table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from sqlalchemy import event, select
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import PeerError
from model.predict import Prediction
from tests.fakes import FakeClassifier, answered, model_info, new_uid
from tests.ledgers import Desk
from tests.ward import PACS, VIEWER, Ward, chest
from worker import ledger, results
from worker.news import owe_notices
from worker.states import DeliveryState, JobKind, NoticeKind, NoticeState, StudyState
from worker.tables import Study
from worker.worklist import Answer

TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d$"}
UID = {"type": "string", "pattern": r"^[0-9.]{1,64}$"}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


CONTRACT = {
    "type": "array",
    "items": an_object(
        study_instance_uid=UID,
        accession_number={"type": "string"},
        patient_id={"type": "string"},
        received_at=TIME,
        state={"enum": [*StudyState]},
        instances={
            "type": "array",
            "items": an_object(
                sop_instance_uid=UID,
                sop_class_uid=UID,
                assessed={"type": "boolean"},
                reason={"type": ["string", "null"], "pattern": "^[A-Z_]+$"},
                probabilities={
                    "type": "object",
                    "properties": {"pneumonia": SHARE, "bacterial": SHARE, "viral": SHARE},
                    "additionalProperties": False,
                },
                finding={"enum": ["PRESENT", "ABSENT", "UNDETERMINED", None]},
            ),
        },
        reports={
            "type": "array",
            "items": an_object(
                sop_instance_uid=UID,
                revision={"type": "integer", "minimum": 1},
                created_at=TIME,
                deliveries={
                    "type": "array",
                    "items": an_object(
                        destination={"type": "string"},
                        state={"enum": list(DeliveryState)},
                        attempts={"type": "integer", "minimum": 0},
                        delivered_at={"anyOf": [TIME, {"type": "null"}]},
                        committed_at={"anyOf": [TIME, {"type": "null"}]},
                        sop_class_uid={"anyOf": [UID, {"type": "null"}]},
                        sop_instance_uid={"anyOf": [UID, {"type": "null"}]},
                    ),
                },
            ),
        },
        notices={
            "type": "array",
            "items": an_object(
                target={"enum": ["webhook", "hl7"]},
                message_id={"type": "string", "pattern": "^[0-9a-f]{20}$"},
                kind={"enum": list(NoticeKind)},
                finding={"enum": list(Answer)},
                revision={"type": ["integer", "null"], "minimum": 1},
                state={"enum": list(NoticeState)},
                tries={"type": "integer", "minimum": 0},
                may_have_arrived={"type": "boolean"},
                owed_at=TIME,
                acknowledged_at={"anyOf": [TIME, {"type": "null"}]},
                answer={"type": ["string", "null"]},
            ),
        },
        model={
            "anyOf": [
                {"type": "null"},
                an_object(**{key: {"type": "string"} for key in ("name", "version", "digest")}),
            ]
        },
    ),
}


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions, CXR_DESTINATIONS=f"{PACS},{VIEWER}")


def notified(ward: Ward, study: str, target: str = "webhook") -> None:
    """Owe a notice of a study that was reported, and have it taken."""
    with ward.sessions() as session, session.begin():
        rows = select(Study.id).where(Study.study_instance_uid == study)
        assert owe_notices(session, session.scalars(rows).one(), [target], ward.clock())
    with ward.sessions() as session, session.begin():
        (claim,) = ledger.claim(
            session, JobKind.NOTIFY, 1, ward.clock(), ward.desk.lease, destination=target
        )
        assert ledger.notice_to_send(session, claim) is not None
        ledger.save_sent(session, claim, 204, "the webhook answered 204", ward.clock())


def tell(ward: Ward) -> None:
    """Studies of every kind: delivered, half delivered, not assessable, just received."""
    done = ward.receive_study(2)
    ward.work(seconds=5)
    ward.receive_study(BodyPartExamined="HAND")
    ward.send.answers = [PeerError("down", PACS)]
    ward.work(seconds=2)
    notified(ward, done)
    ward.receive_study()


def read(text: str) -> Any:
    return json.loads(text)


def test_results_tell_of_each_instance_what_the_report_told(ward: Ward) -> None:
    """Two workers, one still on the old model: what it said last of one image is not reported."""
    new = FakeClassifier(Prediction(0.1, finding="ABSENT"), model_info("f" * 64, "2.0"))
    old, study = ward.classifier, new_uid()
    for classifier, ds in ((new, chest(study)), (old, None), (new, chest(study))):
        if ds is None:
            ward.requeue(study)
        else:
            ward.receive(ds)
        ward.clock.forward(1)
        ward.classifier = classifier
        ward.classify()
    ward.work(seconds=5)
    (record,) = ward.records()
    assert record["model"]["version"] == "2.0"
    assert [i["finding"] for i in record["instances"]] == ["ABSENT", "ABSENT"]
    assert len(record["reports"]) == 1


def test_the_json_keeps_its_contract(ward: Ward) -> None:
    tell(ward)
    studies = read(results.to_json(ward.records()))
    jsonschema.validate(studies, CONTRACT)
    assert [study["state"] for study in studies] == ["RECEIVING", "REPORTED", "DELIVERED"]
    assert [len(study["notices"]) for study in studies] == [0, 0, 1]


def test_an_instance_says_its_answer_or_its_reason(ward: Ward) -> None:
    tell(ward)
    waiting, hand, done = ward.records()
    assert waiting["instances"][0]["assessed"] is False
    assert waiting["instances"][0]["reason"] is None
    assert waiting["instances"][0]["probabilities"] == {}
    assert waiting["model"] is None
    assert hand["instances"][0]["reason"] == "NOT_CHEST"
    assert hand["instances"][0]["probabilities"] == {}
    assert hand["instances"][0]["finding"] is None
    assert done["instances"][0]["probabilities"] == {
        "pneumonia": 0.9, "bacterial": 0.75, "viral": 0.25,
    }  # fmt: skip
    assert done["model"] == {"name": "fake-resnet", "version": "1.0", "digest": "d" * 64}


def test_a_model_that_does_not_tell_kinds_apart_gives_one_probability(ward: Ward) -> None:
    ward.classifier.answer = Prediction(0.2, finding="ABSENT")
    ward.receive_study()
    ward.classify()
    assert ward.records()[0]["instances"][0]["probabilities"] == {"pneumonia": 0.2}


def test_times_are_in_utc_with_offset(ward: Ward) -> None:
    ward.receive_study()
    text = ward.records()[0]["received_at"]
    assert text == "2026-11-23T12:00:00+00:00"
    assert datetime.fromisoformat(text) == ward.clock()


# --- finding ---------------------------------------------------------------------------------


@pytest.fixture
def three(desk: Desk) -> Desk:
    """Three studies, a minute apart, on each kind of database."""
    for number in "123":
        desk.receive(
            f"1.2.{number}", patient_id=f"P{number}", accession_number=f"A{int(number) % 2}"
        )
        desk.clock.forward(60)
    return desk


def found(desk: Desk, **filters: Any) -> list[str]:
    def find(session: Session) -> list[str]:
        return [s.study.study_instance_uid for s in results.find_studies(session, **filters)]

    uids: list[str] = desk.do(find)
    return uids


def test_all_studies_are_found_newest_first(three: Desk) -> None:
    assert found(three) == ["1.2.3", "1.2.2", "1.2.1"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"study": "1.2.2"}, ["1.2.2"]),
        ({"patient_id": "P1"}, ["1.2.1"]),
        ({"accession": "A1"}, ["1.2.3", "1.2.1"]),
        ({"accession": "A1", "patient_id": "P3"}, ["1.2.3"]),
        ({"state": StudyState.RECEIVING}, ["1.2.3", "1.2.2", "1.2.1"]),
        ({"state": StudyState.FAILED}, []),
        ({"limit": 2}, ["1.2.3", "1.2.2"]),
        ({"study": "' OR 1=1 --"}, []),
        ({"patient_id": "%"}, []),
        ({"patient_id": ""}, []),
    ],
)
def test_filters_narrow(three: Desk, filters: dict[str, Any], expected: list[str]) -> None:
    assert found(three, **filters) == expected


def test_since_narrows_and_understands_other_time_zones(three: Desk) -> None:
    since = datetime.fromisoformat("2026-11-23T14:01:00+02:00")
    assert found(three, since=since) == ["1.2.3", "1.2.2"]


def test_many_studies_are_read_with_few_queries(ward: Ward) -> None:
    for _ in range(8):
        ward.receive_study(2)
    ward.work(seconds=5)
    statements: list[str] = []
    bind = ward.sessions.kw["bind"]
    event.listen(bind, "before_cursor_execute", lambda *a: statements.append(a[2]))
    assert len(ward.records()) == 8
    assert len(statements) < 12


# --- showing ---------------------------------------------------------------------------------


def rows(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(results.to_csv(records))))


def test_csv_has_a_row_for_each_instance(ward: Ward) -> None:
    tell(ward)
    waiting, hand, *done = rows(ward.records())
    assert (waiting["state"], waiting["assessed"], waiting["pneumonia"]) == (
        "RECEIVING",
        "False",
        "",
    )
    assert (hand["reason"], hand["delivered"]) == ("NOT_CHEST", VIEWER)
    assert len(done) == 2
    assert {row["pneumonia"] for row in done} == {"0.9"}
    assert {row["delivered"] for row in done} == {f"{PACS} {VIEWER}"}
    assert {row["model"] for row in done} == {"fake-resnet 1.0"}


def test_a_report_that_a_destination_keeps_is_told_by_destination(ward: Ward) -> None:
    ward.send.offers_commitment = True
    ward.receive_study()
    ward.work(seconds=5)
    ward.clock.forward(1)
    study = ward.receive_study()
    ward.ask.answers = [None] * 9
    ward.work(seconds=5)
    ward.answer(answered(*ward.ask.asked[-2]))
    latest, first = ward.records()
    assert latest["study_instance_uid"] == study
    assert (first["state"], latest["state"]) == ("COMMITTED", "DELIVERED")
    pacs, viewer = latest["reports"][0]["deliveries"]
    assert (pacs["state"], viewer["state"]) == ("COMMITTED", "DELIVERED")
    assert (bool(pacs["committed_at"]), viewer["committed_at"]) == (True, None)
    row, *_ = rows(ward.records())
    assert (row["delivered"], row["committed"]) == (f"{PACS} {VIEWER}", PACS)


def test_csv_of_nothing_is_its_header() -> None:
    assert results.to_csv([]).count("\n") == 1


def test_csv_keeps_commas_quotes_and_line_breaks(ward: Ward) -> None:
    ward.receive(chest(), patient_id='A,"B"\nC')
    (row,) = rows(ward.records())
    assert row["patient_id"] == 'A,"B"\nC'


def shown(records: Sequence[dict[str, Any]]) -> str:
    console = Console(file=io.StringIO(), width=300, color_system=None)
    console.print(results.to_table(records))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "patient_id", ["[red]x", "[/]", "[/red]", "[bold", "x[link=file:///]y", "\\"]
)
def test_a_patient_id_that_looks_like_markup_is_shown_as_it_is(ward: Ward, patient_id: str) -> None:
    ward.receive(chest(), patient_id=patient_id, accession_number=patient_id)
    assert shown(ward.records()).count(patient_id) == 2


def test_the_table_shows_answer_reason_and_state(ward: Ward) -> None:
    tell(ward)
    text = shown(ward.records())
    for word in ("PRESENT", "90.0%", "NOT_CHEST", "DELIVERED", "RECEIVING", "…"):
        assert word in text


def test_one_long_id_leaves_the_table_readable(ward: Ward) -> None:
    tell(ward)
    ward.receive(chest(), patient_id="9" * 200, accession_number="8" * 64)
    text = shown(ward.records())
    for word in ("PRESENT", "NOT_CHEST", "DELIVERED", "RECEIVING"):
        assert word in text


def test_a_study_uid_is_shown_in_full(ward: Ward) -> None:
    study = "1." + "23456789" * 7
    ward.receive(chest(study, SOPInstanceUID=new_uid()))
    assert study in shown(ward.records())
