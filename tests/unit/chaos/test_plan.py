"""The plan of a chaos run follows from its seed alone."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.chaos.faults import MENU, NOTICES_MENU, RECEIVERS
from tests.chaos.images import digest_of, write_images
from tests.chaos.killer import FAULTS
from tests.chaos.plan import plan
from tests.chaos.privacy import words_in
from tests.integration.house import BIRTH_DATE, NAME


def test_the_same_seed_makes_the_same_plan_and_another_seed_another() -> None:
    assert plan(1, 10, 60) == plan(1, 10, 60)
    assert plan(1, 10, 60) != plan(2, 10, 60)


def test_the_same_seed_makes_the_same_images(tmp_path: Path) -> None:
    images = plan(1, 3, 60).images
    first, second = (write_images(images, tmp_path / name) for name in ("a", "b"))
    assert [digest_of(first[uid]) for uid in first] == [digest_of(second[uid]) for uid in first]


def test_every_instance_of_a_plan_is_sent_by_somebody() -> None:
    made = plan(3, 40, 60)
    sent = {uid for errand in made.errands for uid in errand.sop_instance_uids}
    assert sent == {image.sop_instance_uid for image in made.images}


def test_a_planted_name_is_found_also_in_the_body_of_a_message() -> None:
    body = base64.b64encode(f'[["{NAME}"], {{}}]'.encode())
    assert words_in(b'{"body": "' + body + b'"}')
    assert words_in(f"born {BIRTH_DATE}".encode()) == [BIRTH_DATE]
    assert words_in(f"2.25.1{BIRTH_DATE}7 is delivered".encode()) == []


def test_every_fault_of_the_menu_can_happen_and_each_receiver_of_notices_meets_some() -> None:
    assert {dish.kind for dish in (*MENU, *NOTICES_MENU)} | {"reserve"} == set(FAULTS)
    met = {(fault.victim, fault.kind) for seed in range(20) for fault in plan(seed, 1, 600).faults}
    for kind in ("kill", "stop", "busy", "hang", "abort", "slow"):
        assert {victim for victim, each in met if each == kind} >= set(RECEIVERS)


def test_the_model_that_finds_less_is_chosen_last_so_that_there_are_alarms_to_correct() -> None:
    chosen = [fault.kind for fault in plan(5, 1, 300).faults if fault.victim == "model"]
    assert chosen[-1] == "reserve"
    assert set(chosen[:-1]) == {"switch"}
