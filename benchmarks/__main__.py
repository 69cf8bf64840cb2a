"""Everything that is measured of speed, one benchmark after the other, as one table.

python -m benchmarks [--quick] [--write]      (`make bench` is `python -m benchmarks --write`)

Takes about half an hour, in which nothing else should run. `--quick` takes a few minutes, and its
figures mean little; `--write` puts the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import sheet

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- the last table -->", "<!-- end of the last table -->"
# Each with what makes it quick.
BENCHMARKS = {
    "reception": "--rounds 1",
    "latency": "--studies 10",
    "throughput": "--rounds 1 --studies 60",
    "budget": "--rounds 1",
    "reading": "--rounds 1",
    "delivery": "--rounds 1",
    "workers": "--rounds 1",
    "scale": "--rounds 5 --studies 20000",
    "start": "--rounds 1 --studies 80",
}


def measured(name: str, words: list[str]) -> list[sheet.Figure]:
    """Run a benchmark in a process of its own; one that fails is a row that says so."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *words]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # noqa: S603
        if done.returncode:
            return [sheet.Figure(f"{name} failed", f"exit status {done.returncode}")]
        return [sheet.Figure(**row) for row in json.loads(file.read_text())]


def written(text: str, table: str) -> str:
    """Put a table between the marks of a text."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--write", action="store_true", help=f"write the table to {README.name}")
    options = parser.parse_args()
    unknown = set(options.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    parts = [f"{datetime.now(UTC):%Y-%m-%d}, {sheet.machine()}."]
    for name in options.names or BENCHMARKS:
        words = shlex.split(BENCHMARKS[name]) if options.quick else []
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures = measured(name, words)
        parts.append(f"`{shlex.join(['python', '-m', f'benchmarks.{name}', *words])}`")
        parts.append(sheet.table(figures))
        print(parts[-1], file=sys.stderr, flush=True)
    whole = "\n\n".join(parts)
    print(whole)
    if options.write:
        README.write_text(written(README.read_text(), whole))
    return 0


if __name__ == "__main__":
    sys.exit(main())
