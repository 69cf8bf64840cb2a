"""What a page tells of a study is what its report tells, and never more reassuring."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.errors import ReportRefused
from model.predict import Prediction
from tests import datasets
from tests.fakes import new_uid
from tests.ward import PACS, VIEWER, Ward, chest
from tests.web import Web
from worker import erasing, ledger, retention
from worker.access.roles import Role
from worker.tables import Instance, Study

PRESENT = Prediction(0.97, 0.6, 0.4, "PRESENT")
ABSENT = Prediction(0.02, None, None, "ABSENT")
ELEVEN_DAYS = 11 * 86_400


@pytest.fixture
def web(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Web:
    ward = Ward(
        tmp_path, sqlite_sessions, CXR_KEEP_IMAGES_DAYS="10", CXR_KEEP_REPORTS_DAYS="10",
        CXR_DESTINATIONS=f"{PACS},{VIEWER}",
    )  # fmt: skip
    ward.explain = lambda images: np.ones((len(images), 4, 4), np.float32)
    web = Web(ward, tmp_path)
    for role in Role:
        web.add(role.value, role)
    return web


def answer(web: Web, prediction: Prediction, version: str = "1.0") -> None:
    web.ward.classifier.answer = prediction
    info = dataclasses.replace(web.ward.classifier.info, version=version, digest=version * 16)
    web.ward.classifier.info = info


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


def page_of(web: Web, study: str) -> str:
    with web.browser("viewer") as browser:
        answer = browser.get(f"/studies/{study}")
        assert answer.status_code == 200
        return answer.text


def images(page: str) -> list[str]:
    return [words(each) for each in re.findall(r'<h2 id="image.*?</h2>', page, re.DOTALL)]


def headline(page: str) -> str:
    (found,) = re.findall(r"<h1>(.*?)</h1>", page)
    return words(found)


def test_images_have_the_numbers_that_the_report_gives_them(web: Web) -> None:
    study = new_uid()
    for number, prediction in (("2", PRESENT), ("1", ABSENT)):
        web.ward.receive(chest(study, SeriesNumber="1", InstanceNumber=number))
        answer(web, prediction)
        web.ward.classify()
    web.ward.clock.forward(60)
    web.ward.report()
    page = page_of(web, study)
    assert images(page) == ["Image 1: no pneumonia", "Image 2: pneumonia"]
    assert "pneumonia present in image 2 (probability 97.0 %)" in words(page)


def test_an_image_that_is_in_no_report_has_no_number(web: Web) -> None:
    study = web.ward.receive_study()
    assert images(page_of(web, study)) == ["Image not in the report yet: pending"]


def test_where_two_models_take_turns_the_page_tells_what_the_report_will(web: Web) -> None:
    answer(web, PRESENT)
    study = web.ward.receive_study(2)
    web.ward.classify()
    with web.ward.sessions() as session, session.begin():
        first = session.query(Instance).order_by(Instance.id).first()
        assert first is not None
        ledger.owe(session, "CLASSIFY", first.id, first.study_id, web.ward.clock())
    answer(web, ABSENT, "2.0")
    web.ward.clock.forward(1)
    web.ward.classify()
    assert web.ward.story(study).model.version == "1.0"
    page = page_of(web, study)
    assert headline(page) == "Pneumonia (highest score 97.0 %)"
    (record,) = web.ward.records()
    assert record["model"]["version"] == "1.0"
    assert {each["finding"] for each in record["instances"]} == {"PRESENT"}


def removed(web: Web, study: str) -> None:
    """Have all be delivered, and the files go by their age."""
    web.ward.work(400)
    web.ward.clock.forward(ELEVEN_DAYS)
    for _ in range(2):
        retention.Keeper(web.ward.desk).turn()
    assert all(row.removed_at for row in web.ward.all(Instance)), study


def test_a_study_whose_positive_image_was_removed_is_not_called_negative(web: Web) -> None:
    answer(web, PRESENT)
    study = web.ward.receive_study()
    removed(web, study)
    answer(web, ABSENT, "2.0")
    web.ward.receive(chest(study))
    web.ward.work(400)
    assert headline(page_of(web, study)) == "Pneumonia (highest score 97.0 %)"
    with web.browser("viewer") as browser:
        assert study in browser.get("/?answer=PRESENT").text
        assert study not in browser.get("/?answer=ABSENT").text


def test_an_image_that_comes_again_to_be_assessed_is(web: Web) -> None:
    answer(web, ABSENT)
    ds = chest()
    study, data = ds.StudyInstanceUID, datasets.part10(ds)
    web.ward.receive(data)
    removed(web, study)
    answer(web, PRESENT, "2.0")
    web.ward.receive(chest(study))
    web.ward.work(400)
    assert "REMOVED" in web.ward.reasons()
    web.ward.receive(data)
    web.ward.work(400)
    assert web.ward.reasons() == [None, None]
    assert images(page_of(web, study)) == ["Image 1: pneumonia", "Image 2: pneumonia"]


def test_what_was_removed_is_said_and_nothing_is_drawn_in_its_place(web: Web) -> None:
    study = web.ward.receive_study()
    removed(web, study)
    page = page_of(web, study)
    assert "The image is kept here no longer" in page
    assert "kept here no longer; the destinations have it" in page
    for never in ('class="viewer"', 'class="heat"', "restore it"):
        assert never not in page


def test_a_study_that_was_given_up_is_not_pending_for_ever(web: Web) -> None:
    study = web.ward.receive_study()
    for job in web.ward.jobs():
        with web.ward.sessions() as session, session.begin():
            session.get_one(type(job), job.id).state = "DEAD"
    with web.ward.sessions() as session, session.begin():
        session.query(Study).one().state = "FAILED"
    web.ward.discard(study)
    page = page_of(web, study)
    assert headline(page) == "No answer"
    assert "pending" not in " ".join(images(page))


def test_a_study_that_is_being_erased_is_not_shown(web: Web) -> None:
    study = web.ward.receive_study()
    web.ward.work(400)
    root = web.ward.archive.root
    root.rename(root.with_name("away"))
    found = erasing.find(web.ward.desk, study=study)
    list(
        erasing.erase(
            web.ward.desk, found, "admin", "a wish", web.ward.write_down, even_if_owed=True
        )
    )
    with web.browser("viewer") as browser:
        assert browser.get(f"/studies/{study}").status_code == 404


def test_a_second_click_decides_nothing_anew(web: Web) -> None:
    study = web.ward.receive_study()
    web.ward.classify()
    web.ward.clock.forward(60)
    web.ward.report()
    web.ward.deliver(PACS)
    web.ward.send.answers = [ReportRefused("no", VIEWER, 0xC000)]
    web.ward.deliver(VIEWER)
    with web.browser("admin") as browser:
        form = {"reason": "try again", "seen": "0"}
        assert browser.post(f"/studies/{study}/requeue", **form).status_code == 303
        assert browser.post(f"/studies/{study}/requeue", **form).status_code == 409
    assert (PACS, "DELIVERED") in web.ward.deliveries()
