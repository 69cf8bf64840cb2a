"""What a role makes at its start is no garbage, and is not looked through again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from worker.lasting import lasting


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nothing_looks_for_garbage_while_what_lasts_is_made() -> None:
    with lasting():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_made_is_not_looked_through_again() -> None:
    with lasting():
        made = [[] for _ in range(100)]
    assert gc.get_freeze_count() > len(made)


def test_garbage_is_looked_for_again_when_nothing_could_be_made() -> None:
    with pytest.raises(ImportError), lasting():
        raise ImportError
    assert gc.isenabled()
