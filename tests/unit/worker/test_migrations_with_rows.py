"""Migrations under data: from every released revision, with all that may be owed there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, insert, inspect, select, text

from tests.fakes import NOON
from tests.ledgers import LEASE, PACS, VIEWER, Desk
from worker import database
from worker.states import JobKind
from worker.tables import Base, Decision, Delivery, Instance, Job, Notice, Outage, Study

RELEASED = database.revisions()
# One study a state that every revision knows; the third is what is under way.
STATES = ("RECEIVING", "READY", "REPORTED", "DELIVERED", "FAILED")
LEASED_TO = NOON + LEASE

ROWS: dict[str, list[dict[str, Any]]] = {
    "studies": [
        {
            "id": i, "study_instance_uid": f"1.2.{i}", "patient_id": "P", "accession_number": "A",
            "study_date": "20261123", "state": state, "calling_ae_title": "CT",
            "received_at": NOON, "last_received_at": NOON,
        }
        for i, state in enumerate(STATES, 1)
    ],
    "instances": [
        {
            "id": i, "study_id": i, "sop_instance_uid": f"1.2.{i}.1", "sop_class_uid": "1.3",
            "series_instance_uid": f"1.2.{i}.2", "transfer_syntax_uid": "1.4", "modality": "CR",
            "calling_ae_title": "CT", "path": f"1.2.{i}/x.dcm", "size_bytes": 1, "sha256": "0" * 64,
            "received_at": NOON,
        }
        for i in range(1, 6)
    ],
    "models": [
        {
            "id": 1, "name": "m", "version": "1", "digest": "d" * 64, "details": {},
            "first_used_at": NOON,
        }
    ],
    "findings": [
        {
            "id": i, "instance_id": i, "model_id": 1, "assessed": True, "finding": "PRESENT",
            "pneumonia": 0.9, "flags": ["AGE_UNKNOWN"], "created_at": NOON,
        }
        for i in range(2, 6)
    ],
    "reports": [
        {
            "id": i, "study_id": i, "model_id": 1, "revision": 1, "sop_instance_uid": f"1.2.{i}.9",
            "sop_class_uid": "1.5", "path": f"1.2.{i}/r.dcm", "sha256": "0" * 64,
            "created_at": NOON,
        }
        for i in range(3, 6)
    ],
    "deliveries": [
        {"id": 1, "report_id": 3, "destination": PACS, "state": "PENDING", "attempts": 2},
        {"id": 2, "report_id": 3, "destination": VIEWER, "state": "DELIVERED", "attempts": 1},
        {"id": 3, "report_id": 4, "destination": PACS, "state": "DELIVERED", "attempts": 1},
        {"id": 4, "report_id": 5, "destination": PACS, "state": "FAILED", "attempts": 1},
        {"id": 5, "report_id": 5, "destination": VIEWER, "state": "SUPERSEDED", "attempts": 0},
    ],
    "jobs": [
        {"id": 1, "kind": "CLASSIFY", "subject_id": 1, "study_id": 1, "state": "LEASED",
         "destination": "", "due_at": LEASED_TO, "token": 1, "attempts": 1},
        {"id": 2, "kind": "REPORT", "subject_id": 2, "study_id": 2, "state": "DUE",
         "destination": "", "due_at": NOON, "token": 0, "attempts": 0},
        {"id": 3, "kind": "DELIVER", "subject_id": 1, "study_id": 3, "state": "DUE",
         "destination": PACS, "due_at": NOON, "token": 2, "attempts": 2, "last_error": "down"},
        {"id": 4, "kind": "DELIVER", "subject_id": 4, "study_id": 5, "state": "DEAD",
         "destination": PACS, "due_at": NOON, "token": 1, "attempts": 1, "last_error": "no"},
    ],
    "receptions": [{"association_id": "a", "study_id": 1, "last_at": NOON}],
}  # fmt: skip


def fill(engine: Engine) -> None:
    """Enter the rows, in whatever columns the tables have now."""
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        for name, rows in ROWS.items():
            connection.execute(insert(metadata.tables[name]), rows)


def dump(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Read everything that was filled in, in the columns that were filled."""
    metadata = MetaData()
    metadata.reflect(engine)
    found = {}
    with engine.connect() as connection:
        for name, rows in ROWS.items():
            table = metadata.tables[name]
            known = [table.c[column] for column in dict.fromkeys(c for row in rows for c in row)]
            ordered = select(*known).order_by(*list(table.primary_key))
            found[name] = [dict(row) for row in connection.execute(ordered).mappings()]
    return found


