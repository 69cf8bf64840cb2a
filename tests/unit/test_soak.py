"""The soak's reckoning finds what must not be."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.soak import Cost, Tally, faults

STEADY = [Cost(n, threads=5, descriptors=30, resident_mb=150 + n) for n in range(5)]


def test_a_node_that_keeps_nothing_and_loses_nothing_is_well() -> None:
    assert faults(Tally(acknowledged=["1.2"]), {"1.2", "1.3"}, STEADY) == []


@pytest.mark.parametrize(
    ("tally", "last", "told"),
    [
        (Tally(acknowledged=["1.2", "1.4"]), STEADY[-1], "1 acknowledged instances are lost"),
        (Tally(wrong=Counter(refused=2)), STEADY[-1], "refused, 2 times"),
        (Tally(), Cost(5, 6, 30, 150), "1 threads stayed behind"),
        (Tally(), Cost(5, 5, 60, 150), "30 descriptors stayed behind"),
        (Tally(), Cost(5, 5, 30, 300), "memory grew from 152 to 300 MB"),
    ],
)
def test_what_must_not_be_is_told(tally: Tally, last: Cost, told: str) -> None:
    assert faults(tally, {"1.2"}, [*STEADY[:-1], last]) == [told]
