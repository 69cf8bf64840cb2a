"""What the logs of a run hold that somebody should look at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SERVERS = ("redis", "postgres", "pacs", "archive", "webhook", "hl7")
# As our own formatter writes an error: the frames, and the exception's type alone.
_LOGGED = re.compile(r"^\S+Z (?:ERROR|CRITICAL) +(\S+): .*\n((?: .*\n)+)(\w+)$", re.M)
# As the interpreter does where nobody caught it.
_UNCAUGHT = re.compile(r"^(Traceback) \(most recent call last\):\n((?: .*\n)+)(\w+)", re.M)
_FRAME = re.compile(r'File ".*?([^/"]+/[^/"]+)", line \d+, in (\w+)')


def tracebacks(logs: Path) -> Iterator[str]:
    """Count the tracebacks of our own roles, by role, exception, and where it was raised."""
    found: Counter[str] = Counter()
    for path in sorted(logs.glob("*.log")):
        role = path.name.partition(".")[0]
        text = "" if role in SERVERS else path.read_text(errors="replace")
        for pattern in (_LOGGED, _UNCAUGHT):
            for logger, frames, kind in pattern.findall(text):
                ours = _FRAME.findall(frames) or [("?", "?")]
                found[f"{role}: {logger}: {kind} in {' '.join(ours[-1])}"] += 1
    yield from (f"{count} x {line}" for line, count in found.most_common())
