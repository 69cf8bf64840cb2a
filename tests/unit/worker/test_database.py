"""Schema and migrations on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError
from tests.e2e.programs import wait_until
from tests.fakes import NOON
from worker import database
from worker.tables import (
    Base,
    CommitmentRequest,
    Companion,
    Delivery,
    FindingRow,
    Instance,
    Job,
    Model,
    Report,
    Study,
    User,
    WebSession,
)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_migrations_run_up_and_down_and_up_again(empty_url: str, empty_engine: Engine) -> None:
    with empty_engine.connect():
        pass  # SQLite's file is made by the first connection
    assert database.current_revision(empty_engine) is None
    database.upgrade(empty_url)
    assert tables(empty_engine) == set(Base.metadata.tables)
    assert database.current_revision(empty_engine) == database.head_revision()
    database.downgrade(empty_url, "base")
    assert tables(empty_engine) == set()
    assert database.current_revision(empty_engine) is None
    database.upgrade(empty_url)
    assert tables(empty_engine) == set(Base.metadata.tables)


def test_who_only_reads_makes_no_database(tmp_path: Path) -> None:
    """The setting that says where it is was forgotten: a second one would only hide that."""
    url = f"sqlite:///{tmp_path / 'home' / 'cxr.sqlite3'}"
    engine = database.build_engine(url)
    with pytest.raises(ConfigurationError, match=r"there is no database.*is CXR_HOME here"):
        database.require_schema(engine)
    assert database.is_older(engine), "which `up` asks before it makes one"
    assert not list(tmp_path.iterdir())
    database.upgrade(url)
    database.require_schema(engine)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_migrations_give_exactly_the_tables_of_the_code(
    empty_url: str, empty_engine: Engine
) -> None:
    with empty_engine.connect():
        pass
    database.upgrade(empty_url)
    command.check(database.alembic_config(empty_url))  # raises with each difference


def test_the_revisions_are_those_that_alembic_finds_in_their_order() -> None:
    script = ScriptDirectory.from_config(database.alembic_config("sqlite://"))
    found = [each.revision for each in script.walk_revisions()][::-1]
    assert database.revisions() == found
    assert database.head_revision() == script.get_current_head()


def test_upgrading_twice_changes_nothing(empty_url: str, empty_engine: Engine) -> None:
    with empty_engine.connect():
        pass
    database.upgrade(empty_url)
    database.upgrade(empty_url)
    database.require_schema(empty_engine)


def test_a_new_sqlite_database_may_be_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a' / 'b' / 'cxr.sqlite3'}"
    database.upgrade(url)
    engine = database.build_engine(url)
    database.require_schema(engine)
    engine.dispose()


def test_a_database_without_schema_is_refused_with_the_command_to_run(empty_engine: Engine) -> None:
    with empty_engine.connect():
        pass  # SQLite's file is made by the first connection
    with pytest.raises(ConfigurationError) as caught:
        database.require_schema(empty_engine)
    assert str(caught.value).startswith("CXR_DATABASE_URL: ")
    assert "revision none" in str(caught.value)
    assert "`cxr-worker db upgrade`" in str(caught.value)


def test_a_schema_is_older_until_it_is_the_newest(empty_url: str, empty_engine: Engine) -> None:
    with empty_engine.connect():
        pass
    assert database.is_older(empty_engine)
    database.upgrade(empty_url, database.revisions()[0])
    assert database.is_older(empty_engine)
    database.upgrade(empty_url)
    assert not database.is_older(empty_engine)


def test_a_schema_of_a_newer_version_is_not_older(empty_engine: Engine) -> None:
    with empty_engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    assert not database.is_older(empty_engine)


def test_a_schema_of_another_version_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(ConfigurationError, match="at revision 9999") as caught:
            database.require_schema(engine)
        assert "`cxr-worker db downgrade" in str(caught.value)
    finally:
        with engine.begin() as connection:
            head = database.head_revision()
            connection.execute(
                text("UPDATE alembic_version SET version_num = :head"), {"head": head}
            )


def test_the_schema_that_is_needed_is_accepted(engine: Engine) -> None:
    database.require_schema(engine)


def test_a_percent_sign_in_a_password_survives_alembic() -> None:
    url = "postgresql+psycopg://user:50%25@host/cxr"
    engine: Engine = database.alembic_config(url).attributes["engine"]
    assert engine.url.password == "50%"
    engine.dispose()


def test_sqlite_is_durable_and_checks_references(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert values == ["wal", 2, 1]  # 2 is FULL


def test_postgresql_keeps_no_lock_for_a_client_that_is_gone(postgres_server: str) -> None:
    engine = database.build_engine(postgres_server)
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
    with engine.connect() as connection:
        told = [connection.scalar(text(f"SHOW {name}")) for name in names]
    engine.dispose()
    assert told == ["15s", "1min", "on"]


@pytest.mark.parametrize(("fsync", "durable"), [("on", True), ("off", False)])
def test_a_postgresql_that_may_lose_what_it_committed_is_told(
    postgres_server: str, fsync: str, durable: bool
) -> None:
    engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"ALTER SYSTEM SET fsync = {fsync}"))
        connection.execute(text("SELECT pg_reload_conf()"))
        try:
            wait_until(
                lambda: connection.scalar(text("SHOW fsync")) == fsync, 30, "the new setting"
            )
            assert database.is_durable(engine) is durable
        finally:
            connection.execute(text("ALTER SYSTEM RESET fsync"))
            connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def test_a_reader_on_sqlite_does_not_wait_for_a_writer(sqlite_engine: Engine) -> None:
    reading = database.build_reading_sessions(sqlite_engine)
    with sqlite_engine.begin() as writing, reading() as session:
        writing.execute(text("DELETE FROM jobs"))
        assert session.scalars(select(Job)).all() == []


def test_a_log_that_readers_kept_from_being_put_back_is_shortened(
    sqlite_engine: Engine,
) -> None:
    log = Path(f"{sqlite_engine.url.database}-wal")
    reading = database.build_reading_sessions(sqlite_engine)

    def write() -> None:
        for number in range(20):
            with sqlite_engine.begin() as connection:
                row = {**MODEL, "id": None, "digest": f"{log.stat().st_size} {number}"}
                connection.execute(insert(Model).values({**row, "name": "x" * 4000}))

    with reading() as session:
        before = session.scalars(select(Model)).all()
        write()
        database.shorten_log(sqlite_engine, 1)  # in vain: the reader still reads what was there
        assert session.scalars(select(Model)).all() == before
    write()
    length = log.stat().st_size
    assert length > 40 * 4000
    database.shorten_log(sqlite_engine)
    assert log.stat().st_size == length, "it is not long yet"
    database.shorten_log(sqlite_engine, length)
    assert log.stat().st_size == 0
    with reading() as session:
        assert len(session.scalars(select(Model)).all()) == 40


def test_no_other_database_has_a_log_to_shorten(postgres_server: str) -> None:
    engine = database.build_engine(postgres_server)
    database.shorten_log(engine, 0)
    engine.dispose()


# --- constraints -----------------------------------------------------------------------------

STUDY: dict[str, Any] = {
    "id": 1, "study_instance_uid": "1.2", "patient_id": "", "accession_number": "",
    "study_date": "", "state": "RECEIVING", "calling_ae_title": "", "received_at": NOON,
    "last_received_at": NOON,
}  # fmt: skip
INSTANCE: dict[str, Any] = {
    "id": 1, "study_id": 1, "sop_instance_uid": "1.3", "sop_class_uid": "", "path": "",
    "series_instance_uid": "", "transfer_syntax_uid": "", "modality": "", "calling_ae_title": "",
    "size_bytes": 1, "sha256": "", "received_at": NOON,
}  # fmt: skip
MODEL: dict[str, Any] = {
    "id": 1, "name": "", "version": "", "digest": "d", "details": {}, "first_used_at": NOON,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "id": 1, "study_id": 1, "model_id": 1, "revision": 1, "sop_instance_uid": "1.4",
    "sop_class_uid": "", "path": "", "sha256": "", "created_at": NOON,
}  # fmt: skip
DELIVERY: dict[str, Any] = {
    "id": 1, "report_id": 1, "destination": "A@h:1", "state": "PENDING", "attempts": 0,
}  # fmt: skip
COMPANION: dict[str, Any] = {
    "id": 1, "report_id": 1, "kind": "PICTURE", "sop_class_uid": "", "sop_instance_uid": "1.7",
    "path": "", "sha256": "",
}  # fmt: skip
REQUEST: dict[str, Any] = {"delivery_id": 1, "transaction_uid": "1.8", "asked_at": NOON}
STATEFUL = ("studies", "deliveries")
JOB: dict[str, Any] = {
    "kind": "CLASSIFY", "subject_id": 1, "study_id": 1, "state": "DUE", "due_at": NOON,
}  # fmt: skip
USER: dict[str, Any] = {
    "id": 1, "name": "anna", "role": "viewer", "enabled": True, "created_at": NOON,
    "subject": "issuer 17",
}  # fmt: skip
WEB_SESSION: dict[str, Any] = {
    "token_hash": "h", "user_id": 1, "created_at": NOON, "last_seen_at": NOON,
}  # fmt: skip
FINDING: dict[str, Any] = {
    "instance_id": 1, "model_id": 1, "assessed": True, "reason": None, "finding": "PRESENT",
    "pneumonia": 0.9, "flags": [], "created_at": NOON,
}  # fmt: skip


@pytest.fixture
def filled(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    """A study with an instance, a model, a report, its companion and its delivery; a user."""
    with sessions() as session, session.begin():
        for table, row in (
            (Study, STUDY), (Instance, INSTANCE), (Model, MODEL), (Report, REPORT),
            (Delivery, DELIVERY), (Companion, COMPANION), (CommitmentRequest, REQUEST),
            (User, USER), (WebSession, WEB_SESSION),
        ):  # fmt: skip
            session.execute(insert(table).values(**row))
    return sessions


COMMITTED: dict[str, Any] = {
    **DELIVERY, "state": "COMMITTED", "sop_class_uid": "1.5", "sop_instance_uid": "1.6",
    "committed_at": NOON,
}  # fmt: skip


def test_an_older_version_finds_delivered_what_was_committed(
    empty_url: str, empty_engine: Engine
) -> None:
    database.upgrade(empty_url)
    rows: tuple[tuple[type[Base], dict[str, Any]], ...] = (
        (Study, {**STUDY, "state": "COMMITTED"}), (Instance, INSTANCE), (Model, MODEL),
        (FindingRow, {**FINDING, "heatmap": b"PNG"}), (Report, REPORT), (Delivery, COMMITTED),
        (Companion, COMPANION), (CommitmentRequest, REQUEST), (Job, {**JOB, "kind": "COMMIT"}),
    )  # fmt: skip
    with empty_engine.begin() as connection:
        for table, row in rows:
            connection.execute(insert(table).values(**row))
    database.downgrade(empty_url, "0002")
    with empty_engine.begin() as connection:
        states = [connection.scalar(text(f"SELECT state FROM {t}")) for t in STATEFUL]
        left = connection.scalar(text("SELECT COUNT(*) FROM jobs"))
        connection.execute(text("UPDATE deliveries SET attempts = 7"))
    assert (states, left) == (["DELIVERED", "DELIVERED"], 0)
    database.upgrade(empty_url)
    with empty_engine.connect() as connection:
        row = connection.execute(select(Delivery)).one()
        assert connection.scalar(text("SELECT COUNT(*) FROM findings")) == 1
    assert (row.state, row.attempts, row.sop_class_uid) == ("DELIVERED", 7, None)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (Study, {**STUDY, "id": 2, "study_instance_uid": "9", "state": "LOST"}),
        (Study, {**STUDY, "id": 2}),
        (Instance, {**INSTANCE, "id": 2}),
        (Instance, {**INSTANCE, "id": 2, "sop_instance_uid": "9", "study_id": 77}),
        (Model, {**MODEL, "id": 2}),
        (Report, {**REPORT, "id": 2, "revision": 2}),
        (Report, {**REPORT, "id": 2, "sop_instance_uid": "9"}),
        (Delivery, {**DELIVERY, "id": 2}),
        (Delivery, {**DELIVERY, "id": 2, "destination": "B@h:1", "state": "GONE"}),
        (Companion, {**COMPANION, "id": 2, "kind": "VIDEO"}),
        (Companion, {**COMPANION, "id": 2, "report_id": 77}),
        (CommitmentRequest, REQUEST),
        (Job, {**JOB, "state": "ODD"}),
        (Job, {**JOB, "study_id": 77}),
        (User, {**USER, "id": 2, "subject": None}),
        (User, {**USER, "id": 2, "name": "berta"}),
        (User, {**USER, "id": 2, "name": "berta", "subject": None, "role": "ADMIN"}),
        (WebSession, WEB_SESSION),
        (WebSession, {**WEB_SESSION, "token_hash": "i", "user_id": 77}),
        (FindingRow, {**FINDING, "reason": "BLANK"}),
        (FindingRow, {**FINDING, "finding": None}),
        (FindingRow, {**FINDING, "pneumonia": None}),
        (FindingRow, {**FINDING, "assessed": False}),
        (FindingRow, {**FINDING, "assessed": False, "finding": None, "pneumonia": None}),
        (FindingRow, {**FINDING, "assessed": False, "reason": "BLANK", "finding": None}),
    ],
)
def test_the_database_refuses_rows_that_make_no_sense(
    filled: sessionmaker[Session], table: type[Base], row: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError), filled() as session, session.begin():
        session.execute(insert(table).values(**row))


def test_one_instance_has_one_finding_of_a_model(filled: sessionmaker[Session]) -> None:
    refused = {**FINDING, "assessed": False, "reason": "BLANK", "finding": None, "pneumonia": None}
    with filled() as session, session.begin():
        session.execute(insert(FindingRow).values(**refused))
    with pytest.raises(IntegrityError), filled() as session, session.begin():
        session.execute(insert(FindingRow).values(**FINDING))


def test_work_is_owed_once(filled: sessionmaker[Session]) -> None:
    with filled() as session, session.begin():
        session.execute(insert(Job).values(**JOB))
    with pytest.raises(IntegrityError), filled() as session, session.begin():
        session.execute(insert(Job).values(**JOB))


def test_times_come_back_aware_and_in_utc(filled: sessionmaker[Session]) -> None:
    with filled() as session:
        study = session.scalars(select(Study)).one()
    assert study.received_at == NOON
    assert study.received_at.utcoffset() is not None


def test_a_time_without_zone_is_refused(filled: sessionmaker[Session]) -> None:
    row = {**STUDY, "id": 2, "study_instance_uid": "9", "received_at": NOON.replace(tzinfo=None)}
    with pytest.raises(Exception, match="aware"), filled() as session, session.begin():
        session.execute(insert(Study).values(**row))


def test_who_waits_for_a_database_says_that_it_turns() -> None:
    stopped = threading.Event()
    engine = database.build_engine("postgresql+psycopg://nobody@127.0.0.1:1/cxr")
    database.wait_for_schema(engine, stopped, stopped.set)
    engine.dispose()
