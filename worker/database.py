"""Engine, sessions and schema of the results database, SQLite or PostgreSQL."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError

log = logging.getLogger(__name__)

SessionFactory = Callable[[], Session]

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def build_engine(url: str) -> Engine:
    """Build the engine of one process.

    On SQLite: write-ahead log, fsync at every commit (``synchronous=FULL``), and transactions that
    take the write lock at their start, so that a claim is exclusive as it is with
    ``FOR UPDATE SKIP LOCKED`` on PostgreSQL.

    References
    ----------
    SQLAlchemy, "Controlling BEGIN" of the SQLite dialect; SQLite, ``PRAGMA synchronous``.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=20,
            connect_args={
                "connect_timeout": 5,
            },
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin by itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("cxr_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def build_sessions(engine: Engine) -> sessionmaker[Session]:
    """Give a factory of sessions that write."""
    return sessionmaker(engine, expire_on_commit=False)


def build_reading_sessions(engine: Engine) -> sessionmaker[Session]:
    """Give a factory of sessions that only read and hold up no writer."""
    return sessionmaker(engine.execution_options(cxr_reads_only=True), expire_on_commit=False)


def alembic_config(url: str) -> Config:
    """Configure Alembic without an ini file, so that the installed package can migrate itself."""
    config = Config()
    config.attributes["engine"] = build_engine(url)
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`."""
    command.upgrade(alembic_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision` (``base``: no tables)."""
    command.downgrade(alembic_config(url), revision)


def current_revision(engine: Engine) -> str | None:
    """Name the schema's revision; None for an empty database."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """Name the revision this version of the code needs."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None  # the package always carries its migrations
    return head


def wait_for_schema(engine: Engine, stopped: threading.Event) -> None:
    """Wait until the database answers, so that it does not matter which role starts first.

    Raises
    ------
    ConfigurationError
        When it answers with a schema that this version does not know.
    """
    away = False
    while not stopped.is_set():
        try:
            return require_schema(engine)
        except OperationalError as error:
            if not away:
                log.warning("the database is away, waiting for it: %s", type(error.orig).__name__)
            away = True
        stopped.wait(1)


def require_schema(engine: Engine) -> None:
    """Refuse to work on a schema this version does not know.

    Raises
    ------
    ConfigurationError
        With the command to run.
    """
    found, needed = current_revision(engine), head_revision()
    if found != needed:
        raise ConfigurationError(
            "CXR_DATABASE_URL",
            f"names a database at revision {found or 'none'}, this version needs {needed}; "
            "run `cxr-worker db upgrade`",
        )
