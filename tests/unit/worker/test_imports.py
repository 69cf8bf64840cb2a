"""What a process imports is what it takes to start, and most of what it weighs."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROLES = {
    "node": "archiving, composition, node, tasks, up",
    "relay": "composition, relay, tasks, up",
    "up": "composition, database, up",
    "results": "composition, results",
    "a worker before it forks": "composition, tasks",
}
READING = (
    "dicom_node.pixels",
    "dicom_node.header",
    "worker.reading",
    "worker.node",
    "worker.reporting",
)


def imported(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("role", ROLES)
def test_no_role_starts_with_what_it_may_never_need(role: str) -> None:
    found = imported(f"from worker import {ROLES[role]}")
    assert found.isdisjoint({"alembic", "circus", "highdicom", "tensorflow", "openvino"})


@pytest.mark.parametrize("role", [role for role in ROLES if role != "node"])
def test_only_the_node_needs_the_libraries_of_dicom_to_start(role: str) -> None:
    found = imported(f"from worker import {ROLES[role]}")
    assert found.isdisjoint({"pydicom", "pynetdicom", "numpy", "PIL"})


@pytest.mark.parametrize("module", READING)
def test_who_reads_instances_keeps_what_is_in_them_out_of_logs(module: str) -> None:
    assert "dicom_node.privacy" in imported(f"import {module}")
