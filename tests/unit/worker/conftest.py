"""What several tests of the worker room start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from tests.ledgers import Desk
from worker import database


@pytest.fixture
def desk(sessions: sessionmaker[Session]) -> Desk:
    """A ledger on each kind of database."""
    return Desk(sessions)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cxr.sqlite3'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def empty_engine(empty_url: str) -> Iterator[Engine]:
    engine = database.build_engine(empty_url)
    yield engine
    engine.dispose()
