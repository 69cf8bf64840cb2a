"""The reckoning of notices: it must find what is wrong, or its silence says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.chaos.answers import Answers
from tests.chaos.books import Books
from tests.chaos.diary import Diary, Try
from tests.chaos.told import Chapter, Receiver, Told
from tests.fakes import NOON
from tests.notices import news
from worker import hl7, webhook
from worker.notice import News
from worker.states import NoticeState
from worker.tables import Notice

STUDY, IMAGE = "2.25.1", "2.25.11"
TARGETS = ["webhook", "hl7"]


@dataclass
class Scene:
    """A study that is positive in its first report and not in its second, as it is told."""

    target: str
    diary: Diary
    chapters: dict[str, Chapter] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def add_report(self, *, positive: bool, unassessed: bool = False) -> str:
        """Add a revision; give the UID of its report."""
        revision = len(self.chapters) + 1
        found = frozenset({IMAGE} if positive else ())
        answers = Answers(found, frozenset({IMAGE} if unassessed else ()))
        before = list(self.chapters.values())[-1].alarm if self.chapters else frozenset()
        alarm = found | (answers.unassessed & before)
        self.chapters[uid := f"2.25.2.{revision}"] = Chapter(STUDY, revision, answers, alarm)
        return uid

    def owe(self, number: int, state: NoticeState = NoticeState.SENT) -> None:
        self.notices.append(Notice(message_id=_id(number), target=self.target, state=state))

    def tell(self, told: News, *, kept: bool = True, acknowledged: bool = True) -> None:
        content = (
            webhook.body_of(told)
            if self.target == "webhook"
            else hl7.message_of(told, hl7.Ends("CXRWORKER"), NOON)
        )
        self.diary.enter(Try(told.message_id, content.decode(), True, kept, acknowledged))

    def reckon(self) -> Told:
        books = Books({}, {}, {}, {}, {}, [], self.notices)
        return Receiver(books, self.chapters, self.target, self.diary).reckon()


def _id(number: int) -> str:
    return f"{number:020d}"


def _news(number: int, report: str, *, positive: bool, corrects: bool) -> News:
    fields = {"study_instance_uid": STUDY, "report_uid": report}
    finding = "PRESENT" if positive else "ABSENT"
    return news(message_id=_id(number), finding=finding, corrects=corrects, fields=fields)


POSITIVE = _news(1, "2.25.2.1", positive=True, corrects=False)
CORRECTION = _news(2, "2.25.2.2", positive=False, corrects=True)


@pytest.fixture(params=TARGETS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    made = Scene(request.param, Diary(tmp_path / "diary"))
    made.add_report(positive=True)
    made.add_report(positive=False)
    made.owe(1)
    made.owe(2)
    return made


def _is_clean(told: Told) -> bool:
    return not told.lost + told.two_stories


def test_nothing_is_wrong_where_an_alarm_was_told_and_corrected(scene: Scene) -> None:
    scene.tell(POSITIVE, acknowledged=False)
    scene.tell(POSITIVE)
    scene.tell(CORRECTION)
    told = scene.reckon()
    assert _is_clean(told)
    assert (told.positive, told.corrections, told.tries, told.repeated) == (1, 1, 3, 1)


def test_what_was_never_told_needs_no_correction(scene: Scene) -> None:
    scene.notices.clear()
    scene.owe(1, NoticeState.SUPERSEDED)
    scene.tell(POSITIVE, kept=False, acknowledged=False)
    assert _is_clean(scene.reckon())


def test_an_alarm_of_an_image_that_is_not_assessed_any_more_stands(scene: Scene) -> None:
    scene.chapters.clear()
    scene.notices.pop()
    scene.add_report(positive=True)
    scene.add_report(positive=False, unassessed=True)
    scene.tell(POSITIVE)
    assert _is_clean(scene.reckon())
    scene.owe(2)
    scene.tell(CORRECTION)
    assert scene.reckon().two_stories


def test_what_came_after_its_correction_is_late_and_the_newer_report_counts(scene: Scene) -> None:
    scene.tell(CORRECTION)
    scene.tell(POSITIVE)
    told = scene.reckon()
    assert len(told.late) == 1
    assert _is_clean(told)


def _tell_nothing(scene: Scene) -> None:
    scene.chapters.popitem()


def _tell_no_correction(scene: Scene) -> None:
    scene.tell(POSITIVE)


def _never_take_the_last_word(scene: Scene) -> None:
    scene.tell(POSITIVE)
    scene.tell(CORRECTION, acknowledged=False)


def _leave_it_owed(scene: Scene) -> None:
    scene.tell(POSITIVE)
    scene.tell(CORRECTION)
    scene.notices[1].state = NoticeState.PENDING


@pytest.mark.parametrize(
    "harm", [_tell_nothing, _tell_no_correction, _never_take_the_last_word, _leave_it_owed]
)
def test_what_a_receiver_does_not_know_in_the_end_is_lost(
    scene: Scene, harm: Callable[[Scene], None]
) -> None:
    harm(scene)
    assert scene.reckon().lost


def _tell_of_a_study_that_never_was_positive(scene: Scene) -> None:
    scene.chapters.clear()
    scene.add_report(positive=False)
    scene.add_report(positive=False)


def _tell_of_a_report_that_is_not_there(scene: Scene) -> None:
    del scene.chapters["2.25.2.2"]


def _tell_what_is_not_owed(scene: Scene) -> None:
    scene.notices.pop()


def _tell_the_same_under_another_id(scene: Scene) -> None:
    scene.owe(3)
    scene.tell(replace(POSITIVE, message_id=_id(3)))


def _tell_something_else_under_the_same_id(scene: Scene) -> None:
    scene.tell(replace(POSITIVE, probability=0.5))


def _tell_the_opposite_under_the_same_id(scene: Scene) -> None:
    scene.tell(replace(CORRECTION, message_id=_id(1)))


def _give_it_another_reference(scene: Scene) -> None:
    scene.tell(replace(POSITIVE, reference="1" * 20))


def _say_not_that_it_corrects(scene: Scene) -> None:
    scene.add_report(positive=True)
    scene.owe(3)
    scene.tell(_news(3, "2.25.2.3", positive=True, corrects=False))


def _say_what_cannot_be_read(scene: Scene) -> None:
    scene.diary.enter(Try(_id(1), "{}", True, True, True))


def _say_it_unsigned(scene: Scene) -> None:
    (came, *_) = scene.diary.tries()
    scene.diary.enter(replace(came, genuine=False))


@pytest.mark.parametrize(
    "harm",
    [
        _tell_of_a_study_that_never_was_positive,
        _tell_of_a_report_that_is_not_there,
        _tell_what_is_not_owed,
        _tell_the_same_under_another_id,
        _tell_something_else_under_the_same_id,
        _tell_the_opposite_under_the_same_id,
        _give_it_another_reference,
        _say_not_that_it_corrects,
        _say_what_cannot_be_read,
        _say_it_unsigned,
    ],
)
def test_what_does_not_fit_the_reports_is_another_story(
    scene: Scene, harm: Callable[[Scene], None]
) -> None:
    scene.tell(POSITIVE)
    scene.tell(CORRECTION)
    harm(scene)
    assert scene.reckon().two_stories


def test_a_positive_that_is_told_again_says_that_it_corrects(scene: Scene) -> None:
    scene.add_report(positive=True)
    scene.owe(3)
    for told in (POSITIVE, CORRECTION, _news(3, "2.25.2.3", positive=True, corrects=True)):
        scene.tell(told)
    assert _is_clean(scene.reckon())
