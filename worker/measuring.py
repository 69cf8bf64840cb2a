"""How large the archive is: found out by looking at all its files, a little at a time.

The objects of a bucket are listed once a day, as that costs time and money; until the next time,
what comes in is added as its rows say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from dicom_node.clearance import Found, walk
from dicom_node.object_archive import ObjectArchive
from worker import ledger
from worker.database import READS_ONLY
from worker.desk import Desk
from worker.reading import ArchiveAway

# How many files are looked at in a turn, and how long a result counts.
WALKED_AT_ONCE = 2000
MEASURED_EVERY = timedelta(minutes=1)
LISTED_EVERY = timedelta(days=1)
GIGABYTE = 1_000_000_000


@dataclass
class Measure:
    """Measures the archive, some files at a time, again and again.

    Attributes
    ----------
    found : tuple or None
        When the last measuring began, and how many bytes it found.
    """

    found: tuple[datetime, int] | None = None
    _began_at: datetime | None = None
    _walk: Iterator[Found] = field(default_factory=lambda: iter(()))
    _bytes: int = 0
    _grown: int = 0
    _last_id: int = 0

    def go_on(self, desk: Desk) -> None:
        """Look at some files more, if it is time, and at what came in meanwhile.

        Raises
        ------
        ArchiveAway
            When the archive cannot be looked through now.
        """
        now, is_bucket = desk.clock(), isinstance(desk.archive, ObjectArchive)
        if is_bucket and self.found is not None:
            self._add_received(desk)
        if self._began_at is None:
            every = LISTED_EVERY if is_bucket else MEASURED_EVERY
            if self.found is not None and now - self.found[0] < every:
                return
            self._began_at, self._walk, self._bytes = now, walk(desk.archive), 0
        try:
            part = list(islice(self._walk, WALKED_AT_ONCE))
        except OSError as error:
            self._began_at = None
            raise ArchiveAway.because(error) from error
        self._bytes += sum(each.size for each in part)
        if len(part) < WALKED_AT_ONCE:
            self.found, self._began_at = (self._began_at, self._bytes), None
            # What came while it was looked through may be among it. It is not added, and missed
            # for a while at most: images that might be kept shall not go.
            with desk.sessions() as session:
                session.connection(execution_options=READS_ONLY)
                self._last_id, self._grown = ledger.last_instance(session), 0

    def _add_received(self, desk: Desk) -> None:
        with desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            came = ledger.sizes_after(session, self._last_id, WALKED_AT_ONCE)
        if came:
            self._last_id = came[-1][0]
            self._grown += sum(size for _, size in came)

    def excess(self, desk: Desk) -> int:
        """Tell by how many bytes the archive is too large, as far as is known."""
        limit = desk.settings.archive_max_gb
        if self.found is None or limit is None:
            return 0
        began_at, size = self.found
        with desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            gone = ledger.bytes_removed(session, began_at)
        return size + self._grown - gone - int(limit * GIGABYTE)


def measured(desk: Desk) -> int:
    """Measure the archive at once, in bytes.

    Raises
    ------
    ArchiveAway
        When it cannot be looked through now.
    """
    try:
        return sum(each.size for each in walk(desk.archive))
    except OSError as error:
        raise ArchiveAway.because(error) from error
