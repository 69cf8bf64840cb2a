"""Holds what the receivers of notices were told against what the reports tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.chaos.answers import Answers, alarms, answers_of
from tests.chaos.books import Books
from tests.chaos.diary import Diary, Try
from tests.chaos.words import READERS, Word
from worker.states import NoticeState

if TYPE_CHECKING:
    from tests.chaos.reckoning import Evidence


@dataclass
class Told:
    """What one receiver was told, and what is wrong with it, each in a line."""

    lost: list[str] = field(default_factory=list)
    two_stories: list[str] = field(default_factory=list)
    # No fault: what came again under an id that was known, and what a worker that slept sent late.
    repeated: int = 0
    late: list[str] = field(default_factory=list)
    tries: int = 0
    positive: int = 0
    corrections: int = 0


@dataclass(frozen=True)
class Chapter:
    """A revision of a study: its number, what its report tells, and for what an alarm stands."""

    study: str
    revision: int
    answers: Answers
    alarm: frozenset[str]


def chapters(evidence: Evidence) -> dict[str, Chapter]:
    """Read all reports, by their SOP Instance UIDs, each study's in the order of revisions."""
    found: dict[str, Chapter] = {}
    for study, reports in evidence.books.reports.items():
        told = [answers_of(evidence.read(report)) for report in reports]
        for report, answers, alarm in zip(reports, told, alarms(told), strict=True):
            found[report.sop_instance_uid] = Chapter(study, report.revision, answers, alarm)
    return found


def reckon_notices(evidence: Evidence) -> dict[str, Told]:
    """Reckon for each receiver that has a diary."""
    known = chapters(evidence) if evidence.diaries else {}
    return {
        target: Receiver(evidence.books, known, target, diary).reckon()
        for target, diary in evidence.diaries.items()
    }


