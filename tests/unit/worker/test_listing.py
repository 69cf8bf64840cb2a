"""Lists for programs on SQLite and PostgreSQL: where a page ends, and that none is missed."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain

import pytest

from tests.fakes import NOON, new_uid, received
from tests.ledgers import Desk
from worker import ledger, listing
from worker.listing import Criteria, Listed, Place, list_studies
from worker.worklist import Answer

PENDING, ABSENT = Criteria(answer=Answer.PENDING), Criteria(answer=Answer.ABSENT)


@pytest.fixture
def uids(desk: Desk) -> list[str]:
    """Seven studies that nobody has looked at, the newest first; two came at the same moment."""
    made = []
    for minutes in (0, 1, 1, 2, 3, 4, 5):
        at = NOON + timedelta(minutes=minutes)
        facts = received(study_instance_uid=new_uid(), received_at=at)
        desk.do(ledger.record, facts, quiet=timedelta(0))
        made.append(facts.study_instance_uid)
    return made[::-1]


def read(desk: Desk, criteria: Criteria, after: Place | None, limit: int) -> Listed:
    page: Listed = desk.do(list_studies, criteria, after, limit)
    return page


def pages(desk: Desk, criteria: Criteria, limit: int) -> list[list[str]]:
    after, found = None, []
    while True:
        page = read(desk, criteria, after, limit)
        found.append([each.study.study_instance_uid for each in page.studies])
        if page.following is None:
            return found
        after = Place.at(page.following.cursor())
        assert after == page.following


@pytest.mark.parametrize("criteria", [Criteria(), PENDING])
def test_the_last_page_is_known_to_be_the_last(
    desk: Desk, uids: list[str], criteria: Criteria
) -> None:
    assert pages(desk, criteria, 7) == [uids]
    assert pages(desk, criteria, 8) == [uids]
    assert pages(desk, criteria, 3) == [uids[:3], uids[3:6], uids[6:]]
    assert pages(desk, criteria, 1) == [[uid] for uid in uids]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 9])
def test_an_answer_is_looked_for_among_so_many_and_then_on_the_next_page(
    desk: Desk, uids: list[str], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(listing, "_AT_ONCE", at_once)
    monkeypatch.setattr(listing, "_TIMES", 2)
    looked_at = min(2 * at_once, 7)
    assert pages(desk, ABSENT, 2) == [[]] * -(-7 // looked_at)
    assert list(chain(*pages(desk, PENDING, 2))) == uids
    assert list(chain(*pages(desk, PENDING, 5))) == uids


def test_a_place_is_spelled_to_the_microsecond() -> None:
    place = Place(NOON + timedelta(microseconds=1), (1 << 60) - 1)
    assert Place.at(place.cursor()) == place
    assert len(place.cursor()) == 29
