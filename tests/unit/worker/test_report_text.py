"""A report's content tree as lines of text."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from tests.ward import Ward, words
from worker.report_text import text_of


def test_all_that_a_report_says_in_words_and_numbers_is_in_its_text(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    ward = Ward(tmp_path, sqlite_sessions)
    ward.receive_study(2)
    ward.classify()
    ward.clock.forward(60)
    ward.report()
    (report,) = ward.reports()
    lines = text_of(report)
    assert lines[0].depth == 0
    assert lines[0].name == "Imaging Measurement Report"
    values = {line.value for line in lines}
    texts = [e.value for e in report.iterall() if e.keyword == "TextValue"]
    assert texts
    assert set(texts) <= values
    numbers = [f"{e.value} %" for e in report.iterall() if e.keyword == "NumericValue"]
    assert numbers
    assert set(numbers) <= values
    assert {line.name for line in lines if line.name} <= set(words(report).splitlines())
    assert max(line.depth for line in lines) >= 3
