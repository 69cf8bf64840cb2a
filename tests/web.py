"""The web over a ward: real pages, sessions and audit trail, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from dicom_node.archive import Archive
from tests.fakes import model_info
from tests.ward import Ward
from worker.access import users
from worker.access.attempts import Attempts
from worker.access.first import FirstToken
from worker.access.roles import Role
from worker.audit.trail import Trail
from worker.oidc.elsewhere import Elsewhere
from worker.web.app import build
from worker.web.doors import Doors
from worker.web.services import Services

PASSWORD = "quite a long password"


class Web:
    """What is served of a ward, and who is known there.

    Attributes
    ----------
    ward : Ward
        Whose studies are shown.
    app : FastAPI
        The application.
    """

    def __init__(
        self,
        ward: Ward,
        folder: Path,
        strangers: Attempts | None = None,
        elsewhere: Elsewhere | None = None,
        incoming: Archive | None = None,
    ) -> None:
        self.ward = ward
        self.first = FirstToken(folder)
        self.audit_file = folder / "audit.log"
        self.trail = Trail(self.audit_file, "CXRWORKER", ward.clock)
        self.doors = Doors(
            ward.sessions, ward.sessions, Attempts(), self.first, ward.clock, timedelta(minutes=30),
            timedelta(hours=12), strangers or Attempts(),
        )  # fmt: skip
        self.services = Services(
            ward.desk, ward.sessions, self.doors, self.trail, incoming or ward.archive, ward.bells,
            model_info, elsewhere,
        )  # fmt: skip
        self.app: FastAPI = build(self.services, {"testserver", "127.0.0.1", "localhost"})

    def add(self, name: str, role: Role) -> None:
        with self.ward.sessions() as session, session.begin():
            users.add(session, name, role, PASSWORD, self.ward.clock())

    @contextmanager
    def browser(self, name: str = "", base_url: str = "http://testserver") -> Iterator[Browser]:
        """Open a browser; with a name it signs in."""
        with TestClient(self.app, base_url, follow_redirects=False) as client:
            browser = Browser(client)
            if name:
                assert browser.sign_in(name).status_code == 303
            yield browser

    def audited(self) -> str:
        return self.audit_file.read_text() if self.audit_file.exists() else ""


class Browser:
    """Keeps a session, and the token of its forms."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.get = client.get

    def sign_in(self, name: str, password: str = PASSWORD, to: str = "/"):
        return self.client.post("/sign-in", data={"name": name, "password": password, "to": to})

    def post(self, path: str, **data: str):
        """Send a form of ours, with the token that the last pages held."""
        page = self.get("/").text
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
        assert found
        return self.client.post(path, data={"csrf": found[1], **data})
