"""Every pair of state and event, against what is written out here."""

import pytest

from worker.states import TRANSITIONS, StudyEvent, StudyState, after

STATES = ("RECEIVING", "READY", "REPORTED", "DELIVERED", "COMMITTED", "FAILED", "DISCARDED")
SAME = "."

# One row an event, one column a state, in the order of STATES; a dot leaves the state as it is.
EXPECTED = {
    "STORED": (SAME, *["RECEIVING"] * 6),
    "QUIET": ("READY", SAME, SAME, SAME, SAME, SAME, SAME),
    "REPORT_SAVED": (SAME, "REPORTED", SAME, SAME, SAME, "REPORTED", SAME),
    "ALL_DELIVERED": (SAME, SAME, "DELIVERED", SAME, SAME, "DELIVERED", SAME),
    "ALL_COMMITTED": (SAME, SAME, SAME, "COMMITTED", SAME, SAME, SAME),
    "GIVEN_UP": ("FAILED", "FAILED", "FAILED", SAME, SAME, SAME, SAME),
    "REQUEUED": (SAME, SAME, *["RECEIVING"] * 5),
    "DELIVERY_OWED": (SAME, SAME, SAME, "REPORTED", SAME, "REPORTED", SAME),
    "WRITTEN_OFF": ("DISCARDED", "DISCARDED", SAME, SAME, SAME, "DISCARDED", SAME),
}
PAIRS = [
    (state, event, state if new == SAME else new)
    for event, row in EXPECTED.items()
    for state, new in zip(STATES, row, strict=True)
]


@pytest.mark.parametrize(("state", "event", "expected"), PAIRS)
def test_each_event_in_each_state_leads_where_the_table_says(
    state: str, event: str, expected: str
) -> None:
    assert after(StudyState(state), StudyEvent(event)) == expected


def test_the_expectation_covers_every_state_and_every_event() -> None:
    assert set(STATES) == set(StudyState)
    assert set(EXPECTED) == set(StudyEvent)
    assert set(TRANSITIONS) <= {(s, e) for s in StudyState for e in StudyEvent}


def test_a_late_image_makes_a_study_of_any_state_receive_again() -> None:
    assert {after(state, StudyEvent.STORED) for state in StudyState} == {StudyState.RECEIVING}


def test_no_state_is_a_dead_end() -> None:
    assert {state for state, _ in TRANSITIONS} == set(StudyState)
