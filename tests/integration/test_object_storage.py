"""A house whose archive is a bucket: from C-STORE to the delivered report, and what fails between.

The store is moto's, which speaks S3 over HTTP; the processes are real.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.archive import MARK
from dicom_node.errors import PeerError
from tests import datasets
from tests.buckets import BUCKET, CREDENTIALS, S3, s3
from tests.e2e.programs import START_S, wait_until
from tests.integration.house import PLANTED, House, Pacs, new_run_uid, study_of

pytestmark = pytest.mark.timeout(900)

PREFIX = "ward/archive"


@dataclass
class Town:
    house: House
    pacs: Pacs
    store: S3

    def objects(self, study: str = "") -> list[str]:
        """Give the keys in the archive, of a study or of all."""
        return [key for key in self.store.listed() if key.startswith(f"{PREFIX}/{study}")]


@pytest.fixture(scope="module")
def town(model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house with a PACS and a bucket; the tests of this module tell its story in their order."""
    folder = tmp_path_factory.mktemp("town")
    pacs = Pacs()
    with ExitStack() as stack:
        store = stack.enter_context(s3())
        store.make_bucket(BUCKET)
        peer = stack.enter_context(pacs.listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer),
            CXR_DELIVERY_RETRY_S="1", CXR_ARCHIVE=f"s3://{BUCKET}/{PREFIX}",
            CXR_S3_ENDPOINT=store.endpoint, **CREDENTIALS, **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        yield Town(house, pacs, store)


def large_image() -> Dataset:
    """Make an image that is not received in memory."""
    pixels = np.random.default_rng(1).integers(0, 4096, (1500, 1200)).astype(np.uint16)
    study = new_run_uid()
    return datasets.image(
        pixels, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1",
        SOPInstanceUID=f"{study}.1.1", PatientBirthDate="20230417",
    )  # fmt: skip


def test_a_study_goes_from_the_modality_to_the_pacs_by_way_of_the_bucket(town: Town) -> None:
    study = town.house.send_study(2)
    town.pacs.wait_for(study)
    town.house.wait_for_state("DELIVERED", study)
    assert f"{PREFIX}/{MARK}" in town.objects()
    assert len(town.objects(study)) == 3  # two images and the report
    assert not (town.house.home / "archive").exists()


def test_a_large_instance_waits_on_a_disk_and_leaves_nothing_there(town: Town) -> None:
    image = large_image()
    study = str(image.StudyInstanceUID)
    assert town.house.store([image]) == [0]
    (key,) = town.objects(study)[:1]
    found = town.store.client().get_object(Bucket=BUCKET, Key=key)
    assert image.PixelData in found["Body"].read()
    town.pacs.wait_for(study)
    assert list((town.house.home / "spool").iterdir()) == []


def test_what_is_sent_twice_is_one_object_and_one_row(town: Town) -> None:
    images = study_of(1)
    study = str(images[0].StudyInstanceUID)
    assert town.house.store(images) == [0]
    assert town.house.store(images) == [0]
    town.pacs.wait_for(study)
    records = town.house.wait_for_state("DELIVERED", study)
    assert len(records[study]["instances"]) == 1
    assert len([key for key in town.objects(study) if ".1.1." in key]) == 1


def test_the_doctor_looks_into_the_bucket(town: Town) -> None:
    done = town.house.command("doctor")
    assert f"s3://{BUCKET}/{PREFIX}, " in done.stdout, done.stdout + done.stderr
    assert not [key for key in town.objects() if "doctor" in key]


def test_while_the_store_is_away_instances_are_refused_and_later_taken(town: Town) -> None:
    images = [study_of(1)[0], large_image()]
    town.store.stop()
    try:
        assert town.house.store(images) == [0xA700, 0xA700]
    finally:
        town.store.start()
    studies = [str(each.StudyInstanceUID) for each in images]
    assert not set(studies) & set(town.house.records())
    assert town.house.store(images) == [0, 0]
    town.pacs.wait_for(*studies)
    town.house.wait_for_state("DELIVERED", *studies)


def test_a_node_that_dies_between_the_object_and_its_row_is_sent_the_instance_again(
    town: Town,
) -> None:
    images = study_of(1)
    study = str(images[0].StudyInstanceUID)

    def send() -> None:
        with suppress(PeerError):
            town.house.store(images)

    with closing(sqlite3.connect(town.house.home / "cxr-worker.sqlite3", timeout=60)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")  # nobody else can commit
        sender = threading.Thread(target=send)
        sender.start()
        wait_until(lambda: bool(town.objects(study)), START_S, "the object")
        town.house.kill("node")
        other.execute("ROLLBACK")
    sender.join()
    assert study not in town.house.records()
    wait_until(town.house.is_receiving, START_S, "the node's return")
    assert town.house.store(images) == [0]
    town.pacs.wait_for(study)
    records = town.house.wait_for_state("DELIVERED", study)
    assert len(records[study]["instances"]) == 1
    assert len(town.objects(study)) == 2  # the image and the report


def test_what_is_erased_is_gone_from_the_bucket(town: Town) -> None:
    study = town.house.send_study()
    town.pacs.wait_for(study)
    town.house.wait_for_state("DELIVERED", study)
    done = town.house.command("erase", "--study", study, "--reason", "asked for", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert town.objects(study) == []


def test_nothing_that_was_logged_names_the_patient_or_holds_a_secret(town: Town) -> None:
    text = town.house.text().lower()
    assert not [word for word in PLANTED if word in text]
    assert "aws4_request" not in text
    assert "authorization" not in text
