"""One port for what belongs together: a role with what it forks, or all roles of `up`."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.archive import Archive
from dicom_node.errors import ConfigurationError
from model.predict import ModelInfo
from tests.e2e.programs import free_port, listens
from tests.fakes import model_info
from worker import VERSION, database, metrics, monitoring, up
from worker.settings import Settings
from worker.telling import Teller, Told


@dataclass
class Loaded:
    """A model that was loaded."""

    engine: str = "TensorFlow on CPU"
    info: ModelInfo = field(default_factory=model_info)


@pytest.fixture(autouse=True)
def _off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(up.SUPERVISED, raising=False)
    yield
    monitoring.stop()


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run of `up`."""
    with tempfile.TemporaryDirectory(prefix="cxr-t-") as folder:
        monkeypatch.setenv(up.SUPERVISED, folder)
        yield Path(folder)


def settings_of(folder: Path, **environ: str) -> Settings:
    ours = {"CXR_HOME": str(folder / "home"), "CXR_METRICS_PORT": str(free_port())}
    ours |= {"CXR_BROKER_URL": "redis://127.0.0.1:1/0", "CXR_ARCHIVE_RESERVE_MB": "0"}
    ours |= {"CXR_WEB_PORT": "off"}
    return Settings.from_env({**ours, **environ})


def asked(settings: Settings, path: str) -> tuple[int, str]:
    assert settings.metrics_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", settings.metrics_port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def samples(settings: Settings) -> dict[str, dict[tuple[str, ...], float]]:
    """Scrape, as Prometheus does: by name, and by the values of all labels."""
    status, text = asked(settings, "/metrics")
    assert status == 200
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), "told twice"
            found[sample.name][labels] = sample.value
    return found


def test_nothing_is_opened_where_no_port_is_set(tmp_path: Path) -> None:
    monitoring.start(Settings.from_env({"CXR_HOME": str(tmp_path)}), "node")
    monitoring.beat()
    monitoring.measure(metrics.ASSOCIATIONS, lambda: 1)
    monitoring.collect(object())
    monitoring.answers_with(Loaded())
    monitoring.start_forked("0")
    assert metrics._Switch.meters is None


def test_a_role_by_itself_answers_for_itself(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "node")
    metrics.count(metrics.ACCEPTED)
    open_now = [3.0]
    monitoring.measure(metrics.ASSOCIATIONS, lambda: open_now[0])
    found = samples(settings)
    assert found["cxr_associations_accepted_total"] == {("node",): 1}
    assert found["cxr_associations_open"] == {("node",): 3}
    assert found["cxr_role_up"] == {("node",): 1}
    assert found["cxr_build_info"] == {("node", VERSION): 1}
    assert found["process_resident_memory_bytes"]["node",] > 1e6
    open_now[0] = 0
    assert samples(settings)["cxr_associations_open"] == {("node",): 0}
    assert asked(settings, "/healthz")[0] == 200


def test_it_listens_where_it_is_told_and_by_default_on_loopback_alone(tmp_path: Path) -> None:
    assert settings_of(tmp_path).metrics_bind == "127.0.0.1"
    elsewhere = settings_of(tmp_path, CXR_METRICS_BIND="127.0.0.2")
    monitoring.start(elsewhere, "node")
    assert elsewhere.metrics_port is not None
    assert not listens(elsewhere.metrics_port)


def test_a_port_that_is_taken_stops_a_role_with_a_line(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "node")
    with pytest.raises(ConfigurationError, match="CXR_METRICS_PORT"):
        monitoring._answer_for(monitoring._Process(settings, "relay"))


