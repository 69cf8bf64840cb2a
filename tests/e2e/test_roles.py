"""The commands and health checks of compose.yaml, run by hand over PostgreSQL and Redis."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sqlalchemy import create_engine, text

from tests.e2e.conftest import CXR_WORKER, DELIVERED_S, MODEL
from tests.e2e.programs import (
    START_S,
    clean_environment,
    free_port,
    listens,
    run,
    running,
    stop,
    wait_until,
)
from worker.demo import PacsStandIn
from worker.embedded import find_server

pytestmark = pytest.mark.timeout(1200)

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "compose.yaml").read_text()
)["services"]
ROLES = ("node", "relay", "worker", "worker-io")


@dataclass
class House:
    """The services of compose.yaml as processes."""

    folder: Path
    env: dict[str, str]
    pacs: PacsStandIn
    processes: dict[str, Popen[bytes]] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(
        default_factory=lambda: {service: free_port() for service in ROLES}
    )

    def start(self, stack: ExitStack, service: str) -> None:
        log = self.folder / f"{service}.log"
        command = [*CXR_WORKER, *SERVICES[service]["command"]]
        self.processes[service] = stack.enter_context(running(command, log, self.env_of(service)))

    def env_of(self, service: str) -> dict[str, str]:
        """Give a service a port for its metrics: here all of them are on one machine."""
        return {**self.env, "CXR_METRICS_PORT": str(self.metrics_ports[service])}

    def is_healthy(self, service: str) -> bool:
        """Run the health check of a service as it stands."""
        _, _python, *words = SERVICES[service]["healthcheck"]["test"]
        return run([sys.executable, *words], env=self.env_of(service)).returncode == 0

    def command(self, *words: str | Path) -> str:
        done = run([*CXR_WORKER, *words], env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout


def redis_command(port: int, folder: Path) -> list[str]:
    """Give the command of the service `redis`, on a port of this machine."""
    _, *options = SERVICES["redis"]["command"]
    where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    return [str(find_server()), *where, *options]


@pytest.fixture(scope="module")
def house(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("roles")
    name = "cxr_roles"
    server = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    pacs = PacsStandIn(folder)
    redis_port = free_port()
    with ExitStack() as stack:
        peer = stack.enter_context(pacs.listening())
        stack.enter_context(running(redis_command(redis_port, folder), folder / "redis.log"))
        wait_until(lambda: listens(redis_port), START_S, "the start of Redis")
        env = clean_environment(
            CXR_HOME=str(folder / "home"),
            CXR_BIND="127.0.0.1",
            CXR_PORT=str(free_port()),
            CXR_DATABASE_URL=server.url.set(database=name).render_as_string(hide_password=False),
            CXR_BROKER_URL=f"redis://127.0.0.1:{redis_port}/0",
            CXR_DESTINATIONS=str(peer),
            CXR_ARCHIVE_RESERVE_MB="0",
            CXR_DEVICE="cpu",
            **MODEL,
        )
        house = House(folder, env, pacs)
        house.command(*SERVICES["migrate"]["command"])
        for service in ROLES:
            house.start(stack, service)
        yield house
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.mark.parametrize("service", ROLES)
def test_role_becomes_healthy(house: House, service: str) -> None:
    wait_until(lambda: house.is_healthy(service), START_S, f"health of {service}")
    assert house.processes[service].poll() is None


def test_study_goes_through_all_roles(house: House) -> None:
    picture = house.folder / "picture.png"
    noise = np.random.default_rng(1).integers(0, 256, (300, 300), np.uint8)
    Image.fromarray(noise).save(picture)
    said = house.command("send", picture, "--to", f"CXRWORKER@127.0.0.1:{house.env['CXR_PORT']}")
    assert re.match("1 instances in 1 studies stored", said)
    wait_until(
        lambda: '"state": "DELIVERED"' in house.command("results", "--format", "json"),
        DELIVERED_S,
        "delivery",
    )
    assert len(house.pacs.arrived) == 1


def test_doctor_finds_nothing_to_do(house: House) -> None:
    assert "look" not in house.command("doctor")


@pytest.mark.parametrize("service", ROLES)
def test_role_that_is_stopped_ends_well_and_is_not_healthy(house: House, service: str) -> None:
    assert stop(house.processes[service]) == 0
    assert not house.is_healthy(service)
