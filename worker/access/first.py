"""Signing in on a machine that has no administrator yet, as Jupyter does: by a token in a file.

Whoever can read the file, in a folder of the user that runs the worklist, may administrate; so may
they by the command line. The first administrator that is added ends it: the token is no longer
taken, and sessions that began by it end.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from sqlalchemy.orm import Session

from dicom_node import durable
from worker.access.admins import has_admin
from worker.access.roles import LOCAL, Identity, Role

NAME = "first-token"


class FirstToken:
    """The token of one home folder.

    Parameters
    ----------
    home : Path
        ``CXR_HOME``; the token is in ``web/first-token`` below it.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "web" / NAME

    def prepare(self, session: Session) -> str | None:
        """Make a new token; None, and none is left, when there is an administrator.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        self.remove()
        if has_admin(session):
            return None
        token = secrets.token_urlsafe(24)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.parent.chmod(0o700)
        # The file is new: it is nobody else's, and no link to elsewhere.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            durable.write_all(descriptor, f"{token}\n".encode())
        finally:
            os.close(descriptor)
        return token

    def check(self, session: Session, given: str) -> Identity | None:
        """Tell who has this token; None when it is wrong or no longer taken."""
        if has_admin(session):
            self.remove()
            return None
        token = self.read()
        same = hmac.compare_digest(token.encode(), given.encode())
        return Identity(LOCAL, Role.ADMIN) if token and same else None

    def read(self) -> str:
        """Give the token; "" when there is none, or it is not for us to read."""
        try:
            return self.path.read_text("ascii").strip()
        except OSError:
            return ""

    def remove(self) -> None:
        """Take the token away, if there is one."""
        with suppress(FileNotFoundError):
            self.path.unlink()
