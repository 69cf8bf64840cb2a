"""What the logs of a run hold that somebody should look at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# A traceback, up to its last line, which names the exception.
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t+|].*\n|\n)*(\S.*)$", re.M)
SERVERS = ("redis", "postgres", "pacs", "archive")


def tracebacks(logs: Path) -> Iterator[str]:
    """Count the tracebacks of our own roles, by role and exception."""
    found: Counter[str] = Counter()
    for path in sorted(logs.glob("*.log")):
        role = path.name.partition(".")[0]
        if role not in SERVERS:
            for last in _TRACEBACK.findall(path.read_text(errors="replace")):
                found[f"{role}: {last[:150]}"] += 1
    yield from (f"{count} x {line}" for line, count in found.most_common())
