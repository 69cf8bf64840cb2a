"""Traces: what every role says of a study comes together, without anything being carried."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.correlation import fields
from dicom_node.errors import ConfigurationError, InvalidInstance, PeerError, ReportRefused
from tests.e2e.programs import clean_environment
from tests.fakes import NOON, answered
from tests.ward import PACS, Killed, Ward, chest
from worker import ledger, tracing
from worker.ledger import Origin
from worker.settings import Settings
from worker.spans import Trace, Tracer
from worker.states import JobKind
from worker.tables import Instance

STEPS = ("classify", "report", "deliver")
PLANTED = "PLANTED"


class Traced:
    """A ward whose spans are kept."""

    def __init__(self, ward: Ward) -> None:
        self.ward, self.kept = ward, InMemorySpanExporter()
        self.begin()

    def begin(self) -> None:
        """Begin as another process would."""
        tracing._This.tracer = Tracer(self.ward.settings, "worker-gpu", self.kept)

    def spans(self) -> list[ReadableSpan]:
        """End the process, and give all that it and those before it told."""
        tracing.stop()
        found = list(self.kept.get_finished_spans())
        self.kept._stopped = False
        self.begin()
        return found

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]


@pytest.fixture
def traced_twice(tmp_path: Path, sessions: sessionmaker[Session]) -> Iterator[Traced]:
    """On each kind of database: the time in an id must come back as it went in."""
    yield Traced(Ward(tmp_path, sessions))
    tracing.stop()


@pytest.fixture
def traced(tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Iterator[Traced]:
    yield Traced(Ward(tmp_path, sqlite_sessions))
    tracing.stop()


def work(ward: Ward) -> None:
    ward.clock.forward(1)
    ward.classify()
    ward.clock.forward(ward.settings.quiet_s + 3)
    ward.report()
    ward.clock.forward(4)
    ward.deliver()


def seconds(span: ReadableSpan) -> float:
    assert span.end_time is not None
    assert span.start_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_study_is_one_trace_below_its_first_instance(traced_twice: Traced) -> None:
    traced_twice.ward.clock.forward(0.123457)
    traced_twice.ward.receive_study()
    work(traced_twice.ward)
    spans = traced_twice.spans()
    assert len({span.context.trace_id for span in spans}) == 1
    (root,) = [span for span in spans if span.parent is None]
    assert root.name == "study"
    known = {span.context.span_id for span in spans}
    assert {span.parent.span_id for span in spans if span.parent} <= known
    names = {span.name for span in spans}
    assert names >= {"association", "receive", *STEPS, *(f"wait for {step}" for step in STEPS)}


def test_a_process_that_knows_nothing_of_another_comes_to_the_same_ids(traced: Traced) -> None:
    traced.ward.receive_study()
    (root,) = traced.named("study")
    work(traced.ward)
    (report,) = traced.named("report")
    assert report.parent is not None
    assert (report.context.trace_id, report.parent.span_id) == (
        root.context.trace_id, root.context.span_id,
    )  # fmt: skip


def test_ids_follow_from_row_and_time_and_from_both(traced: Traced) -> None:
    origin = Origin(7, NOON)
    assert Trace.of(origin) == Trace.of(Origin(7, NOON))
    later = traced.ward.clock.forward(0.000001)
    others = {Trace.of(Origin(8, NOON)), Trace.of(Origin(7, later))}
    assert len(others | {Trace.of(origin)}) == 3


def test_the_time_between_owed_and_claimed_is_a_span(traced: Traced) -> None:
    traced.ward.receive_study()
    work(traced.ward)
    waits = {span.name: seconds(span) for span in traced.spans() if span.name.startswith("wait")}
    # The report was due when the study had been quiet: one second after reception it was not yet.
    assert waits == {"wait for classify": 1, "wait for report": 4, "wait for deliver": 4}


def test_instances_of_one_batch_are_told_by_study(traced: Traced) -> None:
    ward = traced.ward
    ward.receive_study(2)
    ward.clock.forward(0.5)
    ward.receive(chest())
    ward.classify()
    spans = traced.named("classify")
    assert sorted(span.attributes["cxr.mine"] for span in spans) == [1, 2]
    assert {span.attributes["cxr.claims"] for span in spans} == {3}
    assert len({span.context.trace_id for span in spans}) == 2


def test_parts_of_a_batch_are_below_it(traced: Traced) -> None:
    traced.ward.receive_study()
    traced.ward.explain = lambda batch: batch
    work(traced.ward)
    spans = traced.spans()
    (classify,) = [span for span in spans if span.name == "classify"]
    parents = {span.name: span.parent.span_id for span in spans if span.parent}
    for part in ("prepare", "predict", "explain"):
        assert parents[part] == classify.context.span_id


def test_why_an_image_was_not_assessed_is_told_and_is_no_error(traced: Traced) -> None:
    traced.ward.receive_study(1, PatientAge="070Y")
    traced.ward.classify()
    (span,) = traced.named("classify")
    (reason,) = span.attributes["cxr.not_assessed"]
    assert reason == traced.ward.reasons()[0]
    assert span.status.is_unset


def test_a_model_that_fails_is_an_error_of_the_try(traced: Traced) -> None:
    traced.ward.receive_study()
    traced.ward.classifier.failures = [RuntimeError(PLANTED)]
    traced.ward.classify()
    (span,) = traced.named("classify")
    assert (span.status.is_ok, span.status.description) == (False, "MODEL_FAILURE")
    assert PLANTED not in span.to_json()


@pytest.mark.parametrize(
    ("error", "reason", "outcome"),
    [
        (PeerError(PLANTED, PACS), "PeerError", "TRIED_AGAIN"),
        (PeerError(PLANTED, PACS, 0xA700), "0xA700", "TRIED_AGAIN"),
        (ReportRefused(PLANTED, PACS, 0xC000), "0xC000", "GIVEN_UP"),
        (ValueError(PLANTED), "ValueError", "TRIED_AGAIN"),
    ],
)
def test_a_failed_delivery_is_an_error_with_its_reason_and_without_words(
    traced: Traced, error: Exception, reason: str, outcome: str
) -> None:
    traced.ward.send.answers = [error]
    traced.ward.receive_study()
    work(traced.ward)
    (span,) = traced.named("deliver")
    assert (span.status.is_ok, span.status.description) == (False, reason)
    assert span.attributes["cxr.outcome"] == outcome
    assert span.attributes["cxr.destination"] == PACS
    assert PLANTED not in span.to_json()


@pytest.mark.parametrize(
    ("status", "outcome", "is_ok"), [(0x0000, "COMMITTED", True), (0x0110, "PENDING", False)]
)
def test_the_answer_that_comes_to_the_node_ends_the_wait_for_it(
    traced: Traced, status: int, outcome: str, is_ok: bool
) -> None:
    ward = traced.ward
    ward.send.offers_commitment = True
    ward.ask.answers = [None]
    ward.receive_study()
    work(ward)
    ward.commit()
    ward.clock.forward(90)
    assert ward.answer(answered(*ward.ask.asked[0], status))
    spans = traced.spans()
    (asked,) = [span for span in spans if span.name == "commit"]
    assert asked.attributes["cxr.outcome"] == "ASKED"
    (waited,) = [span for span in spans if span.name == "wait for answer"]
    assert (seconds(waited), waited.attributes["cxr.outcome"]) == (90, outcome)
    assert waited.status.is_ok == is_ok
    assert waited.context.trace_id == asked.context.trace_id


def test_another_try_waits_since_it_was_due(traced: Traced) -> None:
    ward = traced.ward
    ward.send.answers = [PeerError("away", PACS)]
    ward.receive_study()
    work(ward)
    (job,) = ward.jobs()
    ward.clock.now = job.due_at
    ward.clock.forward(7)
    ward.deliver()
    waits = traced.named("wait for deliver")
    assert [seconds(span) for span in waits] == [4, 7]
    assert [span.attributes["cxr.attempt"] for span in waits] == [1, 1]
    assert [span.status.is_ok for span in traced.named("deliver")] == [False, True]


def test_who_takes_over_tells_of_the_death(traced: Traced) -> None:
    ward = traced.ward
    ward.receive_study()
    ward.classifier.during = _die
    with pytest.raises(Killed):
        ward.classify()
    ward.classifier.during = lambda: None
    ward.clock.forward(ward.settings.lease_s + 5)
    ward.classify()
    *_, span = traced.named("classify")
    assert (span.attributes["cxr.attempt"], span.attributes["cxr.deaths"]) == (2, 1)


def _die() -> None:
    raise Killed


def test_a_duplicate_is_received_and_begins_nothing(traced: Traced) -> None:
    ward = traced.ward
    image = chest("2.25.1")
    ward.receive(image)
    ward.clock.forward(9)
    ward.receive(image, association_id="b")
    spans = traced.spans()
    outcomes = [span.attributes["cxr.outcome"] for span in spans if span.name == "receive"]
    assert outcomes == ["STORED", "DUPLICATE"]
    assert len([span for span in spans if span.name == "study"]) == 1
    assert len({span.context.trace_id for span in spans}) == 1


def test_nothing_of_a_patient_and_no_uid_is_in_any_span(traced: Traced) -> None:
    planted = {"PatientName": "Plantedname", "PatientID": "4711-ID", "AccessionNumber": "ACC-0815"}
    study = traced.ward.receive_study(1, **planted)
    work(traced.ward)
    text = "".join(span.to_json() for span in traced.spans())
    uids = [row.sop_instance_uid for row in traced.ward.all(Instance)]
    for secret in (*planted.values(), study, *uids):
        assert secret not in text


@pytest.mark.parametrize("sample", ["0", "1"])
def test_all_or_nothing_is_traced_when_that_is_wanted(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], sample: str
) -> None:
    traced = Traced(Ward(tmp_path, sqlite_sessions, CXR_TRACES_SAMPLE=sample))
    traced.ward.receive_study()
    work(traced.ward)
    assert bool(traced.spans()) == (sample == "1")
    tracing.stop()


def test_every_role_chooses_the_same_studies(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session]
) -> None:
    traced = Traced(Ward(tmp_path, sqlite_sessions, CXR_TRACES_SAMPLE="0.5"))
    for _ in range(24):
        traced.ward.receive_study()
        traced.ward.clock.forward(0.001)
    received = {span.context.trace_id for span in traced.named("receive")}
    assert 0 < len(received) < 24
    traced.ward.classify_all()
    work(traced.ward)
    for name in ("classify", "report"):
        assert {span.context.trace_id for span in traced.named(name)} == received
    tracing.stop()


def test_lines_of_the_log_name_the_trace(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    traced.ward.receive_study()
    seen: list[str] = []
    prepare = traced.ward.classifier.prepare

    def note(*_: object) -> None:
        seen.append(fields().get("trace_id", ""))

    monkeypatch.setattr(traced.ward.classifier, "prepare", lambda i: (note(), prepare(i))[1])
    traced.ward.send.during = note
    work(traced.ward)
    (root,) = traced.named("study")
    assert seen == [f"{root.context.trace_id:032x}"] * 2
    assert "trace_id" not in fields()


def test_errors_are_named_by_their_reason_their_status_or_their_type() -> None:
    assert tracing.reason_of(InvalidInstance("UNDECODABLE", PLANTED)) == "UNDECODABLE"
    assert tracing.reason_of(UnicodeDecodeError("utf-8", b"x", 0, 1, PLANTED)) == (
        "UnicodeDecodeError"
    )


def test_what_is_owed_is_done_though_the_traces_of_it_cannot_be_looked_up(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[Origin]:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(ledger, "origins", away)
    traced.ward.receive_study()
    work(traced.ward)
    assert traced.ward.states() == ["DELIVERED"]
    assert traced.named("deliver") == []


# --- off -------------------------------------------------------------------------------------


def test_while_it_is_off_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; from worker import tasks, node, classifying, reporting, delivering, "
        "committing, tracing, counting; from worker.settings import Settings; "
        "tracing.require(Settings.from_env({})); tracing.start(Settings.from_env({}), 'node'); "
        "tracing.stop(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("opentelemetry")]


def test_while_it_is_off_nothing_is_looked_up(
    tmp_path: Path, sqlite_sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ledger, "origins", never)
    monkeypatch.setattr(ledger, "origin_of", never)
    ward = Ward(tmp_path, sqlite_sessions)
    ward.receive_study()
    work(ward)
    assert ward.states() == ["DELIVERED"]


def test_without_its_extra_the_start_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from worker import tracing; "
        "from worker.settings import Settings; "
        "tracing.require(Settings.from_env({'CXR_OTLP_ENDPOINT': 'http://127.0.0.1:4318'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "CXR_OTLP_ENDPOINT" in last
    assert "cxr-worker[tracing]" in last


@pytest.mark.parametrize("role", ["up", "node", "worker"])
def test_a_role_does_not_start_with_traces_that_it_cannot_send(tmp_path: Path, role: str) -> None:
    environ = clean_environment(
        CXR_HOME=str(tmp_path / "home"), CXR_OTLP_ENDPOINT="http://127.0.0.1:4318",
        CXR_OTLP_HEADERS_FILE=str(tmp_path / "none"),
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "worker", role], capture_output=True, text=True, check=False,
        env=environ, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cxr-worker: CXR_OTLP_HEADERS_FILE: " in done.stderr
    assert "Traceback" not in done.stderr


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://otlp.example.org/otlp/v1/traces", "https://otlp.example.org/otlp/v1/traces"),
    ],
)
def test_an_address_without_a_path_is_that_of_otlp(endpoint: str, url: str) -> None:
    assert Settings.from_env({"CXR_OTLP_ENDPOINT": endpoint}).otlp_traces_url == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "http://me:hunter2@host:4318",
        "http://host:4318?key=hunter2", "http://host:port", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^CXR_OTLP_ENDPOINT: must be") as caught:
        Settings.from_env({"CXR_OTLP_ENDPOINT": endpoint})
    assert "hunter2" not in str(caught.value)


def test_headers_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer hunter2\n\nX-Scope-OrgID:  ward \n")
    settings = Settings.from_env({"CXR_OTLP_HEADERS_FILE": str(path)})
    assert settings.otlp_headers() == {"Authorization": "Bearer hunter2", "X-Scope-OrgID": "ward"}


def test_what_is_no_header_is_named_by_its_line_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("X-Scope-OrgID: ward\nhunter2\n")
    settings = Settings.from_env({"CXR_OTLP_HEADERS_FILE": str(path)})
    with pytest.raises(ConfigurationError, match=r"^CXR_OTLP_HEADERS_FILE: line 2 of") as caught:
        settings.otlp_headers()
    assert "hunter2" not in str(caught.value)


def test_a_file_of_headers_that_is_not_there_is_named(tmp_path: Path) -> None:
    environ = {
        "CXR_OTLP_HEADERS_FILE": str(tmp_path / "none"), "CXR_OTLP_ENDPOINT": "http://h:4318",
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"^CXR_OTLP_HEADERS_FILE: .*none cannot be read"):
        tracing.require(Settings.from_env(environ))


def test_every_kind_of_work_has_a_name_for_its_spans() -> None:
    steps = ["classify", "report", "deliver", "commit", "notify"]
    assert [kind.lower() for kind in JobKind] == steps
