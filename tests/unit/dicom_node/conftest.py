"""What several tests of the DICOM room start from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import Node


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts nodes, and stops them."""
    nodes: list[Node] = []

    def start(**config: Any) -> Node:
        nodes.append(Node(tmp_path, **config))
        return nodes[-1]

    yield start
    for node in nodes:
        # Takes half a second, which nobody needs to wait for.
        threading.Thread(target=node.running.shutdown, args=(0,), daemon=True).start()