@pytest.mark.parametrize("revision", RELEASED)
def test_what_was_owed_at_a_released_revision_is_owed_after_the_upgrade(
    empty_url: str, empty_engine: Engine, revision: str
) -> None:
    database.upgrade(empty_url, revision)
    fill(empty_engine)
    before = dump(empty_engine)
    database.upgrade(empty_url)
    assert dump(empty_engine) == before
    desk = Desk(database.build_sessions(empty_engine))
    assert [row.state for row in desk.all(Study)] == list(STATES)
    assert desk.claim(JobKind.CLASSIFY) == []
    (report,) = desk.claim(JobKind.REPORT)
    assert (report.study_id, report.deaths) == (2, 0)
    assert desk.deliver(PACS).subject_id == 1
    desk.clock.now = LEASED_TO
    (heir,) = desk.claim(JobKind.CLASSIFY)
    assert (heir.subject_id, heir.deaths) == (1, 1)


@pytest.mark.parametrize("revision", RELEASED)
def test_rows_survive_the_way_down_to_a_released_revision_and_up_again(
    empty_url: str, empty_engine: Engine, revision: str
) -> None:
    database.upgrade(empty_url)
    fill(empty_engine)
    before = dump(empty_engine)
    database.downgrade(empty_url, revision)
    assert database.current_revision(empty_engine) == revision
    assert dump(empty_engine) == before
    database.upgrade(empty_url)
    assert dump(empty_engine) == before
    assert database.current_revision(empty_engine) == database.head_revision()


def test_an_older_version_finds_failed_what_was_discarded(
    empty_url: str, empty_engine: Engine
) -> None:
    database.upgrade(empty_url)
    fill(empty_engine)
    desk = Desk(database.build_sessions(empty_engine))
    with desk.sessions() as session, session.begin():
        session.get_one(Study, 5).state = session.get_one(Delivery, 4).state = "DISCARDED"
        session.add(
            Outage(
                destination=PACS, since=NOON, failures=1, last_error="down",
                next_try_at=NOON + timedelta(seconds=5),
            )
        )  # fmt: skip
        session.add(
            Decision(
                study_id=5, action="DISCARDED", given_up=[], reason="r", person="p",
                decided_at=NOON,
            )
        )  # fmt: skip
    database.downgrade(empty_url, "0003")
    with empty_engine.connect() as connection:
        assert connection.scalar(text("SELECT state FROM studies WHERE id = 5")) == "FAILED"
        assert connection.scalar(text("SELECT state FROM deliveries WHERE id = 4")) == "FAILED"
    assert not {"outages", "decisions"} & set(inspect(empty_engine).get_table_names())
    database.upgrade(empty_url)
    assert {job.deaths for job in desk.all(Job)} == {0}


