"""What several tests of the worker room start from."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.ledgers import Desk


@pytest.fixture
def desk(sessions: sessionmaker[Session]) -> Desk:
    """A ledger on each kind of database."""
    return Desk(sessions)
