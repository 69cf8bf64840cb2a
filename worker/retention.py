"""Retention: what is kept for how long, and the calm removal of what is not kept any more.

Whoever does a turn takes a few studies, and lets everybody else go on before the next one. Two at
once do no harm: what one has marked, the other does not find.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from worker import ledger
from worker.database import READS_ONLY
from worker.desk import Desk
from worker.ledger import Place, Rule
from worker.measuring import Measure
from worker.reading import ArchiveAway
from worker.removing import finish, sizes
from worker.settings import Settings
from worker.states import RemovalCause, RemovalKind
from worker.tables import Removal

log = logging.getLogger(__name__)

# How long to rest between two turns.
REST_S = 2.0
# How many rows of the oldest that is kept a turn looks at, and how many studies it takes.
LOOKED_AT, STUDIES_AT_ONCE = 100, 20
PERSON = "cxr-worker"


def limits(settings: Settings) -> dict[RemovalKind, timedelta]:
    """Give how long each kind is kept; what is kept for ever is not listed."""
    days = {
        RemovalKind.IMAGES: settings.keep_images_days,
        RemovalKind.REPORTS: settings.keep_reports_days,
        RemovalKind.RESULTS: settings.keep_results_days,
    }
    return {kind: timedelta(days=each) for kind, each in days.items() if each is not None}


def rules(desk: Desk) -> list[Rule]:
    """Give what may be removed now for its age."""
    now = desk.clock()
    return [
        Rule(kind, RemovalCause.AGE, now - limit, now - desk.silence)
        for kind, limit in limits(desk.settings).items()
    ]


def space_rule(desk: Desk) -> Rule:
    """Give what may be removed now to make room: images of whatever age."""
    now = desk.clock()
    return Rule(RemovalKind.IMAGES, RemovalCause.SPACE, now, now - desk.silence)


def begun(desk: Desk) -> int:
    """Count the removals that were begun and are to be finished, the first of them."""
    with desk.sessions() as session:
        return len(ledger.unfinished(session, LOOKED_AT))


# --- of whom something may go ----------------------------------------------------------------


@dataclass
class Search:
    """Goes through all that is kept of a kind, the oldest first, a page at a time.

    Attributes
    ----------
    is_through : bool
        Whether the last page was the last of all; the next one is the first again.
    """

    after: Place | None = None
    is_through: bool = False

    def page(self, desk: Desk, rule: Rule) -> list[int]:
        """Give the studies of the next page of which something may go."""
        with desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            page = ledger.oldest(session, rule, self.after, LOOKED_AT)
            ids = list(dict.fromkeys(place.study_id for place in page))
            free = ledger.may_go(session, rule, ids) if ids else set()
        self.is_through = len(page) < LOOKED_AT
        self.after = None if self.is_through else page[-1]
        return [study_id for study_id in ids if study_id in free]


def all_that_may_go(desk: Desk, rule: Rule) -> Iterator[int]:
    """Go through all studies once, and give those of which something may go now."""
    search, seen = Search(), set[int]()
    while not search.is_through:
        for study_id in search.page(desk, rule):
            if study_id not in seen:
                seen.add(study_id)
                yield study_id


def take(desk: Desk, rule: Rule, study_id: int, person: str) -> Removal | None:
    """Remove what a rule says of a study; None when there was nothing, or it may not go by now.

    Raises
    ------
    ArchiveAway
        When the files cannot be removed now; what was begun is finished later.
    """
    if not desk.archive.is_there():
        raise ArchiveAway("the archive is not there")
    size = sizes(desk, study_id if rule.kind is RemovalKind.REPORTS else None)
    with desk.sessions() as session, session.begin():
        removal = ledger.begin_removal(session, study_id, rule, desk.clock(), size, person)
    if removal is not None:
        finish(desk, removal)
    return removal


# --- making room ---------------------------------------------------------------------------


def make_room(desk: Desk, excess: int, person: str, *, apply: bool) -> Iterator[int]:
    """Remove the oldest images that may go, or only find them; give the bytes of each study.

    Parameters
    ----------
    excess : int
        How many bytes are to go.
    """
    rule = space_rule(desk)
    for study_id in all_that_may_go(desk, rule) if excess > 0 else ():
        if apply:
            removal = take(desk, rule, study_id, person)
            size = 0 if removal is None else removal.size_bytes
        else:
            with desk.sessions() as session:
                size = ledger.bytes_kept(session, study_id)
        yield size
        excess -= size
        if excess <= 0:
            break


# --- turns -----------------------------------------------------------------------------------


@dataclass
class Keeper:
    """Removes what is not kept any more, a little at each turn.

    Attributes
    ----------
    told : bool
        Whether it was told that room cannot be made.
    stuck : set of int
        The removals of which it was told that they cannot be finished now.
    """

    desk: Desk
    searches: dict[tuple[RemovalKind, RemovalCause], Search] = field(default_factory=dict)
    measure: Measure = field(default_factory=Measure)
    told: bool = False
    stuck: set[int] = field(default_factory=set)

    def turn(self) -> int:
        """Finish what was begun, then take some studies more; tell how many removals that were.

        Raises
        ------
        ArchiveAway
            When files cannot be removed now.
        """
        done = self.finish_begun()
        for rule in rules(self.desk):
            done += self._take_some(rule, lambda: True)
        return done + self._make_room()

    def finish_begun(self) -> int:
        """Finish what was begun; a file that cannot be removed is not in the way of others."""
        with self.desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            begun = ledger.unfinished(session, LOOKED_AT)
        done = 0
        for removal in begun:
            try:
                finish(self.desk, removal)
                done += 1
            except ArchiveAway as error:
                if removal.id not in self.stuck:
                    uid = removal.study_instance_uid
                    log.warning("files of study %s cannot be removed now: %s", uid, error)
                self.stuck.add(removal.id)
        return done

    def _take_some(self, rule: Rule, goes_on: Callable[[], bool]) -> int:
        search = self.searches.setdefault((rule.kind, rule.cause), Search())
        count, place = 0, search.after
        for study_id in search.page(self.desk, rule):
            if count == STUDIES_AT_ONCE or not goes_on():
                search.after = place  # from there again: what is taken is not found any more
                break
            count += take(self.desk, rule, study_id, PERSON) is not None
        return count

    def _make_room(self) -> int:
        if self.desk.settings.archive_max_gb is None:
            return 0
        self.measure.go_on(self.desk)
        if self.measure.excess(self.desk) <= 0:
            self.told = False
            return 0
        rule = space_rule(self.desk)
        taken = self._take_some(rule, lambda: self.measure.excess(self.desk) > 0)
        if not taken and self.searches[rule.kind, rule.cause].after is None and not self.told:
            log.warning("the archive is larger than CXR_ARCHIVE_MAX_GB, and nothing more may go")
            self.told = True
        return taken


def run(desk: Desk, stopped: threading.Event, rest_s: float = REST_S) -> None:
    """Remove what is not kept any more until `stopped`; whatever is away is tried again."""
    keeper, away = Keeper(desk), False
    while not stopped.wait(rest_s):
        try:
            keeper.turn()
        except Exception as error:  # noqa: BLE001  it outlives whatever is away
            if not away:
                why = str(error) if isinstance(error, ArchiveAway) else type(error).__name__
                log.warning("nothing can be removed just now: %s", why)
            away = True
        else:
            away = False
