"""What the documents say is what the code does: schema, queries, conformance, links, settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom.uid import UID
from pynetdicom import AE
from sqlalchemy import (
    JSON,
    Boolean,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator
from typer.main import get_command

from dicom_node import codes, entity
from dicom_node.archive import Archive
from dicom_node.storage_scp import NodeConfig, Outcome, Services, start_node
from worker import conformance, metrics, states
from worker.__main__ import app
from worker.access.roles import Role
from worker.destinations import Destination
from worker.settings import Settings, describe_settings
from worker.settings_file import OTHER_KEYS
from worker.tables import (
    Base,
    Delivery,
    FindingRow,
    Instance,
    Model,
    Report,
    Study,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text()
DATABASE = (ROOT / "docs" / "database.md").read_text()
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text()
MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
TRACES = MONITORING.split("## Traces\n", 1)[1]
DICOMWEB = (ROOT / "docs" / "dicomweb.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()


def section(document: str, heading: str) -> str:
    """Give what stands under a heading, up to the next of the same level or above."""
    level = heading.count("#")
    below = document.split(f"{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


TELLING_SPANS = (
    "spans", "answers", "reporting", "delivering", "committing", "tracing", "classifying",
    "notifying",
)  # fmt: skip


def rows(markdown: str) -> list[list[str]]:
    """Give the cells of all tables, without their headers."""
    tables = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)+)", markdown, flags=re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for table in tables
        for line in table.splitlines()
    ]


# --- docs/database.md ------------------------------------------------------------------------

TYPES: tuple[tuple[type[Any], str], ...] = (
    (Boolean, "boolean"), (Integer, "integer"), (Float, "number"), (JSON, "json"),
    (String, "text"), (Text, "text"), (DateTime, "time"), (LargeBinary, "bytes"),
)  # fmt: skip


def described_type(column: Any) -> str:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    word = next(word for cls, word in TYPES if isinstance(kind, cls))
    return f"{word} or null" if column.nullable else word


@pytest.mark.parametrize("table", Base.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_column_is_described_with_its_type(table: Any) -> None:
    described = rows(section(DATABASE, f"### `{table.name}`"))
    expected = [(f"`{column.name}`", described_type(column)) for column in table.columns]
    assert [(name, kind) for name, kind, _ in described] == expected
    assert all(meaning for _, _, meaning in described)


def test_no_table_is_described_that_does_not_exist() -> None:
    described = set(re.findall(r"^### `(\w+)`", DATABASE, flags=re.MULTILINE))
    assert described == set(Base.metadata.tables)


def test_every_study_state_is_described() -> None:
    described = [name.strip("`") for name, _ in rows(section(DATABASE, "## States"))]
    assert described == list(states.StudyState)


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("deliveries", "state", states.DeliveryState),
        ("notices", "state", states.NoticeState),
        ("jobs", "state", states.JobState),
        ("jobs", "kind", states.JobKind),
        ("companions", "kind", states.CompanionKind),
        ("findings", "finding", states.Finding),
        ("findings", "flags", codes.FLAG_SENTENCES),
        ("shadow_findings", "finding", states.Finding),
        ("shadow_findings", "live_finding", states.Finding),
        ("model_events", "action", states.ModelAction),
        ("verdicts", "finding", states.Finding),
        ("verdicts", "verdict", states.Verdict),
        ("verdicts", "label", states.Label),
        ("removals", "kind", states.RemovalKind),
        ("removals", "cause", states.RemovalCause),
    ],
)
def test_every_word_of_a_column_is_described(table: str, column: str, words: Any) -> None:
    described = {name: meaning for name, _, meaning in rows(section(DATABASE, f"### `{table}`"))}
    assert re.findall(r"`([A-Z_]+)`", described[f"`{column}`"]) == list(words)


def test_every_reason_is_described_in_the_words_of_the_report() -> None:
    described = {name.strip("`"): words for name, words in rows(section(DATABASE, "## Reasons"))}
    assert described == {name: words for name, (words, _) in codes.NOT_ASSESSED_REASONS.items()}


# --- the worked queries ----------------------------------------------------------------------


def queries(markdown: str) -> list[str]:
    return re.findall(r"^```sql\n(.*?)^```", markdown, flags=re.DOTALL | re.MULTILINE)


WORKED = queries(section(DATABASE, "## Worked queries"))
POSITIVES, NOT_ASSESSED, OVERDUE, DISTRIBUTION, MEDIAN, AGREEMENT = WORKED

PACS, VIEWER = "PACS@192.0.2.1:104", "VIEWER@192.0.2.2:104"


def test_readme_has_five_queries_that_docs_have_too() -> None:
    shown = queries(section(README, "## Query it with SQL"))
    assert shown == WORKED[:5]


class Rows:
    """Adds rows to the results database, with what a test does not care for filled in."""

    def __init__(self, session: Session, now: datetime) -> None:
        self.session = session
        self.now = now
        self.count = 0

    def add(self, row: Any) -> Any:
        self.session.add(row)
        self.session.flush()
        return row

    def uid(self) -> str:
        self.count += 1
        return f"1.2.3.{self.count}"

    def model(self, version: str, age: timedelta = timedelta()) -> Model:
        return self.add(
            Model(
                name="net", version=version, digest=version * 16, details={},
                first_used_at=self.now - age,
            )
        )  # fmt: skip

    def study(self, state: str = "DELIVERED", received_at: datetime | None = None) -> Study:
        uid, received_at = self.uid(), received_at or self.now
        return self.add(
            Study(
                study_instance_uid=uid, patient_id=f"P{uid}", accession_number=f"A{uid}",
                study_date="", state=state, calling_ae_title="MODALITY",
                received_at=received_at, last_received_at=received_at,
            )
        )  # fmt: skip

    def instance(self, study: Study) -> Instance:
        return self.add(
            Instance(
                study_id=study.id, sop_instance_uid=self.uid(), sop_class_uid="1.2",
                series_instance_uid="1.2", transfer_syntax_uid="1.2", modality="DX",
                calling_ae_title="MODALITY", path="p", size_bytes=1, sha256="0",
                received_at=study.received_at,
            )
        )  # fmt: skip

    def finding(
        self,
        instance: Instance,
        model: Model,
        finding: str | None,
        pneumonia: float | None,
        *,
        reason: str | None = None,
        created_at: datetime | None = None,
    ) -> FindingRow:
        return self.add(
            FindingRow(
                instance_id=instance.id, model_id=model.id, assessed=reason is None, reason=reason,
                finding=finding, pneumonia=pneumonia, flags=[],
                created_at=created_at or self.now,
            )
        )  # fmt: skip

    def report(self, study: Study, model: Model, revision: int = 1) -> Report:
        return self.add(
            Report(
                study_id=study.id, model_id=model.id, revision=revision,
                sop_instance_uid=self.uid(), sop_class_uid="1.2", path="p", sha256="0",
                created_at=study.received_at,
            )
        )  # fmt: skip

    def delivery(
        self, report: Report, destination: str, delivered_at: datetime | None, **changes: Any
    ) -> Delivery:
        state = "PENDING" if delivered_at is None else "DELIVERED"
        values = {"state": state, "attempts": 1, "delivered_at": delivered_at} | changes
        return self.add(Delivery(report_id=report.id, destination=destination, **values))


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def filled(engine: Engine, now: datetime) -> Any:
    """Give a function that fills a database of each kind, and one that asks it."""

    def fill(write: Any) -> None:
        with Session(engine) as session, session.begin():
            write(Rows(session, now))

    def ask(query: str) -> Sequence[Any]:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET TIME ZONE 'UTC'"))
            return connection.execute(text(query.rstrip().rstrip(";"))).all()

    return fill, ask


def test_query_of_todays_positives(filled: Any, now: datetime) -> None:
    fill, ask = filled
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def write(add: Rows) -> None:
        old, new = add.model("1", timedelta(days=9)), add.model("2")
        first, later = add.study(received_at=midnight), add.study(received_at=now)
        yesterday = add.study(received_at=midnight - timedelta(seconds=1))
        for study in (first, later, yesterday):
            add.finding(add.instance(study), new, "PRESENT", 0.9)
        add.finding(add.instance(later), new, "ABSENT", 0.1)
        revised = add.instance(add.study())
        add.finding(revised, old, "PRESENT", 0.8)
        add.finding(revised, new, "ABSENT", 0.2)

    fill(write)
    answer = ask(POSITIVES)
    expected = [("P1.2.3.2", 0.9), ("P1.2.3.1", 0.9)]
    assert [(row.patient_id, row.pneumonia) for row in answer] == expected


def test_query_of_what_was_not_assessed_this_month(filled: Any, now: datetime) -> None:
    fill, ask = filled
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def write(add: Rows) -> None:
        model, study = add.model("1"), add.study()
        for reason in ("NOT_CHEST", "NOT_FRONTAL", "NOT_FRONTAL"):
            add.finding(add.instance(study), model, None, None, reason=reason, created_at=month)
        last_month = month - timedelta(seconds=1)
        add.finding(add.instance(study), model, None, None, reason="BLANK", created_at=last_month)
        add.finding(add.instance(study), model, "ABSENT", 0.1)

    fill(write)
    assert [tuple(row) for row in ask(NOT_ASSESSED)] == [("NOT_FRONTAL", 2, 1), ("NOT_CHEST", 1, 1)]


def test_query_of_studies_that_are_overdue(filled: Any, now: datetime) -> None:
    fill, ask = filled
    hour, minute = timedelta(hours=1), timedelta(minutes=1)

    def write(add: Rows) -> None:
        model = add.model("1")
        late = add.study("REPORTED", now - 26 * hour)
        add.delivery(add.report(late, model, 1), PACS, None, state="SUPERSEDED")
        report = add.report(late, model, 2)
        add.delivery(report, PACS, now)
        add.delivery(report, VIEWER, None, attempts=7, last_answer="no answer")
        add.study("RECEIVING", now - 20 * minute)  # no report yet
        add.study("RECEIVING", now - 9 * minute)
        done = add.study("DELIVERED", now - 2 * hour)
        add.delivery(add.report(done, model), PACS, now - hour)

    fill(write)
    assert [(*row[:5], float(row[5])) for row in ask(OVERDUE)] == [
        ("1.2.3.1", "REPORTED", VIEWER, 7, "no answer", pytest.approx(26 * 60, abs=1)),
        ("1.2.3.4", "RECEIVING", None, None, None, pytest.approx(20, abs=1)),
    ]


def test_query_of_the_distribution_by_model(filled: Any) -> None:
    fill, ask = filled

    def write(add: Rows) -> None:
        old, new, study = add.model("1", timedelta(days=1)), add.model("2"), add.study()
        for finding, pneumonia in (("PRESENT", 0.95), ("ABSENT", 0.05), ("UNDETERMINED", 0.5)):
            add.finding(add.instance(study), old, finding, pneumonia)
        add.finding(add.instance(study), new, "PRESENT", 0.75)
        add.finding(add.instance(study), new, None, None, reason="BLANK")

    fill(write)
    assert [[*row[:6], float(row[6]), *row[7:]] for row in ask(DISTRIBUTION)] == [
        ["net", "1", 3, 1, 1, 1, 0.5, 1, 1],
        ["net", "2", 1, 1, 0, 0, 0.75, 0, 0],
    ]


def test_query_of_the_median_time_to_delivery(filled: Any, now: datetime) -> None:
    fill, ask = filled

    def write(add: Rows) -> None:
        model = add.model("1")
        for seconds in (1, 100_000, 3):
            report = add.report(add.study(received_at=now), model)
            add.delivery(report, PACS, now + timedelta(seconds=seconds))
            add.delivery(report, VIEWER, None)
        for seconds in (2, 4):
            report = add.report(add.study(received_at=now), model)
            add.delivery(report, VIEWER, now + timedelta(seconds=seconds))

    fill(write)
    answer = [(row[0], row[1], float(row[2])) for row in ask(MEDIAN)]
    assert answer == [(PACS, 3, 3.0), (VIEWER, 2, 3.0)]


def test_query_of_the_agreement_of_models(filled: Any) -> None:
    fill, ask = filled

    def write(add: Rows) -> None:
        old, new, study = add.model("1", timedelta(days=1)), add.model("2"), add.study()
        for before, after in ((0.9, 0.8), (0.9, 0.2)):
            instance = add.instance(study)
            add.finding(instance, old, "PRESENT", before)
            add.finding(instance, new, "PRESENT" if after > 0.5 else "ABSENT", after)

    fill(write)
    ((*who, mean),) = ask(AGREEMENT)
    assert (who, float(mean)) == (["net", "1", "net", "2", 2, 1], 0.4)


# --- docs/conformance.md ---------------------------------------------------------------------


def test_conformance_statement_has_every_table_as_the_code_makes_it() -> None:
    assert re.findall(r"^<!-- ([a-z-]+) -->$", CONFORMANCE, flags=re.MULTILINE).count("end") == len(
        conformance.TABLES
    )
    assert all(f"<!-- {name} -->" in CONFORMANCE for name in conformance.TABLES)
    assert conformance.written(CONFORMANCE) == CONFORMANCE, "run `make conformance`"


def test_node_accepts_the_sop_classes_of_the_conformance_statement(tmp_path: Path) -> None:
    services = Services(
        record=lambda _: Outcome.STORED, on_association_closed=lambda _: None,
        failure_of=lambda _: None, on_commitment=lambda _: False,
        find=lambda _: [], retrieve=lambda _: [],
    )  # fmt: skip
    listed = re.findall(r"`([0-9.]+)`", section(CONFORMANCE, "##### 4.2.1.1 SOP classes"))
    entity = AE("TESTER")
    for uid in (*listed, str(UID("1.2.840.10008.5.1.4.1.1.2"))):  # and CT, which is none of them
        entity.add_requested_context(uid, "1.2.840.10008.1.2")
    node = start_node(
        NodeConfig("CXRWORKER", bind="127.0.0.1", port=0), Archive(tmp_path), services
    )
    try:
        assoc = entity.associate("127.0.0.1", node.port)
        accepted = [str(context.abstract_syntax) for context in assoc.accepted_contexts]
        assoc.release()
    finally:
        node.shutdown(grace_s=0)
    assert sorted(accepted) == sorted(listed)


# --- docs/monitoring.md ----------------------------------------------------------------------


def test_every_metric_is_described_as_the_code_has_it() -> None:
    described = [tuple(row) for row in rows(section(MONITORING, "## Metrics"))]
    assert described == [
        (
            f"`{metric.name}`",
            ", ".join(f"`{label}`" for label in metric.labels) or "-",
            f"{metric.kind}. {metric.meaning}",
        )
        for metric in metrics.METRICS
    ]


def test_every_alert_is_described_in_its_order() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    described = [row[0].strip("`") for row in rows(section(MONITORING, "## Alerts and dashboard"))]
    assert described == names


def test_every_page_and_check_is_described() -> None:
    pages = {row[0].strip("`") for row in rows(section(MONITORING, "## Switch it on"))}
    assert {"/metrics", "/healthz", "/readyz"} <= pages
    checks = {row[0].strip("`") for row in rows(section(MONITORING, "## Health"))}
    assert {"database", "archive", "room", "model", "broker"} <= checks


def test_every_span_and_its_attributes_are_described_and_no_others() -> None:
    code = "".join((ROOT / "worker" / f"{name}.py").read_text() for name in TELLING_SPANS)
    spans = re.findall(
        r"`([a-z ]+)`",
        "".join(row[0] for row in rows(section(MONITORING, "### What a span means"))[:15]),
    )
    steps = [kind.lower() for kind in states.JobKind]
    parts = {"prepare", "predict", "explain", "study", "association", "receive", "wait for answer"}
    assert set(spans) == {*steps, *(f"wait for {step}" for step in steps)} | parts
    assert len(spans) == len(set(spans))
    described = re.findall(
        r"`cxr\.(\w+)`",
        "".join(row[0] for row in rows(section(MONITORING, "### What a span means"))),
    )
    assert all(re.search(rf'\b{name}=|"{name}"', code) for name in described)
    noted = re.findall(r"tracing\.note\(([^\n]*)\)\n|steps\.note\(([^\n]*)\)\n", code)
    used = set(re.findall(r"(\w+)=", " ".join("".join(each) for each in noted)))
    used |= set(re.findall(r'"(\w+)": ', (ROOT / "worker" / "spans.py").read_text()))
    assert used - {"service"} <= set(described)


def test_settings_of_traces_are_described_with_their_defaults() -> None:
    described = {row[0].strip("`"): row[1].strip("`") for row in rows(TRACES)}
    for key, default, _ in describe_settings():
        if key.startswith(("CXR_OTLP", "CXR_TRACES")):
            assert described[key].startswith(default or "none")


# --- all documents ---------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_setting_that_is_named_exists(document: Path) -> None:
    known = {key for key, _, _ in describe_settings()} | OTHER_KEYS
    found = set(re.findall(r"\bCXR_[A-Z0-9_]+", document.read_text()))
    assert found - {entity.IMPLEMENTATION_VERSION_NAME} <= known


def test_settings_file_that_readme_shows_is_a_right_one(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "cxr.toml").write_text(shown)
    settings = Settings.from_env({"CXR_SETTINGS": str(tmp_path / "cxr.toml")})
    assert (settings.plaintext, settings.tls_port) == (False, 2762)
    (destination,) = settings.destinations
    assert (destination.companions, destination.tls) == (set(states.CompanionKind), True)


def test_document_about_signing_in_names_each_setting_of_the_provider_and_shows_right_ones(
    tmp_path: Path,
) -> None:
    document = (ROOT / "docs" / "signing-in.md").read_text()
    named = {key.strip("`") for key, _ in rows(section(document, "## Settings"))}
    assert named == {
        key for key, _, _ in describe_settings() if key.startswith("CXR_OIDC_")
    } | {"CXR_WEB_URL"}  # fmt: skip
    shown = re.findall(r"^```sh\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    for each in shown:
        (tmp_path / "cxr.env").write_text(f"{each}CXR_WEB_HOSTS=cxr.example.org\n")
        settings = Settings.from_env({"CXR_SETTINGS": str(tmp_path / "cxr.env")})
        assert settings.web_origin == "https://cxr.example.org"
        assert settings.oidc_roles is not None
        assert Role.ADMIN in dict(settings.oidc_roles.roles).values()


def test_options_that_readme_shows_for_a_destination_are_right_ones() -> None:
    for option, default, _ in rows(section(README, "### Destinations, commitment and TLS")):
        name, value = option.strip("`").split("=")
        chosen, usual = (Destination.parse(f"PACS@h:1{end}") for end in (f"?{name}={value}", ""))
        assert getattr(chosen, name) != getattr(usual, name)
        assert default == "none" or f"{name}={default.strip('`')}" != option.strip("`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_command_that_is_named_exists(document: Path) -> None:
    commands = get_command(app).commands
    for name, word in re.findall(
        r"`(?:\S*/)?cxr-worker ([a-z-]+)(?: ([a-z]+))?", document.read_text()
    ):
        assert name in commands
        assert word in ("", *getattr(commands[name], "commands", {word}))


def test_every_failure_of_the_reliability_document_names_tests_that_exist() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    failures = rows(section(RELIABILITY, "## What happens when something fails"))
    assert failures
    for *_, tried in failures:
        named = re.findall(r"`(test_\w+\.py|make [a-z-]+)`", tried)
        assert named
        assert {name for name in named if name.startswith("test_")} <= there
        assert {name.removeprefix("make ") for name in named} - there <= targets


def test_settings_of_dicomweb_are_described_with_their_defaults() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(DICOMWEB) if row[0].startswith("`CXR_")}
    assert told == {
        key: default or "none"
        for key, default, _ in describe_settings()
        if key.startswith("CXR_DICOMWEB_")
    }


def test_times_of_the_reliability_document_are_the_default_settings() -> None:
    defaults = {key: default for key, default, _ in describe_settings()}
    told = re.findall(r"`(CXR_[A-Z_]+)`, ([\d.]+) s", RELIABILITY)
    assert len(told) >= 3
    assert {(key, float(seconds)) for key, seconds in told} == {
        (key, float(defaults[key])) for key, _ in told
    }
