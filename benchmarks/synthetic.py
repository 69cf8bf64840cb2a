"""Fills a database with studies that never were, by the million.

All have been reported and delivered. What is owed stands beside, with the newest of them: a group
for each thing that may be in the way of a claim, each owed longer than what may be claimed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from worker.tables import Base

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PACS, AWAY, OTHER = "PACS@192.0.2.1:104", "AWAY@192.0.2.2:104", "OTHER@192.0.2.3:104"
DIGEST = "d" * 64
DETAILS = {"threshold": 0.5, "undetermined": [0.4, 0.6], "temperature": 1.0, "calibrated": True}

# --- what there is of each study -------------------------------------------------------------
# {i} counts from 1; {uid} makes a UID of it, {at} the time that a study was received.

STUDIES = {
    "id": "i",
    "study_instance_uid": "{uid}",
    "patient_id": "'PAT-' || CAST(i / 3 AS {text})",
    "accession_number": "'ACC-' || CAST(i AS {text})",
    "study_date": "CASE i % 50 WHEN 0 THEN '' WHEN 1 THEN '2026.01.' ELSE CAST("
    "20000101 + i * 26 / :count * 10000 + i % 12 * 100 + i % 28 AS {text}) END",
    "state": "CASE WHEN i % 4 = 0 THEN 'COMMITTED' ELSE 'DELIVERED' END",
    "calling_ae_title": "'MODALITY'",
    "received_at": "{at}",
    "last_received_at": "{at}",
}
INSTANCES = {
    "id": "i",
    "study_id": "i",
    "sop_instance_uid": "{uid} || '.1.1'",
    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.1.1'",
    "series_instance_uid": "{uid} || '.1'",
    "transfer_syntax_uid": "'1.2.840.10008.1.2.4.70'",
    "modality": "'DX'",
    "calling_ae_title": "'MODALITY'",
    "path": "{uid} || '/' || {uid} || '.1.1.dcm'",
    "size_bytes": "4000000",
    "sha256": ":digest",
    "received_at": "{at}",
}
FINDINGS = {
    "id": "i",
    "instance_id": "i",
    "model_id": "1",
    "assessed": "{true}",
    "finding": "CASE WHEN i % 9 = 0 THEN 'PRESENT' ELSE 'ABSENT' END",
    "pneumonia": "0.25",
    "bacterial": "0.5",
    "viral": "0.5",
    "flags": "'[]'",
    "created_at": "{at}",
}
REPORTS = {
    "id": "i",
    "study_id": "i",
    "model_id": "1",
    "revision": "1",
    "sop_instance_uid": "{uid} || '.2.1'",
    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.88.34'",
    "path": "{uid} || '/' || {uid} || '.2.1.dcm'",
    "sha256": ":digest",
    "created_at": "{at}",
}
COMPANIONS = {
    "id": "i",
    "report_id": "i",
    "kind": "'KEY_OBJECT'",
    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.88.59'",
    "sop_instance_uid": "{uid} || '.3.1'",
    "path": "{uid} || '/' || {uid} || '.3.1.dcm'",
    "sha256": ":digest",
}
DELIVERIES = {
    "id": "i",
    "report_id": "i",
    "destination": f"'{PACS}'",
    "state": "CASE WHEN i % 4 = 0 THEN 'COMMITTED' ELSE 'DELIVERED' END",
    "attempts": "1",
    "last_status": "0",
    "last_answer": "'Success'",
    "delivered_at": "{at}",
    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.88.34'",
    "sop_instance_uid": "{uid} || '.2.1'",
}
REQUESTS = {
    "id": "i",
    "delivery_id": "i",
    "transaction_uid": "{uid} || '.4'",
    "asked_at": "{at}",
}
DECISIONS = {
    "id": "i",
    "study_id": "i",
    "action": "'REQUEUED'",
    "given_up": "'[]'",
    "reason": "''",
    "person": "'somebody'",
    "decided_at": "{at}",
}
VERDICTS = {
    "id": "i",
    "instance_id": "i",
    "model_id": "1",
    "finding": "'ABSENT'",
    "verdict": "'AGREE'",
    "label": "'NORMAL'",
    "comment": "''",
    "person": "'somebody'",
    "decided_at": "{at}",
}
REMOVALS = {
    "id": "i",
    "study_instance_uid": "{uid} || '.9'",
    "kind": "'IMAGES'",
    "count": "1",
    "size_bytes": "4000000",
    "cause": "'AGE'",
    "person": "'cxr-worker'",
    "reason": "''",
    "begun_at": "{at}",
    "finished_at": "{at}",
}
NOTICES = {
    "id": "i",
    "study_id": "i",
    "report_id": "i",
    "target": "'webhook'",
    "message_id": "'notice-' || CAST(i AS {text})",
    "reference": "'study-' || CAST(i AS {text})",
    "finding": "'PRESENT'",
    "details": "'{{}}'",
    "corrects": "FALSE",
    "state": "'SENT'",
    "attempts": "1",
    "last_status": "204",
    "last_answer": "'taken'",
    "owed_at": "{at}",
    "sent_at": "{at}",
}
# Each table with its columns, and of how many studies one has such a row.
TABLES = {
    "studies": (STUDIES, 1),
    "instances": (INSTANCES, 1),
    "findings": (FINDINGS, 1),
    "reports": (REPORTS, 1),
    "companions": (COMPANIONS, 10),
    "deliveries": (DELIVERIES, 1),
    "commitment_requests": (REQUESTS, 4),
    "notices": (NOTICES, 1),
    "decisions": (DECISIONS, 1000),
    "verdicts": (VERDICTS, 1),
    "removals": (REMOVALS, 1),
}

# --- what is owed ----------------------------------------------------------------------------
# By group: its kind of work, to which destination, in which state, due for how many seconds.
OWED = [
    # Studies that wait for their images, which wait for their turn, for later, or for a person.
    [("CLASSIFY", "", "DUE", 60), ("REPORT", "", "DUE", 3000)],
    [("CLASSIFY", "", "DUE", -600), ("REPORT", "", "DUE", 3000)],
    [("CLASSIFY", "", "DEAD", 3000), ("REPORT", "", "DUE", 3000)],
    # Studies that are being sent, and the one group that may be reported.
    [("REPORT", "", "DUE", 2900)],
    [("REPORT", "", "DUE", 60)],
    [("REPORT", "", "DEAD", 3000)],
    [("DELIVER", PACS, "DEAD", 3000)],
    [("DELIVER", AWAY, "DUE", 3000)],
    [("DELIVER", OTHER, "DUE", 3000)],
    [("DELIVER", PACS, "DUE", -600)],
    [("DELIVER", PACS, "DUE", 60)],
    [("COMMIT", PACS, "DUE", -600)],
    [("COMMIT", PACS, "DUE", 60)],
    [("NOTIFY", "webhook", "DUE", 60)],
    [("NOTIFY", "webhook", "DEAD", 3000)],
]
SENDING = 3


def study_uid(number: int) -> str:
    """Give the UID of a study, by its number from 1 on."""
    return f"2.25.{700000000000 + number}"


def fill(engine: Engine, studies: int, owed: int) -> None:
    """Fill an empty database.

    Parameters
    ----------
    engine
        Of a database at the newest revision.
    studies
        How many studies.
    owed
        How many of the newest make up each group of owed work; a fifth of it, what was given up.
    """
    with engine.begin() as connection:
        _enter_few(connection)
        for table, (columns, one_of) in TABLES.items():
            _enter(connection, table, columns, studies, f"i % {one_of} = 0")
        for number, group in enumerate(OWED):
            first = studies - (number + 1) * owed
            count = owed // 5 if group[0][2] == "DEAD" else owed
            for work in group:
                _owe(connection, work, first, count)
        sending = studies - (SENDING + 1) * owed
        columns = {"association_id": "'association-' || CAST(i / 10 AS {text})", "study_id": "i"}
        columns["last_at"] = ":now"
        _enter(connection, "receptions", columns, sending + owed, f"i > {sending}")
        if engine.dialect.name == "postgresql":
            _go_on_counting(connection)


def _enter_few(connection: Connection) -> None:
    tables = Base.metadata.tables
    row = {
        "name": "m", "version": "1", "digest": DIGEST, "details": DETAILS, "first_used_at": NOW,
    }  # fmt: skip
    connection.execute(tables["models"].insert(), row)
    outage = {
        "destination": AWAY, "since": NOW, "failures": 3, "last_error": "no route",
        "next_try_at": NOW + timedelta(hours=1),
    }  # fmt: skip
    connection.execute(tables["outages"].insert(), outage)


def _owe(connection: Connection, work: tuple[str, str, str, int], first: int, count: int) -> None:
    kind, destination, state, due_s = work
    due_at = _ago(connection, f"{due_s} - i % 1000 * 0.01")
    columns = {
        "kind": f"'{kind}'", "subject_id": "i", "study_id": "i", "destination": f"'{destination}'",
        "state": f"'{state}'", "due_at": due_at, "token": "1", "deaths": "0",
        "attempts": "0" if state == "DUE" else "5",
    }  # fmt: skip
    _enter(connection, "jobs", columns, first + count, f"i > {first}")
    if destination and kind != "NOTIFY":
        connection.execute(
            text(
                "UPDATE deliveries SET destination = :destination, state = :state"
                " WHERE id > :first AND id <= :last"
            ),
            {
                "destination": destination, "first": first, "last": first + count,
                "state": "PENDING" if kind == "DELIVER" else "DELIVERED",
            },
        )  # fmt: skip


def _enter(
    connection: Connection, table: str, columns: dict[str, str], count: int, where: str
) -> None:
    """Enter rows in one statement: the database makes them."""
    is_sqlite = connection.dialect.name == "sqlite"
    words = {
        "text": "TEXT",
        "true": "1" if is_sqlite else "true",
        "uid": "('2.25.' || CAST(700000000000 + i AS TEXT))",
        "at": _ago(connection, "(:count - i) * 30"),
    }
    counting = (
        "RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
        if is_sqlite
        else "n(i) AS (SELECT generate_series(1, CAST(:count AS bigint)))"
    )
    values = ", ".join(columns.values()).format(**words)
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)})"  # noqa: S608  our own words
        f" WITH {counting} SELECT {values} FROM n WHERE {where}"
    )
    used = {name: value for name, value in _values(count).items() if f":{name}" in statement}
    connection.execute(text(statement), used)


def _values(count: int) -> dict[str, object]:
    return {"count": count, "now": NOW, "digest": DIGEST}


def _ago(connection: Connection, seconds: str) -> str:
    """Give the time so many seconds ago, in the words of the database."""
    if connection.dialect.name == "sqlite":
        # As SQLAlchemy writes it, but for its thousandths of milliseconds.
        now = f"{NOW:%Y-%m-%d %H:%M:%S}"
        ago = f"strftime('%Y-%m-%d %H:%M:%f', '{now}', CAST(-({seconds}) AS TEXT) || ' seconds')"
        return f"({ago} || '000')"
    return f"(CAST('{NOW.isoformat()}' AS timestamptz) - ({seconds}) * interval '1 second')"


def _go_on_counting(connection: Connection) -> None:
    """Have PostgreSQL number new rows from the last one on."""
    for table in TABLES:
        connection.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id))"  # noqa: S608
                f" FROM {table}"
            )
        )
