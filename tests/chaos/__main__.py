"""`python -m tests.chaos --seed 1 --studies 60 --seconds 120`, or `make chaos SEED=1`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator

from tests.chaos.run import Options, Outcome, run


def main() -> int:
    """Do a run and tell what came of it; exit code 1 when something was wrong."""
    options = _options()
    # Also where a shell has started it in the background, with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    print(f"seed {options.seed}", flush=True)
    outcome = run(options)
    print("\n".join(lines(outcome)))
    return 1 if outcome.failures else 0


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--drain-seconds", type=float, default=300)
    parser.add_argument("--keep", action="store_true", help="keep the folder in any case")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    return Options(
        given.seed, given.studies, given.seconds, given.drain_seconds, given.keep, say=say
    )


def lines(outcome: Outcome) -> Iterator[str]:
    """Tell what came of a run, as Markdown."""
    yield from ("", "| what | count |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in outcome.numbers.items())
    yield from ("", "| fault | times |", "|---|---|")
    yield from (f"| {name} | {count} |" for name, count in sorted(outcome.kills.items()))
    yield ""
    for title, found in (
        ("isolated", outcome.reckoning.isolated),
        ("old after new", outcome.reckoning.late),
        ("noticed", outcome.surprises),
        ("WRONG", outcome.failures),
    ):
        yield from (f"{title}: {line}" for line in found)
    if outcome.folder.exists():
        yield f"everything is kept in {outcome.folder}"
    verdict = "FAILED" if outcome.failures else "nothing is lost, and there is one story a study"
    yield f"seed {outcome.plan.seed}: {verdict}"


if __name__ == "__main__":
    sys.exit(main())
