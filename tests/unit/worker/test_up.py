"""What `up` starts, and how a role ends with it; the rest is told by the integration tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dicom_node.errors import ConfigurationError
from tests.e2e.programs import wait_until
from worker import up
from worker.settings import Settings

SLEEPER = """
import os, sys, time
from worker.up import die_with_parent
print(os.getpid(), flush=True)
die_with_parent()
print("asked", flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
env = os.environ | {"CXRWORKER_SUPERVISED": "/nowhere", "CXRWORKER_SUPERVISOR": str(os.getpid())}
subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=env)
time.sleep(60)
"""


def roles(**environ: str) -> dict[str, list[str]]:
    return up.roles(Settings.from_env(environ))


def test_redis_is_started_first_and_only_when_none_is_set() -> None:
    assert list(roles()) == ["redis", "node", "relay", "worker-io", "worker-gpu", "web"]
    assert "redis" not in roles(CXR_BROKER_URL="redis://127.0.0.1/0")


def test_the_pages_are_served_unless_their_port_is_off() -> None:
    assert "web" not in roles(CXR_WEB_PORT="off")


def test_reports_do_not_wait_behind_classification() -> None:
    words = roles()
    assert "io" in words["worker-io"]
    assert "gpu" in words["worker-gpu"]


def test_a_role_is_marked_ready_for_its_supervisor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.mark_ready("node")
    monkeypatch.setenv(up.SUPERVISED, str(tmp_path / "gone"))
    up.mark_ready("node")
    monkeypatch.setenv(up.SUPERVISED, str(tmp_path))
    up.mark_ready("node")
    assert [path.name for path in tmp_path.iterdir()] == ["node.ready"]


def settings(home: Path, **environ: str) -> Settings:
    ours = {"CXR_HOME": str(home), "CXR_BIND": "127.0.0.1", "CXR_PORT": "0"}
    return Settings.from_env(ours | environ)


def test_a_second_up_in_the_same_home_is_refused_and_the_first_left_alone(tmp_path: Path) -> None:
    with up.take_home(tmp_path), pytest.raises(ConfigurationError, match=r"CXR_HOME.*in use"):
        up.take_home(tmp_path)
    up.take_home(tmp_path).close()


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="CXR_HOME"):
        up.take_home(tmp_path / "file" / "home")


TLS = dict.fromkeys(("CXR_TLS_CERTIFICATE", "CXR_TLS_KEY", "CXR_TLS_AUTHORITY"), "file.pem")


@pytest.mark.parametrize(
    ("setting", "with_it"),
    [("CXR_PORT", {}), ("CXR_TLS_PORT", TLS), ("CXR_METRICS_PORT", {})],
)
def test_a_port_that_is_taken_is_told_before_anything_starts(
    tmp_path: Path, setting: str, with_it: dict[str, str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(ConfigurationError, match=f"^{setting}: 127.0.0.1:{port} cannot be had"):
            up.require_free_ports(settings(tmp_path, **with_it, **{setting: port}))
        only_tls = {"CXR_PLAINTEXT": "off", "CXR_TLS_PORT": "0"}
        up.require_free_ports(settings(tmp_path, **TLS, **only_tls, CXR_PORT=port))
    up.require_free_ports(settings(tmp_path))


def test_a_role_that_nobody_supervises_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(up.SUPERVISOR, raising=False)
    up.die_with_parent()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_role_ends_when_its_supervisor_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SLEEPER], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == b"asked\n"
    parent.kill()
    parent.wait()
    wait_until(lambda: not child.is_running(), 30, "the end of the role")
    parent.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_a_role_ends_when_its_supervisor_was_killed_before_it_asked() -> None:
    env = os.environ | {up.SUPERVISED: "/nowhere", up.SUPERVISOR: "999999999"}
    done = subprocess.run([sys.executable, "-c", SLEEPER], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGTERM
