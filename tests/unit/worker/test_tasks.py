"""The Celery side: messages are doorbells, and nothing about them can break a role."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from sqlalchemy.exc import OperationalError

from dicom_node.errors import ConfigurationError
from tests.e2e.programs import clean_environment, wait_until
from worker import classifying, committing, composition, delivering, embedded, reporting, tasks
from worker.desk import GO_ON_S
from worker.settings import Settings

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
# In a process of its own, as Celery's app reads its configuration once.
ANNOUNCE = f"""
import datetime
from worker.states import JobKind
from worker.desk import Bell
from worker.tasks import announce, waiting

announce(Bell(JobKind.CLASSIFY))
announce(Bell(JobKind.REPORT), datetime.datetime.fromisoformat("{AT.isoformat()}"))
announce(Bell(JobKind.DELIVER, "PACS@h:1"))
announce(Bell(JobKind.COMMIT, "PACS@h:1"))
print([waiting(kind) for kind in JobKind])
"""


@dataclass
class Announced:
    """What stands in the queues of a real Redis after `ANNOUNCE`, and what that printed."""

    queues: dict[str, list[dict[str, Any]]]
    printed: str

    def message(self, task: str) -> dict[str, Any]:
        every = [message for queue in self.queues.values() for message in queue]
        (found,) = [message for message in every if message["headers"]["task"] == task]
        return found


@pytest.fixture(scope="module")
def announced() -> Iterator[Announced]:
    folder = Path(tempfile.mkdtemp(prefix="cxr-r-"))
    socket = folder / "redis.sock"
    process = subprocess.Popen(embedded.server_command(embedded.find_server(), socket))
    try:
        wait_until(socket.exists, 30, "the start of Redis")
        client = redis.Redis(unix_socket_path=str(socket))
        wait_until(client.ping, 30, "the answer of Redis")
        done = subprocess.run(
            [sys.executable, "-c", ANNOUNCE], capture_output=True, text=True, check=True,
            env=clean_environment(CXR_BROKER_URL=f"redis+socket://{socket}", CXR_HOME=str(folder)),
        )  # fmt: skip
        queues: Any = {name: client.lrange(name, 0, -1) for name in ("gpu", "io")}
        read = {name: [json.loads(each) for each in queue] for name, queue in queues.items()}
        yield Announced(read, done.stdout)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def tasks_in(queue: list[dict[str, Any]]) -> set[str]:
    return {message["headers"]["task"] for message in queue}


def test_each_kind_of_work_has_its_queue(announced: Announced) -> None:
    assert tasks_in(announced.queues["gpu"]) == {"classify"}
    assert tasks_in(announced.queues["io"]) == {"report", "deliver", "commit"}


def test_the_messages_that_wait_are_counted_by_queue(announced: Announced) -> None:
    assert announced.printed.strip() == "[1, 3, 3, 3, 3]"


def test_a_bell_for_later_carries_its_time(announced: Announced) -> None:
    assert datetime.fromisoformat(announced.message("report")["headers"]["eta"]) == AT


@pytest.mark.parametrize("task", ["deliver", "commit"])
def test_a_message_says_nothing_but_where_to(announced: Announced, task: str) -> None:
    headers = announced.message(task)["headers"]
    assert headers["argsrepr"] == "('PACS@h:1',)"
    assert headers["kwargsrepr"] == "{}"


def test_destinations_that_hang_leave_threads_for_everything_else(tmp_path: Path) -> None:
    for count in (0, 3):
        hosts = ",".join(f"P{number}@192.0.2.1:{104 + number}" for number in range(count))
        ours = Settings.from_env({"CXR_HOME": str(tmp_path), "CXR_DESTINATIONS": hosts})
        assert tasks.io_threads(ours) - 2 * count >= 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigurationError("CXR_MODEL", "holds no model"), "CXR_MODEL: holds no model"),
        (OperationalError("INSERT secret", {}, OSError("secret")), "database failed: OSError"),
        (RuntimeError("surprise"), "classify failed"),
    ],
)
def test_a_step_that_fails_is_logged_and_leaves_its_work_owed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(composition, "desk", fail)
    with caplog.at_level(logging.WARNING, logger="worker.tasks"):
        tasks.classify()
    assert told in caplog.records[0].getMessage()
    assert "secret" not in caplog.records[0].getMessage()


def test_a_classification_that_goes_from_batch_to_batch_is_not_taken_for_one_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Settings.from_env({"CXR_HOME": str(tmp_path), "CXR_STEP_LIMIT_S": "40"})
    monkeypatch.setattr(composition, "settings", lambda: ours)
    configuration = tasks._configuration()
    assert configuration["task_time_limit"] == 40
    limit = configuration["task_annotations"]["classify"]["time_limit"]
    assert limit == GO_ON_S + 2 * 40


@pytest.mark.parametrize(
    ("queues", "role"),
    [(["gpu"], "worker-gpu"), (["io"], "worker-io"), (["io", "gpu"], "worker")],
)
def test_a_worker_has_its_role_by_the_queues_that_it_serves(queues: list[str], role: str) -> None:
    assert tasks.role_of(queues) == role


def test_a_task_hands_its_step_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    steps_of = {
        classifying: ("classify",),
        reporting: ("report",),
        delivering: ("deliver",),
        committing: ("commit",),
    }
    for module, name in ((module, name) for module, names in steps_of.items() for name in names):
        monkeypatch.setattr(module, name, lambda *words, name=name: called.append((name, *words)))
    monkeypatch.setattr(composition, "desk", lambda: "desk")
    monkeypatch.setattr(composition, "classifier", lambda: "classifier")
    tasks.classify()
    tasks.report()
    tasks.deliver("PACS@h:1")
    tasks.commit("PACS@h:1")
    assert called[0] == ("classify", "desk", "classifier", tasks.announce, None)
    assert called[1] == ("report", "desk", tasks.announce)
    assert called[2][:3] == ("deliver", "desk", "PACS@h:1")
    assert called[3][:3] == ("commit", "desk", "PACS@h:1")


@pytest.mark.parametrize(
    ("queue", "concurrency", "device", "warned"),
    [("gpu", 2, "gpu", True), ("gpu", 1, "gpu", False), ("gpu", 2, "cpu", False),
     ("io", 2, "gpu", False)],
)  # fmt: skip
def test_several_processes_on_one_gpu_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    queue: str,
    concurrency: int,
    device: str,
    warned: bool,
) -> None:
    ours = Settings.from_env({"CXR_HOME": str(tmp_path), "CXR_DEVICE": device})
    monkeypatch.setattr(composition, "settings", lambda: ours)
    queues = SimpleNamespace(consume_from={queue: None})
    app = SimpleNamespace(amqp=SimpleNamespace(queues=queues))
    tasks._warn_of_a_shared_gpu(SimpleNamespace(app=app, concurrency=concurrency))
    assert ("share the first GPU" in caplog.text) is warned


# Where children are forked off, nothing may have started threads or taken a GPU.
PARENT = """
import os, sys
from celery import signals
from worker.__main__ import app

@signals.worker_init.connect
def look(**_):
    print(sorted({"tensorflow", "keras", "openvino"} & sys.modules.keys()), flush=True)
    os._exit(0)

app(["worker", "--queues", "gpu", "--concurrency", "2"])
"""


def test_no_engine_is_loaded_before_children_are_forked_off(tmp_path: Path) -> None:
    env = clean_environment(CXR_HOME=str(tmp_path))
    upgrade = [sys.executable, "-m", "worker", "db", "upgrade"]
    subprocess.run(upgrade, env=env, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", PARENT], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
