"""`cxr-worker up` with one port for all roles: what is counted, who is well, and whose lines."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.programs import START_S, free_port, wait_until
from tests.integration.house import PLANTED, WORKED_S, House, Pacs, Redis, study_of

pytestmark = pytest.mark.timeout(900)

ROLES = ("node", "relay", "web", "worker-gpu", "worker-io")


@dataclass
class Town:
    house: House
    pacs: Pacs
    redis: Redis
    port: int
    studies: list[str] = field(default_factory=list)

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def states(self, path: str) -> dict[str, str]:
        """Give what a page says of each thing; nothing while nobody answers."""
        try:
            _, body = self.ask(path)
        except OSError:
            return {}
        return {each["check"]: each["state"] for each in json.loads(body)["checks"]}

    def value(self, name: str, **labels: str) -> float:
        """Scrape, and sum what has these labels."""
        status, text = self.ask("/metrics")
        assert status == 200
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        )


@pytest.fixture(scope="module")
def town(model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house with a PACS and a broker of its own; the tests tell its story in their order."""
    folder = tmp_path_factory.mktemp("watched")
    pacs, redis, port = Pacs(), Redis(), free_port()
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        stack.callback(redis.kill)
        redis.start()
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer),
            CXR_BROKER_URL=f"redis://127.0.0.1:{redis.port}/0", CXR_METRICS_PORT=str(port),
            CXR_WEB_PORT=str(free_port()), CXR_LOG_FORMAT="json", CXR_DELIVERY_RETRY_S="1",
            **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        yield Town(house, pacs, redis, port)


def test_all_roles_are_alive_and_ready(town: Town) -> None:
    wait_until(lambda: town.ask("/readyz")[0] == 200, START_S, "readiness")
    assert town.ask("/healthz")[0] == 200
    assert set(town.states("/healthz")) == set(ROLES)
    assert set(town.states("/readyz").values()) == {"ok"}
    assert {role: town.value("cxr_role_up", role=role) for role in ROLES} == dict.fromkeys(ROLES, 1)
    assert town.value("cxr_model_info", role="worker-gpu", process="0") == 1


def test_a_study_moves_the_counts_of_every_role(town: Town) -> None:
    study = town.house.send_study(2)
    town.studies.append(study)
    town.house.wait_for_state("DELIVERED", study)
    assert town.value("cxr_instances_received_total", role="node") == 2
    assert town.value("cxr_store_responses_total", status="0x0000") == 2
    assert town.value("cxr_associations_accepted_total") == 1
    assessed = town.value("cxr_findings_total", role="worker-gpu")
    assert assessed + town.value("cxr_not_assessed_total", role="worker-gpu") == 2
    assert town.value("cxr_pneumonia_score_count") == assessed
    wait_until(
        lambda: town.value("cxr_deliveries_total", outcome="delivered") == 1, WORKED_S, "the count"
    )
    for stage, role in (("store", "node"), ("prepare", "worker-gpu"), ("report", "worker-io")):
        assert town.value("cxr_stage_seconds_count", stage=stage, role=role) >= 1
    wait_until(lambda: town.value("cxr_queue_depth") == 0, WORKED_S, "the end of the queue")
    assert town.value("cxr_archive_free_bytes") > 0
    assert town.value("cxr_ledger_up") == 1


def test_what_is_refused_is_counted_by_its_status(town: Town) -> None:
    (image,) = study_of(1)
    image.StudyInstanceUID = "no UID"
    assert town.house.store([image]) != [0]
    assert town.value("cxr_store_responses_total", status="0xC000") == 1


def test_a_dead_letter_is_told_until_it_is_delivered(town: Town) -> None:
    town.pacs.status = 0xC000
    study = town.house.send_study()
    town.house.wait_for_state("FAILED", study)
    wait_until(
        lambda: town.value("cxr_dead_letters", kind="DELIVER") == 1, WORKED_S, "the dead letter"
    )
    assert town.value("cxr_deliveries_total", outcome="given_up") == 1
    town.pacs.status = 0x0000
    assert town.house.command("requeue", study).returncode == 0
    town.house.wait_for_state("DELIVERED", study)


def test_without_its_broker_it_is_degraded_and_ready(town: Town) -> None:
    town.redis.kill()
    wait_until(lambda: town.states("/readyz")["broker"] == "degraded", WORKED_S, "the broker's end")
    status, body = town.ask("/readyz")
    assert (status, json.loads(body)["state"]) == (200, "degraded")
    assert town.ask("/healthz")[0] == 200
    town.redis.start()
    wait_until(lambda: town.states("/readyz")["broker"] == "ok", WORKED_S, "the broker's return")


@pytest.mark.parametrize("victim", ["node", "relay"])
def test_a_role_that_is_killed_is_away_until_it_is_back(town: Town, victim: str) -> None:
    town.house.role(victim).kill()
    wait_until(lambda: town.states("/healthz").get(victim) == "ok", START_S, f"{victim}'s return")
    assert town.ask("/healthz")[0] == 200


def test_a_child_that_is_killed_is_followed_by_one_with_its_number(town: Town) -> None:
    for child in town.house.role("worker", "gpu").children():
        child.kill()
    wait_until(
        lambda: town.value("cxr_model_info", role="worker-gpu", process="0") == 1
        and town.states("/readyz").get("model") == "ok",
        START_S, "the new child",
    )  # fmt: skip
    town.studies.append(town.house.send_study())
    town.house.wait_for_state("DELIVERED", *town.studies)


def records(town: Town) -> list[dict[str, Any]]:
    """Read the lines of all roles, without what TensorFlow's own code in C++ writes beside them."""
    return [json.loads(line) for line in town.house.text().splitlines() if line.startswith("{")]


def test_a_study_is_followed_from_its_association_to_its_delivery(town: Town) -> None:
    (study, *_) = town.studies
    about = [line for line in records(town) if line.get("study_instance_uid") == study]
    assert {line["role"] for line in about} >= {"node", "worker-io"}
    assert {line["logger"] for line in about} >= {"worker.reporting", "worker.delivering"}
    (association,) = {line["association_id"] for line in about if line["role"] == "node"}
    its = [line for line in records(town) if line.get("association_id") == association]
    assert any("accepted" in line["message"] for line in its)


def test_without_room_the_node_is_not_ready(town: Town) -> None:
    assert town.house.stop("up") == 0
    town.house.env["CXR_ARCHIVE_RESERVE_MB"] = "99999999"
    town.house.start_up()
    status, body = town.ask("/readyz")
    assert status == 503
    assert town.states("/readyz")["room"] == "failing"
    assert "CXR_ARCHIVE_RESERVE_MB" in body
    assert town.ask("/healthz")[0] == 200


def test_nothing_is_left_when_it_is_over(town: Town) -> None:
    assert town.house.stop("up") == 0
    assert town.house.left_over() == []


def test_nothing_that_was_told_names_the_patient(town: Town) -> None:
    text = town.house.text().lower()
    assert [word for word in PLANTED if word in text] == []