def test_an_older_version_loses_only_what_it_has_no_word_for(
    empty_url: str, empty_engine: Engine
) -> None:
    database.upgrade(empty_url)
    fill(empty_engine)
    with empty_engine.begin() as connection:
        for table in ("instances", "reports"):
            connection.execute(text(f"UPDATE {table} SET removed_at = :at"), {"at": NOON})
        connection.execute(
            insert(Base.metadata.tables["removals"]),
            {"study_instance_uid": "1.2", "kind": "IMAGES", "count": 1, "size_bytes": 1,
             "cause": "AGE", "person": "p", "reason": "", "begun_at": NOON},
        )  # fmt: skip
        connection.execute(
            insert(Base.metadata.tables["verdicts"]),
            {"instance_id": 2, "model_id": 1, "finding": "PRESENT", "verdict": "AGREE",
             "label": "VIRAL", "comment": "", "person": "p", "decided_at": NOON},
        )  # fmt: skip
        connection.execute(
            insert(Base.metadata.tables["notices"]),
            {"study_id": 3, "report_id": 3, "target": "webhook", "message_id": "m",
             "reference": "r", "finding": "PRESENT", "details": {}, "corrects": False,
             "state": "PENDING", "attempts": 0, "owed_at": NOON},
        )  # fmt: skip
        connection.execute(
            insert(Base.metadata.tables["jobs"]),
            {"id": 9, "kind": "NOTIFY", "subject_id": 1, "study_id": 3, "destination": "webhook",
             "state": "DUE", "due_at": NOON, "token": 0, "attempts": 0},
        )  # fmt: skip
        connection.execute(
            insert(Base.metadata.tables["outages"]),
            {"destination": "webhook", "since": NOON, "failures": 1, "last_error": "down",
             "next_try_at": NOON},
        )  # fmt: skip
    before = dump(empty_engine)
    before["jobs"] = [row for row in before["jobs"] if row["kind"] != "NOTIFY"]
    database.downgrade(empty_url, "0005")
    with empty_engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM outages")) == 0
    assert not {"removals", "verdicts", "notices"} & set(inspect(empty_engine).get_table_names())
    assert "removed_at" not in {c["name"] for c in inspect(empty_engine).get_columns("instances")}
    database.upgrade(empty_url)
    assert dump(empty_engine) == before
    desk = Desk(database.build_sessions(empty_engine))
    assert {row.removed_at for row in desk.all(Instance)} == {None}


def test_a_notice_of_an_older_version_was_tried_as_often_as_it_may_have_arrived(
    empty_url: str, empty_engine: Engine
) -> None:
    database.upgrade(empty_url, "0011")
    fill(empty_engine)
    row = {
        "study_id": 3, "report_id": 3, "target": "webhook", "reference": "r",
        "finding": "PRESENT", "details": {}, "corrects": False, "state": "SENT", "owed_at": NOON,
    }  # fmt: skip

    def enter(message_id: str, attempts: int) -> None:
        metadata = MetaData()
        metadata.reflect(empty_engine)
        with empty_engine.begin() as connection:
            connection.execute(
                insert(metadata.tables["notices"]),
                {**row, "message_id": message_id, "attempts": attempts},
            )

    enter("before", 2)
    database.upgrade(empty_url)
    enter("meanwhile", 1)
    notices = Desk(database.build_sessions(empty_engine)).all(Notice)
    assert [(each.attempts, each.tries) for each in notices] == [(2, 2), (1, 0)]
    database.downgrade(empty_url, "0011")
    assert "tries" not in {c["name"] for c in inspect(empty_engine).get_columns("notices")}


def indexes(engine: Engine) -> dict[str, tuple[list[str | None], bool]]:
    """Give each index with its columns, and whether it has some rows only."""
    found = inspect(engine)
    return {
        str(index["name"]): (
            index["column_names"],
            f"{engine.dialect.name}_where" in index.get("dialect_options", {}),
        )
        for table in Base.metadata.tables
        if found.has_table(table)
        for index in found.get_indexes(table)
        if "duplicates_constraint" not in index
    }


def test_indexes_are_those_of_the_code_and_go_on_the_way_down(
    empty_url: str, empty_engine: Engine
) -> None:
    database.upgrade(empty_url, "0004")
    before = indexes(empty_engine)
    fill(empty_engine)
    database.upgrade(empty_url)
    assert indexes(empty_engine) == {
        index.name: (
            [column.name for column in index.columns],
            index.dialect_kwargs.get("sqlite_where") is not None,
        )
        for table in Base.metadata.tables.values()
        for index in table.indexes
    }
    database.downgrade(empty_url, "0004")
    assert indexes(empty_engine) == before
