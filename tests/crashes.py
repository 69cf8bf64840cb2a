"""Death, or worse, at a chosen moment: each statement, commit, write, answer and send is two.

Moments are counted in the thread that enters the block, so that a beating lease counts for nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from tests.ward import Killed, Ward

Act = Callable[[], None]


class Moments:
    """The moments that a process lives through; at number `count` (from 0) `act` is called.

    Attributes
    ----------
    where : str or None
        The moment at which it was called; None while it was not.
    """

    def __init__(self, count: int, act: Act) -> None:
        self.where: str | None = None
        self._left = count
        self._act = act
        self._thread = threading.get_ident()

    def pass_by(self, moment: str, *, before: Act = lambda: None) -> None:
        """Live through a moment; `before` is what else happens if it is the chosen one."""
        if self.where is not None or threading.get_ident() != self._thread:
            return
        self._left -= 1
        if self._left < 0:
            self.where = moment
            before()
            self._act()


# --- what may happen -------------------------------------------------------------------------


@contextmanager
def killed_at(ward: Ward, count: int) -> Iterator[Moments]:
    """Kill the process that works in this block, as kill -9 does."""

    def die() -> None:
        raise Killed

    moments = Moments(count, die)
    with _statements(ward, moments.pass_by), _elsewhere(ward, moments), suppress(Killed):
        yield moments


@contextmanager
def database_lost_at(ward: Ward, count: int) -> Iterator[Moments]:
    """Take the database away from the process that works in this block, until the block ends.

    A commit whose answer is lost may have been done.
    """

    def fail() -> None:
        raise OperationalError("a statement", {}, sqlite3.OperationalError("gone"))

    moments = Moments(count, fail)

    def pass_by(moment: str) -> None:
        if moments.where is not None and threading.get_ident() == moments._thread:
            fail()
        moments.pass_by(moment)

    with _statements(ward, pass_by):
        yield moments


@contextmanager
def stalled_at(ward: Ward, count: int, meanwhile: Act) -> Iterator[Moments]:
    """Freeze the process that works in this block while others do `meanwhile`, and wake it up.

    It holds no transaction then: the others would wait for it.
    """
    moments = Moments(count, meanwhile)
    engine, open_here = _engine(ward), [False]

    def pass_by(moment: str) -> None:
        if moment.startswith("after COMMIT"):
            open_here[0] = False
        if not open_here[0]:
            moments.pass_by(moment)
        if moment.startswith("before "):
            open_here[0] = True

    def rolled_back(_connection: Any) -> None:
        open_here[0] = False

    event.listen(engine, "rollback", rolled_back)
    try:
        with _statements(ward, pass_by), _elsewhere(ward, moments):
            yield moments
    finally:
        event.remove(engine, "rollback", rolled_back)


# --- where moments are -----------------------------------------------------------------------


def _engine(ward: Ward) -> Engine:
    engine = ward.sessions.kw["bind"]
    assert isinstance(engine, Engine)
    return engine


@contextmanager
def _statements(ward: Ward, pass_by: Callable[[str], None]) -> Iterator[None]:
    """Pass by before each statement, and before and after each COMMIT."""
    engine = _engine(ward)
    do_commit = engine.dialect.do_commit

    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        pass_by(f"before {statement}")

    def commit(connection: Any) -> None:
        pass_by("before COMMIT")
        do_commit(connection)
        pass_by("after COMMIT")

    event.listen(engine, "before_cursor_execute", execute)
    try:
        with patch.object(engine.dialect, "do_commit", commit):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", execute)


@contextmanager
def _elsewhere(ward: Ward, moments: Moments) -> Iterator[None]:
    """Pass by before and after each write to the archive, answer of the model, and association."""

    def around(what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            moments.pass_by(f"about to {what}")
            result = call(*args, **kwargs)
            moments.pass_by(f"has been through: {what}")
            return result

        return called

    def write(study: str, uid: str, data: bytes) -> Any:
        moments.pass_by("a file is half written", before=lambda: _tear(ward, study, data))
        return write_whole(study, uid, data)

    write_whole = around("write a file", ward.archive.write)
    with ExitStack() as stack:
        for owner, name, new in (
            (ward.archive, "write", write),
            (ward.classifier, "predict", around("ask the model", ward.classifier.predict)),
            (ward, "send", around("send", ward.send)),
            (ward, "ask", around("ask for commitment", ward.ask)),
        ):
            stack.enter_context(patch.object(owner, name, new))
        yield


def _tear(ward: Ward, study: str, data: bytes) -> None:
    """Leave what a writer leaves that died half-way."""
    folder = ward.archive.root / study
    folder.mkdir(exist_ok=True)
    (folder / ".torn.partial").write_bytes(data[: len(data) // 2])
