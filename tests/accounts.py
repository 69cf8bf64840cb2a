"""Users for tests of access: one call a transaction, as the web pages do it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from tests.fakes import NOON
from worker.access import sessions as web_sessions
from worker.access import users
from worker.access.roles import Identity, Role

PASSWORD = "korrekt pferd batterie"
OTHER_PASSWORD = "heftklammer im regen"
IDLE, ABSOLUTE = timedelta(minutes=30), timedelta(hours=12)


class Accounts:
    """Users and sessions on a database."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions

    def do(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `work(session, ...)` in a transaction of its own."""
        with self.sessions() as session, session.begin():
            return work(session, *args, **kwargs)

    def add(self, name: str, role: Role = Role.READER, password: str = PASSWORD) -> Identity:
        user = self.do(users.add, name, role, password, NOON)
        return Identity(user.name, Role(user.role))

    def check(self, name: str, password: str = PASSWORD, now: datetime = NOON) -> Identity | None:
        return users.check(self.sessions, name, password, now)

    def begin(self, identity: Identity, now: datetime = NOON) -> str:
        token: str = self.do(web_sessions.begin, identity, now)
        return token

    def find(self, token: str, minutes: float = 0) -> Identity | None:
        """Find a session so many minutes after noon."""
        now = NOON + timedelta(minutes=minutes)
        return web_sessions.find(self.sessions, token, now, idle=IDLE, absolute=ABSOLUTE)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run all at the same moment, each in a thread; give what each gave or raised."""
    barrier = Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        barrier.wait(10)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
