"""Engine, sessions and schema of the results database, SQLite or PostgreSQL.

Only what changes a schema imports Alembic: every role looks at the schema when it starts.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    column,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, TimeoutError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

SessionFactory = Callable[[], Session]

# What says nothing of the rows that were to be written: no connection, a server that ends or has
# become read-only, a lock or a connection that was waited for too long, a full disk. Others concern
# the work.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, TimeoutError)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
# Where Alembic writes down the revision of a schema.
_VERSION = table("alembic_version", column("version_num"))


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
        engine = create_engine(
            url, pool_pre_ping=True, pool_size=20, max_overflow=60, connect_args=_REACHING
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


# A server that is gone without a word (its machine, the network) is noticed in about 30 seconds,
# and not in the two hours of the system's own limits. The last one is in milliseconds.
_REACHING = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# The same the other way round: what a client that is gone holds, others wait for. By statements and
# not by startup options, which a connection pooler would refuse.
_POSTGRESQL = (
    "SET lock_timeout = '15s'",
    "SET idle_in_transaction_session_timeout = '60s'",
    "SET synchronous_commit = on",
)


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        for statement in _POSTGRESQL:
            cursor.execute(statement)
    connection.commit()


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin by itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("cxr_reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


# SQLite puts its log back into the file by itself while no reader stands in the way, and starts it
# anew when nobody reads it. Among readers that follow on one another that never comes about.
_LOG_BYTES = 64_000_000
_LOG_WAIT_S = 2


def shorten_log(engine: Engine, longest_bytes: int = _LOG_BYTES) -> None:
    """Have SQLite put a log that has grown long back into its file; readers and writers wait.

    For a moment: when a reader takes longer, the next time will do.
    """
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database:
        return
    log_file = Path(f"{database}-wal")
    if not log_file.exists() or log_file.stat().st_size < longest_bytes:
        return
    with closing(sqlite3.connect(database, timeout=_LOG_WAIT_S)) as connection:
        for pragma in ("synchronous=FULL", "wal_checkpoint(TRUNCATE)"):
            connection.execute(f"PRAGMA {pragma}").close()


def is_durable(engine: Engine) -> bool:
    """Tell whether what is committed survives a power cut, as far as the database can tell."""
    if engine.dialect.name == "sqlite":
        return True  # `build_engine` sees to it
    with engine.connect() as connection:
        return bool(connection.scalar(text("SHOW fsync")) == "on")


def build_sessions(engine: Engine) -> sessionmaker[Session]:
    """Give a factory of sessions that write."""
    return sessionmaker(engine, expire_on_commit=False)


READS_ONLY = {"cxr_reads_only": True}


def build_reading_sessions(engine: Engine) -> sessionmaker[Session]:
    """Give a factory of sessions that only read and hold up no writer."""
    return sessionmaker(engine.execution_options(**READS_ONLY), expire_on_commit=False)


def alembic_config(url: str) -> Config:
    """Configure Alembic without an ini file, so that the installed package can migrate itself."""
    from alembic.config import Config

    config = Config()
    config.attributes["engine"] = build_engine(url)
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`.

    Raises
    ------
    ConfigurationError
        When there can be no file of it, or the revision is not known.
    """
    from alembic import command

    file = _file_of(make_url(url))
    if file is not None:
        try:
            file.parent.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            words = f"{file.parent} cannot be made: {error.strerror}; see CXR_HOME"
            raise ConfigurationError("CXR_DATABASE_URL", words) from error
    with _knowing():
        command.upgrade(alembic_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision` (``base``: no tables); raises as `upgrade` does."""
    from alembic import command

    with _knowing():
        command.downgrade(alembic_config(url), revision)


@contextmanager
def _knowing() -> Iterator[None]:
    """Say which revisions are known, where another was named or found."""
    from alembic.util import CommandError

    try:
        yield
    except CommandError as error:
        known = revisions()
        words = f"{error}; this version knows revisions {known[0]} to {known[-1]}"
        raise ConfigurationError("CXR_DATABASE_URL", words) from error


def _file_of(url: URL) -> Path | None:
    """Give the file of a database of SQLite; None for others, and for one in memory."""
    named = url.get_backend_name() == "sqlite" and url.database
    return Path(named) if named and named != ":memory:" else None


def _missing(engine: Engine) -> Path | None:
    """Give the file that there is not yet: to ask the database anything would make one."""
    file = _file_of(engine.url)
    return file if file is not None and not file.exists() else None


def current_revision(engine: Engine) -> str | None:
    """Name the schema's revision; None for an empty database."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(_VERSION.name):
            return None
        return connection.scalar(select(_VERSION.c.version_num))


def head_revision() -> str:
    """Name the revision this version of the code needs."""
    return revisions()[-1]


def revisions() -> list[str]:
    """List the revisions that this version of the code knows, the oldest first.

    The name of a migration's file begins with its revision, and they are counted up.
    """
    return sorted(path.name.partition("_")[0] for path in MIGRATIONS.glob("versions/[0-9]*_*.py"))


def is_older(engine: Engine) -> bool:
    """Tell whether the schema is one that this version has outgrown, or none at all."""
    return _missing(engine) is not None or current_revision(engine) in (None, *revisions()[:-1])


def wait_for_schema(
    engine: Engine, stopped: threading.Event, turned: Callable[[], None] = lambda: None
) -> None:
    """Wait until the database answers, so that it does not matter which role starts first.

    Parameters
    ----------
    turned
        Called after each look that was in vain.

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
        turned()
        stopped.wait(1)


def require_schema(engine: Engine) -> None:
    """Refuse to work on a schema this version does not know.

    Raises
    ------
    ConfigurationError
        With the command to run.
    """
    file = _missing(engine)
    if file is not None:
        raise ConfigurationError(
            "CXR_DATABASE_URL",
            f"there is no database {file}: is CXR_HOME here what it is where `cxr-worker up` runs? "
            "`up` makes a new one, and so does `cxr-worker db upgrade`",
        )
    found, needed = current_revision(engine), head_revision()
    if found == needed:
        return
    advice = "run `cxr-worker db upgrade`"
    if found is not None and found not in revisions():
        advice = (
            f"it is of a newer version: install that, or let it run `cxr-worker db downgrade "
            f"{needed}` (back up first)"
        )
    raise ConfigurationError(
        "CXR_DATABASE_URL",
        f"names a database at revision {found or 'none'}, this version needs {needed}; {advice}",
    )