def test_what_a_worker_forks_is_told_with_its_number(tmp_path: Path) -> None:
    """A real fork: its child must tell for itself, and leave its parent's sockets alone."""
    settings = settings_of(tmp_path)
    monitoring.prepare(settings, "worker-gpu")
    told_r, told_w = os.pipe()
    end_r, end_w = os.pipe()
    child = os.fork()
    if not child:
        monitoring.start_forked("1")
        monitoring.answers_with(Loaded())
        metrics.count(metrics.FINDINGS, finding="ABSENT", model_version="1.0")
        os.write(told_w, b"x")
        os.read(end_r, 1)
        os._exit(0)
    try:
        monitoring.start(settings, "worker-gpu", beats_itself=True)
        os.read(told_r, 1)
        found = samples(settings)
    finally:
        os.write(end_w, b"x")
        os.waitpid(child, 0)
    info = model_info()
    assert found["cxr_findings_total"]["ABSENT", "1.0", "1", "worker-gpu"] == 1
    assert found["cxr_findings_total"]["PRESENT", "1.0", "1", "worker-gpu"] == 0
    engine, short = "TensorFlow on CPU", info.digest[:16]
    labels = (short, engine, info.name, "1", "worker-gpu", info.version)
    assert found["cxr_model_info"] == {labels: 1}
    assert found["cxr_role_up"] == {("worker-gpu",): 1}
    assert "cxr_model_info" not in samples(settings), "who died tells nothing"


def test_a_child_that_is_forked_later_lets_go_of_the_port(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "worker-gpu", beats_itself=True)
    told_r, told_w = os.pipe()
    end_r, end_w = os.pipe()
    child = os.fork()
    if not child:
        monitoring.start_forked("0")
        os.write(told_w, b"x")
        os.read(end_r, 1)
        os._exit(0)
    os.read(told_r, 1)
    try:
        assert samples(settings)["cxr_build_info"] == {
            ("worker-gpu", VERSION): 1, ("0", "worker-gpu", VERSION): 1,
        }  # fmt: skip
        monitoring.stop()
        assert settings.metrics_port is not None
        assert not listens(settings.metrics_port)
    finally:
        os.write(end_w, b"x")
        os.waitpid(child, 0)


def test_under_up_the_relay_answers_for_all_roles(tmp_path: Path, marks: Path) -> None:
    settings = settings_of(tmp_path)
    others = [Told("node", beat_s=1.0), Told("worker-io", beat_s=0.0)]
    tellers = [Teller(marks, each.role, lambda e=each: e) for each in others]
    monitoring.start(settings, "relay")
    found = samples(settings)["cxr_role_up"]
    assert found == {("node",): 1, ("relay",): 1, ("worker-gpu",): 0, ("worker-io",): 1}
    status, body = asked(settings, "/healthz")
    states = {each["check"]: each["state"] for each in json.loads(body)["checks"]}
    assert status == 503
    assert states == {"node": "ok", "relay": "ok", "worker-io": "ok", "worker-gpu": "failing"}
    for teller in tellers:
        teller.stop()


def test_under_up_nobody_but_the_relay_opens_the_port(tmp_path: Path, marks: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "node")
    assert settings.metrics_port is not None
    assert not listens(settings.metrics_port)
    assert [path.name for path in marks.iterdir()] == ["node.told"]


def test_all_that_up_runs_is_ready(tmp_path: Path, marks: Path) -> None:
    settings = settings_of(tmp_path)
    database.upgrade(settings.database_url)
    Archive(settings.archive_root)
    others = [Told(role, beat_s=0.0) for role in ("node", "worker-io", "worker-gpu")]
    others.append(Told("worker-gpu", "0", facts={"model": "net"}))
    tellers = [Teller(marks, e.role + e.process, lambda e=e: e) for e in others]
    monitoring.start(settings, "relay")
    status, body = asked(settings, "/readyz")
    assert (status, json.loads(body)["state"]) == (200, "degraded"), body
    for teller in tellers:
        teller.stop()


def test_another_model_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "worker-gpu")
    for version in ("1.0", "2.0", "2.0"):
        monitoring.answers_with(Loaded(info=model_info(digest=version * 22, version=version)))
    (labels,) = samples(settings)["cxr_model_info"]
    assert "2.0" in labels


def test_what_was_opened_is_gone_when_it_is_over(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    monitoring.start(settings, "node")
    folder: Any = monitoring._This.process.folder  # type: ignore[union-attr]
    monitoring.stop()
    assert settings.metrics_port is not None
    assert not listens(settings.metrics_port)
    assert list(folder.iterdir()) == []
