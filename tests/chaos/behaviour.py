"""How a server of the run behaves just now; it reads it from a file, as it is another process."""

from __future__ import annotations

from pathlib import Path

OK, BUSY, HANG, ABORT, SLOW = "ok", "busy", "hang", "abort", "slow"


class Behaviour:
    """A file of one word, replaced at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "behaviour"

    @property
    def how(self) -> str:
        return self._file.read_text() if self._file.exists() else OK

    def behave(self, how: str) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(how)
        partial.replace(self._file)
