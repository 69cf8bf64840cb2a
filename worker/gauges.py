"""What the relay measures for all roles: the ledger and the archive's disk, when it is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker import ledger, metrics
from worker.database import SessionFactory
from worker.ledger import BY_DESTINATION, Backlog
from worker.looked import Looked
from worker.metrics import Metric
from worker.placing import archive_of
from worker.settings import Settings
from worker.settings_objects import Bucket
from worker.states import JobKind

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

# However often it is scraped, the database is asked no more often than this.
GOOD_FOR_S = 10.0
WAIT_S = 1.0
_OF_REPORTS = [each for each in JobKind if each in BY_DESTINATION - {JobKind.NOTIFY}]

# By its labels' values.
Values = Mapping[tuple[str, ...], float]


class Gauges:
    """Collects gauges for a registry of Prometheus; what cannot be seen now is left out.

    Parameters
    ----------
    sessions
        Sessions that read.
    clock
        By which work is due.
    """

    def __init__(
        self, settings: Settings, sessions: SessionFactory, clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._sessions, self._clock = settings, sessions, clock
        self._ledger = Looked(self._look_at_ledger, GOOD_FOR_S, WAIT_S)
        self._disk = Looked(lambda: _disk_of(settings), GOOD_FOR_S, WAIT_S)

    def collect(self) -> Iterator[Family]:
        """Give all gauges; called by Prometheus' registry."""
        try:
            found = self._ledger()
        except Exception:  # noqa: BLE001  whatever it is, the gauge says that there is nothing
            yield family(metrics.LEDGER_UP, {(): 0})
        else:
            yield family(metrics.LEDGER_UP, {(): 1})
            yield from (family(metric, values) for metric, values in found.items())
        try:
            disk = self._disk()
        except (OSError, TimeoutError):
            return
        yield family(metrics.ARCHIVE_FREE, {(): disk.free})
        yield family(metrics.ARCHIVE_SIZE, {(): disk.total})
        reserve = self._settings.archive_reserve_mb * 1_000_000
        yield family(metrics.ARCHIVE_RESERVE, {(): reserve})

    def _look_at_ledger(self) -> dict[Metric, Values]:
        with self._sessions() as session:
            found = ledger.backlog(session)
        destinations = [str(each.peer) for each in self._settings.destinations]
        return values_of(found, destinations, self._clock(), self._settings.targets)


def values_of(
    found: Backlog, destinations: list[str], now: datetime, targets: Collection[str] = ()
) -> dict[Metric, Values]:
    """Make values of a backlog; what nothing is owed to has a zero, so that it is there.

    Parameters
    ----------
    destinations, targets
        Who gets reports, and who is told of positive studies.
    """
    pairs = [(kind, "") for kind in JobKind if kind not in BY_DESTINATION]
    pairs += [(kind, each) for kind in _OF_REPORTS for each in destinations]
    pairs += [(JobKind.NOTIFY, each) for each in targets]
    nothing: dict[tuple[str, ...], float] = dict.fromkeys(pairs, 0.0)
    counts, ages = dict(nothing), dict(nothing)
    away: dict[tuple[str, ...], float] = {(each,): 0.0 for each in (*destinations, *targets)}
    for pair, owed in found.owed.items():
        counts[pair], ages[pair] = owed.count, _seconds(now - owed.oldest_due_at)
    for name, since in found.away_since.items():
        away[name,] = _seconds(now - since)
    return {
        metrics.QUEUE_DEPTH: counts,
        metrics.QUEUE_OLDEST: ages,
        metrics.DEAD_LETTERS: {(kind,): found.dead.get(kind, 0) for kind in JobKind},
        metrics.STUDIES: {(state,): count for state, count in found.studies.items()},
        metrics.AWAY: away,
    }


def _disk_of(settings: Settings) -> Any:
    """Measure the archive's disk, and no other that is in its place; a bucket has none."""
    if isinstance(settings.archive, Bucket) or not archive_of(settings).is_there():
        raise FileNotFoundError
    return shutil.disk_usage(settings.archive_root)


def _seconds(age: timedelta) -> float:
    return max(0.0, age.total_seconds())


def family(metric: Metric, values: Values) -> Family:
    """Make Prometheus' own of a gauge with its values."""
    from prometheus_client.core import GaugeMetricFamily

    made = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
