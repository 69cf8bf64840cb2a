"""Who may come in: sign-in, sessions and sign-out, over the database of users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.access import sessions, tokens, users, vouched
from worker.access.admins import has_admin
from worker.access.attempts import Attempts
from worker.access.errors import UnknownUser
from worker.access.first import FirstToken
from worker.access.roles import LOCAL, Identity
from worker.access.vouched import Arrival, Vouched
from worker.database import SessionFactory


class TooManyTries(Exception):
    """Somebody tries again too soon."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Lets people in and out.

    Attributes
    ----------
    reading
        Sessions that hold up no writer.
    idle, absolute
        How long a session lasts without being used, and at most.
    strangers
        How often a wrong token is tried.
    """

    sessions: SessionFactory
    reading: SessionFactory
    attempts: Attempts
    first: FirstToken
    clock: Callable[[], datetime]
    idle: timedelta
    absolute: timedelta
    strangers: Attempts = field(default_factory=Attempts)

    def has_admin(self) -> bool:
        """Tell whether anybody could sign in and administrate."""
        with self.reading() as session:
            return has_admin(session)

    def identify(self, token: str, *, is_used: bool = True) -> Identity | None:
        """Tell whose session a token is of; None when it is of none, or of one that is over.

        A page that asks by itself does not use its session.
        """
        return sessions.find(
            self.sessions, token, self.clock(), idle=self.idle, absolute=self.absolute,
            is_used=is_used,
        )  # fmt: skip

    def identify_program(self, token: str, address: str) -> Identity | None:
        """Tell whose token a program has; None when it is not taken.

        A token that is taken is never kept out, whatever others try from the same address: 256
        random bits are not guessed, and those who try are slowed down.

        Raises
        ------
        TooManyTries
            When it is not taken, and there were too many such from this address of late.
        """
        identity = tokens.find(self.sessions, token, self.clock())
        if identity is None and not self.strangers.may_try("", address):
            raise TooManyTries
        return identity

    def sign_in(self, name: str, password: str, address: str) -> tuple[Identity, str] | None:
        """Let somebody in by name and password; None when they may not.

        Raises
        ------
        TooManyTries
            When there were too many of late, by this name or from this address.
        """
        if not self.attempts.may_try(name, address):
            raise TooManyTries
        identity = users.check(self.sessions, name, password, self.clock())
        if identity is None:
            return None
        self.attempts.succeeded(name, address)
        try:
            return self._begin(identity)
        except UnknownUser:  # disabled in this very moment
            return None

    def sign_in_first(self, token: str, address: str) -> tuple[Identity, str] | None:
        """Let in who has the first token of a machine that has no administrator yet.

        Raises
        ------
        TooManyTries
            When there were too many of late from this address.
        """
        if not self.attempts.may_try(LOCAL, address):
            raise TooManyTries
        with self.reading() as session:
            identity = self.first.check(session, token)
        return None if identity is None else self._begin(identity)

    def arrive(self, who: Vouched, tell: Callable[[Arrival], None]) -> tuple[Arrival, str]:
        """Let somebody in for whom a provider vouches; the token is "" when they may not.

        Parameters
        ----------
        tell
            Writes down what changes about the user, before it does.
        """
        now = self.clock()
        with self.sessions() as session, session.begin():
            arrival = vouched.arrive(session, who, now)
            token = ""
            if arrival.identity is not None:
                sessions.forget_expired(session, now, idle=self.idle, absolute=self.absolute)
                token = sessions.begin(session, arrival.identity, now)
            tell(arrival)
        return arrival, token

    def is_vouched_for(self, who: Identity) -> bool:
        """Tell whether somebody signs in by a provider."""
        with self.reading() as session:
            return vouched.is_vouched_for(session, who.name)

    def sign_out(self, token: str) -> None:
        """End a session."""
        with self.sessions() as session, session.begin():
            sessions.end(session, token)

    def _begin(self, identity: Identity) -> tuple[Identity, str]:
        now = self.clock()
        with self.sessions() as session, session.begin():
            sessions.forget_expired(session, now, idle=self.idle, absolute=self.absolute)
            return identity, sessions.begin(session, identity, now)
