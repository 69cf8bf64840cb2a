"""What several tests of the worker room start from."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.ledgers import Desk


@pytest.fixture
def desk(sessions: sessionmaker[Session]) -> Desk:
    """A ledger on each kind of database."""
    return Desk(sessions)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between the tries for a broker that is away."""
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)
