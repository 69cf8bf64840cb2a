"""What is owed, and how long it has waited, as the relay tells it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.errors import ReportRefused
from tests.fakes import Clock
from tests.ward import PACS, VIEWER, Ward
from worker import gauges, ledger
from worker.gauges import Gauges
from worker.ledger import Backlog, Owed
from worker.settings import Settings
from worker.states import JobKind, StudyState


@pytest.fixture
def ward(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Ward:
    return Ward(tmp_path, sqlite_sessions)


def backlog(ward: Ward, most: int = 100) -> Backlog:
    with ward.sessions() as session:
        return ledger.backlog(session, most)


def test_nothing_is_owed_at_first(ward: Ward) -> None:
    assert backlog(ward) == Backlog({}, {}, dict.fromkeys(ledger.ON_THE_WAY, 0), {})


def test_what_is_owed_is_counted_by_kind_and_destination_with_its_age(ward: Ward) -> None:
    began = ward.clock()
    for _ in range(3):
        ward.receive_study()
    found = backlog(ward)
    assert found.owed[JobKind.CLASSIFY, ""] == Owed(3, began)
    assert found.owed[JobKind.REPORT, ""] == Owed(3, began + timedelta(seconds=2))
    assert found.studies[StudyState.RECEIVING] == 3
    ward.classify()
    ward.clock.forward(5)
    reported_at = ward.clock()
    ward.report()
    found = backlog(ward)
    assert found.owed == {(JobKind.DELIVER, PACS): Owed(3, reported_at)}
    assert found.studies[StudyState.REPORTED] == 3
    assert backlog(ward, most=2).owed[JobKind.DELIVER, PACS].count == 2
    assert backlog(ward, most=2).studies[StudyState.REPORTED] == 2


def test_what_was_given_up_and_who_is_away_is_told(ward: Ward) -> None:
    ward.receive_study()
    ward.classify()
    ward.clock.forward(5)
    ward.report()
    ward.send.answers = [ReportRefused("no", PACS, 0xC000)]
    ward.deliver()
    found = backlog(ward)
    assert found.dead == {JobKind.DELIVER: 1}
    assert found.owed == {}
    assert found.studies[StudyState.FAILED] == 1


def told(collector: Gauges) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in collector.collect()
    }


def test_gauges_have_a_zero_where_nothing_is_owed(ward: Ward) -> None:
    settings = Settings.from_env(
        {
            "CXR_HOME": str(ward.settings.home), "CXR_ARCHIVE": str(ward.archive.root),
            "CXR_DESTINATIONS": f"{PACS},{VIEWER}", "CXR_ARCHIVE_RESERVE_MB": "7",
        }
    )  # fmt: skip
    ward.receive_study()
    ward.clock.forward(9)
    found = told(Gauges(settings, ward.sessions, ward.clock))
    assert found["cxr_ledger_up"] == {(): 1}
    assert found["cxr_queue_depth"] == {
        ("CLASSIFY", ""): 1, ("REPORT", ""): 1,
        ("DELIVER", PACS): 0, ("DELIVER", VIEWER): 0, ("COMMIT", PACS): 0, ("COMMIT", VIEWER): 0,
    }  # fmt: skip
    assert found["cxr_queue_oldest_due_seconds"]["CLASSIFY", ""] == 9
    assert found["cxr_queue_oldest_due_seconds"]["REPORT", ""] == 7
    assert found["cxr_dead_letters"] == {(kind,): 0 for kind in JobKind}
    assert found["cxr_destination_away_seconds"] == {(PACS,): 0, (VIEWER,): 0}
    assert 0 < found["cxr_archive_free_bytes"][()] <= found["cxr_archive_size_bytes"][()]
    assert found["cxr_archive_reserve_bytes"] == {(): 7_000_000}


def test_a_destination_that_is_away_is_told_with_for_how_long(ward: Ward) -> None:
    now = Clock()
    since = now() - timedelta(seconds=30)
    values = gauges.values_of(Backlog({}, {}, {}, {"GONE@h:1": since}), [PACS], now())
    away = next(v for metric, v in values.items() if metric.name.startswith("cxr_destination"))
    assert away == {(PACS,): 0, ("GONE@h:1",): 30}


def test_a_database_that_is_away_leaves_only_that_to_tell(ward: Ward) -> None:
    def away() -> Session:
        raise OperationalError("SELECT", {}, OSError())

    settings = Settings.from_env({"CXR_HOME": str(ward.settings.home)})
    assert told(Gauges(settings, away, ward.clock)) == {"cxr_ledger_up": {(): 0}}
    Archive(settings.archive_root)
    assert "cxr_archive_free_bytes" in told(Gauges(settings, away, ward.clock))


def test_scraping_again_and_again_asks_the_database_once(ward: Ward) -> None:
    asked = list[int]()

    def sessions() -> Session:
        asked.append(1)
        return ward.sessions()

    collect: Callable[[], object] = Gauges(ward.settings, sessions, ward.clock).collect
    for _ in range(5):
        list(collect())  # type: ignore[call-overload]
    assert len(asked) == 1
