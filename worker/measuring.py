"""How large the archive is: found out by looking at all its files, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from dicom_node.clearance import Found, walk
from worker import ledger
from worker.database import READS_ONLY
from worker.desk import Desk
from worker.reading import ArchiveAway

# How many files are looked at in a turn, and how long a result counts.
WALKED_AT_ONCE = 2000
MEASURED_EVERY = timedelta(minutes=1)
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

    def go_on(self, desk: Desk) -> None:
        """Look at some files more, if it is time.

        Raises
        ------
        ArchiveAway
            When the archive cannot be looked through now.
        """
        now = desk.clock()
        if self._began_at is None:
            if self.found is not None and now - self.found[0] < MEASURED_EVERY:
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

    def excess(self, desk: Desk) -> int:
        """Tell by how many bytes the archive is too large, as far as is known."""
        limit = desk.settings.archive_max_gb
        if self.found is None or limit is None:
            return 0
        began_at, size = self.found
        with desk.sessions() as session:
            session.connection(execution_options=READS_ONLY)
            gone = ledger.bytes_removed(session, began_at)
        return size - gone - int(limit * GIGABYTE)


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
