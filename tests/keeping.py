"""Studies that were told long ago, for tests of what happens to them then."""

from __future__ import annotations

import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy import delete, event
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import MARK
from dicom_node.reception import handle_store
from tests.fakes import new_uid, store_event
from tests.senders import bytes_of
from tests.ward import Ward
from worker import node, retention
from worker.tables import Base, Companion, Instance, Removal, Report

DAY = 86_400.0
PICTURES = "PACS@192.0.2.1:104?companions=picture+key-object"


class Attic(Ward):
    """A ward whose node may meet files that are being removed."""

    def __init__(self, folder: Path, sessions: sessionmaker[Session], **environ: str) -> None:
        super().__init__(folder, sessions, **environ)
        self.record = node.recorder(
            sessions, self.settings.quiet_s, self.bells, self.clock,
            is_there=node.look_within(self.archive), stays=self.archive.stays,
        )  # fmt: skip
        self.keeper = retention.Keeper(self.desk)

    def store(self, study: str, uid: str, version: int = 0) -> int:
        """Send an instance to the node, and end the association; give the status."""
        data = bytes_of(study, uid, version)
        meta = dcmread(BytesIO(data), stop_before_pixels=True).file_meta
        status = int(handle_store(store_event(data, meta), self.archive, self.record))
        node.closer(self.sessions, self.bells)("association-1")
        return status

    def tell(self, images: int = 1, study: str = "") -> str:
        """Receive a study and do all that it owes; give its UID."""
        study = study or new_uid()
        for number in range(images):
            assert self.store(study, f"{study}.{number + 1}") == 0
        self.work(30)
        return study

    def turn(self) -> None:
        """Do turns until nothing is left to do."""
        for _ in range(50):
            if not self.keeper.turn() and not any(
                search.after for search in self.keeper.searches.values()
            ):
                return
        raise AssertionError("the turns do not end")

    def files(self) -> set[str]:
        """Name the files of the archive."""
        root = self.archive.root
        found = (path for path in root.rglob("*") if path.is_file() and path.name != MARK)
        return {path.relative_to(root).as_posix() for path in found}

    def promised(self) -> set[str]:
        """Name the files that rows promise."""
        rows: list[Any] = [*self.all(Instance), *self.all(Report), *self.all(Companion)]
        return {row.path for row in rows if row.removed_at is None}

    def removals(self) -> list[tuple[str, str, int]]:
        return [(row.kind, row.cause, row.count) for row in self.all(Removal)]


class Transactions:
    """Knows which sessions have a transaction open that is to be committed."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.open = set[int]()
        event.listen(sessions, "after_begin", lambda each, *_: self.open.add(id(each)))
        event.listen(sessions, "after_transaction_end", self._ended)

    def _ended(self, session: Session, transaction: Any) -> None:
        if transaction.parent is None:
            self.open.discard(id(session))


def kept_as_promised(ward: Attic) -> None:
    """Check that nothing is promised that is not there, and that no file is there for nobody."""
    assert ward.promised() == ward.files()
    assert all(row.finished_at is not None for row in ward.all(Removal))


def forget(ward: Attic) -> None:
    """Empty the database, as the oldest one that can be restored would be."""
    with ward.sessions() as session, session.begin():
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))


def age(ward: Attic, seconds: float = 120) -> None:
    """Let all files of the archive be so old."""
    then = time.time() - seconds
    for path in ward.files():
        os.utime(ward.archive.absolute(path), (then, then))
