"""A node whose archive's disk is not mounted, as a real process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.programs import START_S, wait_until
from tests.integration.house import House
from worker import database

pytestmark = pytest.mark.timeout(900)


def test_a_node_waits_for_its_archive_and_ends_well_meanwhile(tmp_path: Path) -> None:
    house = House(tmp_path / "home", tmp_path / "logs")
    database.upgrade(house.sqlite_url)
    archive = house.home / "archive"
    try:
        house.start("node")
        wait_until(house.is_receiving, START_S, "the first start")
        study = house.send_study()
        assert house.stop("node") == 0
        disk = archive.rename(house.home / "disk")
        archive.mkdir()

        house.start("node")
        wait_until(lambda: "waiting for the archive" in house.text(), START_S, "its warning")
        assert not house.is_receiving()
        assert house.stop("node", number=signal.SIGTERM) == 0
        assert "perhaps its disk is not mounted" in house.command("doctor").stdout

        house.start("node")
        archive.rmdir()  # fails if anything was written there
        disk.rename(archive)
        wait_until(house.is_receiving, START_S, "the start with the disk")
        another = house.send_study()
        assert house.stop("node") == 0
    finally:
        house.kill_all()
    assert {study, another} <= set(house.records())
    assert len(list(archive.glob("*/*.dcm"))) == 2