class Receiver:
    """One receiver: what it knows, and what it should."""

    def __init__(
        self, books: Books, known: Mapping[str, Chapter], target: str, diary: Diary
    ) -> None:
        self._chapters = known
        self._notices = [row for row in books.notices if row.target == target]
        self._tries = diary.tries()
        self._told = Told(tries=len(self._tries))
        self._words = [word for came in self._tries if (word := self._read(target, came))]

    def _read(self, target: str, came: Try) -> Word | None:
        try:
            return READERS[target](came)
        except Exception as error:
            line = f"notice {came.message_id} cannot be read: {type(error).__name__} {error}"
            self._told.two_stories.append(line)
        return None

    def reckon(self) -> Told:
        told, kept = self._told, [word for word in self._words if word.came.kept]
        told.repeated = len(kept) - len({word.message_id for word in kept})
        told.two_stories += self._strangers()
        told.two_stories += self._differences()
        told.two_stories += self._untrue()
        told.lost += self._not_acknowledged()
        for study, story in self._stories().items():
            news = _news([word for word in kept if word.study == study])
            told.lost += self._not_told(study, story, news)
            told.two_stories += self._too_many(study, story, news)
            told.late += self._late(news)
            told.positive += any(word.positive for word in news)
            told.corrections += sum(not word.positive for word in news)
        return told

    def _stories(self) -> dict[str, list[Chapter]]:
        found: dict[str, list[Chapter]] = defaultdict(list)
        for chapter in self._chapters.values():
            found[chapter.study].append(chapter)
        return found

    def _revision(self, word: Word) -> int:
        chapter = self._chapters.get(word.report)
        return chapter.revision if chapter else 0

    # --- two stories -------------------------------------------------------------------------

    def _strangers(self) -> Iterator[str]:
        """Look for notices that are not ours, and for those that nobody owed."""
        owed = {row.message_id for row in self._notices}
        for word in self._words:
            if not word.came.genuine:
                yield f"notice {word.message_id} has no valid signature"
            if word.message_id not in owed:
                yield f"notice {word.message_id} of {word.study} is not in the database"

    def _differences(self) -> Iterator[str]:
        """Look for one notice that says several things, and for one thing said by several."""
        says: dict[str, set[object]] = defaultdict(set)
        contents: dict[tuple[str, str], set[str]] = defaultdict(set)
        ids: dict[str, set[str]] = defaultdict(set)
        references: dict[str, set[str]] = defaultdict(set)
        for word in self._words:
            says[word.message_id].add(word.says)
            contents[word.message_id, word.report].add(word.content)
            ids[word.report].add(word.message_id)
            references[word.study].add(word.reference)
        yield from (f"notice {key} says {len(n)} things" for key, n in says.items() if len(n) > 1)
        for (key, report), found in contents.items():
            if len(found) > 1:
                yield f"notice {key} of report {report} has {len(found)} contents"
        yield from (f"report {key} is told as {sorted(n)}" for key, n in ids.items() if len(n) > 1)
        for study, found in references.items():
            if len(found) > 1:
                yield f"study {study} has {len(found)} references"

    def _untrue(self) -> Iterator[str]:
        """Look for what the report that a notice names does not tell."""
        for word in self._words:
            chapter, what = self._chapters.get(word.report), f"notice {word.message_id}"
            if chapter is None or chapter.study != word.study:
                yield f"{what} tells of {word.report}, which is no report of {word.study}"
            elif word.positive != bool(chapter.answers.positive):
                yield f"{what} of {word.study} is {word.positive}, its report is not"
            elif not word.positive and chapter.alarm:
                yield f"{what} withdraws the alarm of {word.study}, which stands"
            elif not word.positive and not word.corrects:
                yield f"{what} of {word.study} is not positive and corrects nothing"

    def _too_many(
        self, study: str, story: Sequence[Chapter], news: Sequence[Word]
    ) -> Iterator[str]:
        """Look for more notices than there were changes, and corrections not called so."""
        states = [False, *(bool(chapter.alarm) for chapter in story)]
        changes = sum(one != other for one, other in pairwise(states))
        if len(news) > changes:
            yield f"study {study} changed {changes} times and was told of {len(news)} times"
        for word in sorted(news, key=self._revision)[1:]:
            if not word.corrects:
                yield f"notice {word.message_id} of {study} does not say that it corrects"

    # --- lost --------------------------------------------------------------------------------

    def _not_acknowledged(self) -> Iterator[str]:
        """Look for what is noted as sent, and was never taken."""
        taken = {word.message_id for word in self._words if word.came.acknowledged}
        for row in self._notices:
            if row.state == NoticeState.SENT and row.message_id not in taken:
                yield f"notice {row.message_id} is noted as sent and was never acknowledged"
            elif row.state not in (NoticeState.SENT, NoticeState.SUPERSEDED):
                yield f"notice {row.message_id} is {row.state}"

    def _not_told(
        self, study: str, story: Sequence[Chapter], news: Sequence[Word]
    ) -> Iterator[str]:
        """Look for a study of which a receiver does not know in the end how it is."""
        last = max(news, key=self._revision, default=None)
        believed, true = bool(last and last.positive), bool(story[-1].alarm)
        if believed != true:
            yield f"study {study} is {true} in the end, and is taken for {believed}"
        elif last is not None and last.message_id not in self._acknowledged():
            yield f"what study {study} is in the end was never acknowledged"

    def _acknowledged(self) -> set[str]:
        return {word.message_id for word in self._words if word.came.acknowledged}

    def _late(self, news: Sequence[Word]) -> Iterator[str]:
        """List what came after what is newer."""
        for earlier, later in pairwise(news):
            if self._revision(later) < self._revision(earlier):
                yield f"notice {later.message_id} came after its correction {earlier.message_id}"


def _news(words: Sequence[Word]) -> list[Word]:
    """Give each notice once, as it came first: that is how a receiver drops what it has."""
    first: dict[str, Word] = {}
    for word in words:
        first.setdefault(word.message_id, word)
    return list(first.values())
