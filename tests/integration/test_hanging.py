"""Destinations that take a connection and never say a word hold up no other."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.house import House, Pacs

pytestmark = pytest.mark.timeout(900)

HANGING = 6


def test_a_report_arrives_while_many_destinations_hang(
    model_setting: dict[str, str], tmp_path: Path
) -> None:
    pacs = Pacs()
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.socket()) for _ in range(HANGING)]
        for each in silent:
            each.bind(("127.0.0.1", 0))
            each.listen()
        names = [f"HUNG@127.0.0.1:{each.getsockname()[1]}" for each in silent]
        peer = stack.enter_context(pacs.listening())
        house = House(
            tmp_path / "home", tmp_path / "logs", CXR_DESTINATIONS=",".join([*names, str(peer)]),
            CXR_DELIVERY_TIMEOUT_S="3600", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        first = house.send_study()
        pacs.wait_for(first)
        # By now each of the others holds a thread.
        second = house.send_study()
        pacs.wait_for(second)
        states = {
            delivery["destination"]: delivery["state"]
            for delivery in house.records()[second]["reports"][0]["deliveries"]
        }
    assert {states[name] for name in names} == {"PENDING"}
