"""DICOMweb over a ward: programs that ask, and what they make of the answers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydicom import Dataset
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

from tests.ward import Ward
from tests.web import Web
from worker.access import tokens
from worker.access.roles import Role

BASE = "/dicom-web"
ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def web_over(folder: Path, sessions: sessionmaker[Session], **environ: str) -> Web:
    """A web with a user of each role."""
    web = Web(Ward(folder, sessions, **environ), folder)
    for role in Role:
        web.add(role.value, role)
    return web


def token_of(web: Web, name: str = "viewer") -> str:
    with web.ward.sessions() as session, session.begin():
        return tokens.add(session, name, uuid.uuid4().hex, web.ward.clock(), timedelta(days=1))


def program(web: Web, name: str = "viewer") -> TestClient:
    """A program that asks with the token of a user."""
    client = TestClient(web.app, raise_server_exceptions=False, follow_redirects=False)
    client.headers["Authorization"] = f"Bearer {token_of(web, name)}"
    return client


def receive(web: Web, ds: Dataset) -> None:
    """Receive an instance of which the ledger knows what it says itself."""
    web.ward.receive(
        ds, series_instance_uid=ds.SeriesInstanceUID, accession_number=ds.AccessionNumber,
        study_date=ds.StudyDate, modality=ds.Modality, sop_class_uid=ds.SOPClassUID,
    )  # fmt: skip


def reported(web: Web, **attributes: Any) -> str:
    """Receive a study and report it; give its UID."""
    study = web.ward.receive_study(1, **attributes)
    web.ward.classify()
    web.ward.clock.forward(60)
    web.ward.report()
    return study


def datasets_of(answer: Any) -> list[Dataset]:
    """Read DICOM JSON as pydicom does."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    return [Dataset.from_json(each) for each in answer.json()]


def parts_of(answer: Any) -> list[tuple[str, bytes]]:
    """Take an answer apart: media type and bytes of each part."""
    assert answer.status_code in (200, 206), answer.text
    found = re.fullmatch(
        r'multipart/related; type="([^"]+)"; boundary=(\w+)', answer.headers["content-type"]
    )
    assert found
    boundary = found[2].encode()
    first, *parts, last = (b"\r\n" + answer.content).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    heads = (part.partition(b"\r\n\r\n")[::2] for part in parts)
    return [
        (re.findall(rb"Content-Type: (.*?)\r\n", head)[0].decode(), body) for head, body in heads
    ]


def in_parts(files: Iterable[bytes], kind: str = "application/dicom") -> dict[str, Any]:
    """A request to store files, as `TestClient.post` takes it."""
    boundary = "cut-here"
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + file + b"\r\n" for file in files
    )
    told = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return {"content": body + f"--{boundary}--\r\n".encode(), "headers": {"Content-Type": told}}


def instance_path(ds: Any) -> str:
    return (
        f"{BASE}/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        f"/instances/{ds.SOPInstanceUID}"
    )
