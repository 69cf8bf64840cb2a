"""`cxr-worker up` with a collector: what a study leaves in it, of every role."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.collectors import Collector, Seen
from tests.e2e.programs import wait_until
from tests.integration.house import PLANTED, WORKED_S, House, Pacs

pytestmark = pytest.mark.timeout(900)

WAITS = {"wait for classify", "wait for report", "wait for deliver"}
STEPS = {"study", "association", "receive", "classify", "prepare", "predict", "report", "deliver"}


@dataclass
class Town:
    house: House
    pacs: Pacs
    collector: Collector

    def trace_of(self, study: str) -> str:
        """Find the trace of a study as a person does: by the lines of the log."""
        for line in self.house.text().splitlines():
            if study in line and '"trace_id"' in line:
                return str(json.loads(line)["trace_id"])
        return ""

    def whole_trace(self, study: str) -> list[Seen]:
        """Give the spans of a study that was delivered, once all have come."""
        trace_id = self.trace_of(study)
        assert trace_id

        def is_whole() -> bool:
            names = {span.name for span in self.collector.of_trace(trace_id)}
            return names >= STEPS | WAITS

        wait_until(is_whole, WORKED_S, "the spans of all steps")
        return self.collector.of_trace(trace_id)


@pytest.fixture(scope="module")
def town(model_setting: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A house with a PACS and a collector; the tests tell its story in their order."""
    folder = tmp_path_factory.mktemp("traced")
    pacs, collector = Pacs(), Collector()
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        stack.enter_context(collector.listening())
        house = House(
            folder / "home", folder / "logs", CXR_DESTINATIONS=str(peer), CXR_WEB_PORT="off",
            CXR_OTLP_ENDPOINT=collector.url, CXR_LOG_FORMAT="json", CXR_DELIVERY_RETRY_S="1",
            OTEL_BSP_SCHEDULE_DELAY="200", **model_setting,
        )  # fmt: skip
        stack.callback(house.kill_all)
        house.start_up()
        yield Town(house, pacs, collector)


def test_a_study_is_one_trace_of_all_roles(town: Town) -> None:
    study = town.house.send_study(2)
    town.house.wait_for_state("DELIVERED", study)
    spans = town.whole_trace(study)
    by_name = {span.name: span for span in spans}
    assert len(town.collector.named("receive", spans[0].trace_id)) == 2
    assert {span.service for span in spans} == {"cxr-node", "cxr-worker-gpu", "cxr-worker-io"}
    assert by_name["classify"].service == "cxr-worker-gpu"  # by a child that was forked off
    assert by_name["deliver"].attributes["cxr.outcome"] == "DELIVERED"
    assert [span for span in spans if span.is_error] == []


def test_every_span_but_the_first_has_its_parent_in_the_trace(town: Town) -> None:
    study = town.house.send_study()
    town.house.wait_for_state("DELIVERED", study)
    spans = town.whole_trace(study)
    known = {span.span_id: span for span in spans}
    assert len(known) == len(spans)
    assert [span.name for span in spans if not span.parent_id] == ["study"]
    parents = {span.name: known[span.parent_id].name for span in spans if span.parent_id}
    assert parents["receive"] == "association"
    assert parents["prepare"] == parents["predict"] == "classify"
    assert {parents[name] for name in (*WAITS, "association", "classify", "report", "deliver")} == {
        "study"
    }
    assert all(span.start_ns <= span.end_ns for span in spans)


def test_two_studies_are_two_traces(town: Town) -> None:
    studies = [town.house.send_study(), town.house.send_study()]
    town.house.wait_for_state("DELIVERED", *studies)
    assert len({town.trace_of(study) for study in studies}) == 2


def test_a_refused_report_is_an_error_with_its_status(town: Town) -> None:
    town.pacs.status = 0xC000
    study = town.house.send_study()
    town.house.wait_for_state("FAILED", study)
    trace_id = town.trace_of(study)
    wait_until(lambda: bool(town.collector.named("deliver", trace_id)), WORKED_S, "the span")
    (span,) = town.collector.named("deliver", trace_id)
    assert (span.is_error, span.words) == (True, "0xC000")
    assert span.attributes["cxr.outcome"] == "GIVEN_UP"
    town.pacs.status = 0x0000


def test_a_child_that_follows_one_that_was_killed_goes_on_in_the_trace(town: Town) -> None:
    for child in town.house.role("worker", "gpu").children():
        child.kill()
    study = town.house.send_study()
    town.house.wait_for_state("DELIVERED", study)
    (span,) = [span for span in town.whole_trace(study) if span.name == "classify"]
    before = {each.instance for each in town.collector.named("classify")} - {span.instance}
    assert before  # another process


def test_nothing_of_a_patient_and_no_uid_reaches_the_collector(town: Town) -> None:
    sent = b"".join(town.collector.bodies)
    assert b"receive" in sent  # it would be seen
    for word in PLANTED:
        assert word.encode() not in sent.lower()
    for study in town.house.records():
        assert study.encode() not in sent


def test_with_its_collector_hanging_the_work_goes_on_and_the_end_comes(town: Town) -> None:
    town.collector.hangs = threading.Event()
    study = town.house.send_study()
    town.house.wait_for_state("DELIVERED", study)
    assert town.house.stop("up", number=signal.SIGTERM) == 0
    assert town.house.left_over() == []


def test_what_was_done_last_is_sent_at_the_end(town: Town) -> None:
    assert town.collector.hangs is not None
    town.collector.hangs.set()
    town.collector.hangs = None
    town.house.env["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
    town.house.start_up()
    study = town.house.send_study()
    town.house.wait_for_state("DELIVERED", study)
    trace_id = town.trace_of(study)
    assert town.collector.of_trace(trace_id) == []
    assert town.house.stop("up", number=signal.SIGTERM) == 0
    assert {span.name for span in town.collector.of_trace(trace_id)} >= STEPS | WAITS
