"""The diary of a receiver of notices: each try as it came, and what the receiver made of it."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos.behaviour import Behaviour

_numbers = itertools.count()


@dataclass(frozen=True)
class Try:
    """One try of a notice.

    Parameters
    ----------
    message_id
        As it was told outside of the content: in the header of a webhook, in MSH-10.
    content
        The body or the message.
    genuine
        Whether it bears our signature, where it has to.
    kept
        Whether the receiver knows it from now on.
    acknowledged
        Whether it says so. It is written down before: who dies in between has not said it.
    """

    message_id: str
    content: str
    genuine: bool
    kept: bool
    acknowledged: bool
    at_ns: int = 0


class Diary:
    """The folder of a receiver: all that came, doubles included, and how it behaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour = Behaviour(folder)
        (folder / "tries").mkdir(exist_ok=True)

    def enter(self, came: Try) -> None:
        name = f"{time.time_ns()}.{os.getpid()}.{next(_numbers)}"
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps(asdict(came)))
        partial.replace(self.folder / "tries" / f"{name}.json")

    def tries(self) -> Sequence[Try]:
        """List all tries in the order in which they came."""
        paths = sorted((self.folder / "tries").iterdir(), key=_at_ns)
        return [
            Try(**{**json.loads(path.read_text()), "at_ns": _at_ns(path)}) for path in paths
        ]  # fmt: skip


def _at_ns(path: Path) -> int:
    return int(path.name.partition(".")[0])
