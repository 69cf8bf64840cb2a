"""Hashes of passwords that take no time, for tests that sign in a hundred times."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from worker.access import passwords


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", quick)
