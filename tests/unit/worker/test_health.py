"""Health says which check failed and what to do; what only delays work fails nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dicom_node.archive import Archive
from worker import database, health
from worker.checks import Check
from worker.endpoint import Page
from worker.health import Health, Sign, State
from worker.settings import Settings
from worker.telling import Told

NODE = Told("node", beat_s=1.0)
GPU = [Told("worker-gpu", beat_s=0.0), Told("worker-gpu", "0", facts={"model": "net 1.0"})]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home where all is well but for the broker, which is away."""
    made = settings_of(tmp_path)
    database.upgrade(made.database_url)
    Archive(made.archive_root)
    return made


def settings_of(folder: Path, **environ: str) -> Settings:
    broker = "redis://127.0.0.1:1/0"
    ours = {"CXR_HOME": str(folder / "home"), "CXR_BROKER_URL": broker}
    return Settings.from_env({**ours, "CXR_ARCHIVE_RESERVE_MB": "0", **environ})


def read(page: Page) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in json.loads(page.body)["checks"]}


def states(page: Page) -> dict[str, str]:
    return {name: each["state"] for name, each in read(page).items()}


def ready(settings: Settings, roles: Sequence[str], told: list[Told]) -> Page:
    return Health(settings, roles, lambda: told).ready()


def test_a_role_is_alive_when_its_main_loop_turns(settings: Settings) -> None:
    page = Health(settings, ["node"], lambda: [NODE]).alive()
    assert page.status == 200
    assert states(page) == {"node": "ok"}


@pytest.mark.parametrize(
    ("told", "found"),
    [([], "does not answer"), ([Told("node", beat_s=61.0)], "61 s ago"), ([GPU[1]], "not answer")],
)
def test_a_role_that_is_gone_or_hangs_is_named_with_what_to_do(
    settings: Settings, told: list[Told], found: str
) -> None:
    page = Health(settings, ["node"], lambda: told).alive()
    assert page.status == 503
    assert found in read(page)["node"]["found"]
    assert "start" in read(page)["node"]["advice"]


def test_a_node_is_ready_without_a_broker_which_is_told(settings: Settings) -> None:
    page = ready(settings, ["node"], [NODE])
    assert page.status == 200
    assert json.loads(page.body)["state"] == "degraded"
    assert states(page) == {
        "node": "ok", "database": "ok", "broker": "degraded", "archive": "ok", "room": "ok",
    }  # fmt: skip
    assert "CXR_BROKER_URL" in read(page)["broker"]["advice"]


def test_without_its_database_or_its_schema_nobody_is_ready(tmp_path: Path) -> None:
    page = ready(settings_of(tmp_path), ["relay"], [Told("relay", beat_s=0.0)])
    assert page.status == 503
    assert states(page) == {"relay": "ok", "database": "failing", "broker": "degraded"}
    assert "cxr-worker db upgrade" in read(page)["database"]["advice"]
    url = "postgresql+psycopg://user:hunter2@127.0.0.1:1/cxr"
    away = ready(settings_of(tmp_path, CXR_DATABASE_URL=url), ["relay"], [])
    assert read(away)["database"]["found"] == "failed with OperationalError"
    assert b"hunter2" not in away.body


def test_an_archive_that_is_not_there_is_told(settings: Settings) -> None:
    for path in settings.archive_root.iterdir():
        path.unlink()
    page = ready(settings, ["node"], [NODE])
    assert page.status == 503
    assert states(page)["archive"] == "failing"
    assert "mount" in read(page)["archive"]["advice"]


@pytest.mark.parametrize(("role", "state"), [("node", "failing"), ("worker-io", "degraded")])
def test_a_node_without_room_is_not_ready_and_a_worker_uses_the_reserve(
    settings: Settings, tmp_path: Path, role: str, state: str
) -> None:
    short = settings_of(tmp_path, CXR_ARCHIVE_RESERVE_MB="999999999")
    page = ready(short, [role], [Told(role, beat_s=0.0)])
    assert states(page)["room"] == state
    assert page.status == (503 if state == "failing" else 200)
    assert "0xA700" in read(page)["room"]["advice"]


def test_a_gpu_worker_is_ready_when_a_process_of_it_has_its_model(settings: Settings) -> None:
    assert read(ready(settings, ["worker-gpu"], GPU))["model"]["found"] == "net 1.0"
    page = ready(settings, ["worker-gpu"], GPU[:1])
    assert page.status == 503
    assert states(page)["model"] == "failing"
    assert "model" not in states(ready(settings, ["worker-io"], [Told("worker-io", beat_s=0)]))


def test_what_hangs_is_told_in_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def hang(_: Settings) -> Check:
        go_on.wait(30)
        return Check("database", "answers")

    monkeypatch.setattr(health, "check_database", hang)
    monkeypatch.setattr(health, "WAIT_S", 0.1)
    page = ready(settings, ["relay"], [])
    go_on.set()
    assert read(page)["database"]["found"] == "no answer within 0.1 s"
    assert page.status == 503


def test_a_database_that_is_written_to_is_ready(settings: Settings) -> None:
    engine = database.build_engine(settings.database_url)
    with engine.begin():  # which keeps SQLite's one writer
        assert health.check_database(settings).healthy
    engine.dispose()


def test_a_broker_that_never_says_a_word_is_told_in_time(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        page = ready(settings_of(tmp_path, CXR_BROKER_URL=url), ["relay"], [])
    assert states(page)["broker"] == "degraded"


def test_the_worst_sign_is_that_of_the_page() -> None:
    signs = {state: Sign(Check(state, "found"), state) for state in State}
    for worst, status in ((State.OK, 200), (State.DEGRADED, 200), (State.FAILING, 503)):
        page = health.page_of([signs[State.OK], signs[worst], signs[State.OK]])
        assert (json.loads(page.body)["state"], page.status) == (worst, status)
