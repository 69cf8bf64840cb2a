"""After every Success the power is cut: what was acknowledged is on the disk that forgets."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicom_node import incoming
from dicom_node.archive import MARK, Archive
from dicom_node.draft import Draft
from dicom_node.incoming import DataSet
from dicom_node.reception import Outcome, Received, handle_store
from tests.datasets import ROOT, image, part10
from tests.disks import ForgetfulDisk, Killed, Stops, kill, watched
from tests.fakes import in_threads

MOST_STEPS = 40  # far more than a store has
FINAL = re.compile(r"[0-9.]+\.([0-9a-f]{16})\.dcm")


class Ledger:
    """Records in memory, at once and for ever."""

    def __init__(self) -> None:
        self.rows: dict[str, Received] = {}
        self.conflicts: list[Received] = []
        self._lock = threading.Lock()

    def __call__(self, received: Received) -> Outcome:
        with self._lock:
            known = self.rows.setdefault(received.sop_instance_uid, received)
            if known is received:
                return Outcome.STORED
            if known.sha256 == received.sha256:
                return Outcome.DUPLICATE
            self.conflicts.append(received)
            return Outcome.CONFLICT


class Scene:
    """An archive on a disk that forgets, and those who write there, each a process of its own."""

    def __init__(self, root: Path, *, drafted: bool) -> None:
        self.root, self.drafted, self.drafts = root, drafted, list[Draft]()
        self.disk, self.stops, self.ledger = ForgetfulDisk(root), Stops(), Ledger()
        self.home = root / "home" / "archive"

    def archive(self) -> Archive:
        """Open the archive as another process does, which knows nothing of the others."""
        return Archive(self.home)

    def store(self, ds: Any, archive: Archive | None = None) -> int:
        data, archive = part10(ds), archive or self.archive()
        data_set = DataSet(lambda: archive.draft(data[:132]))
        if self.drafted:
            data_set.write(data[132:])
            assert data_set.draft is not None
            self.drafts.append(data_set.draft)
        event = SimpleNamespace(
            encoded_dataset=lambda: data,
            request=SimpleNamespace(
                AffectedSOPClassUID=ds.SOPClassUID,
                AffectedSOPInstanceUID=ds.SOPInstanceUID,
                DataSet=data_set,
            ),
            context=SimpleNamespace(transfer_syntax="1.2.840.10008.1.2.1"),
            assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="MODALITY")),
        )
        status = handle_store(event, archive, self.ledger)
        if status == 0x0000:
            self.check(ds.SOPInstanceUID)
        return status

    def check(self, sop_instance_uid: str) -> None:
        """Cut the power: the recorded file must be there, whole."""
        row = self.ledger.rows[sop_instance_uid]
        kept = self.disk.after_power_cut().get(f"home/archive/{row.path}")
        assert kept is not None, "an acknowledged instance is lost"
        assert hashlib.sha256(kept).hexdigest() == row.sha256
        assert f"home/archive/{MARK}" in self.disk.after_power_cut()

    def check_names(self) -> None:
        """Whatever the disk kept, a final name has all the bytes that it promises."""
        for left in (self.disk.after_power_cut(), self.disk.with_all_names()):
            for path, content in left.items():
                if match := FINAL.fullmatch(Path(path).name):
                    assert content is not None, f"{path} has no bytes"
                    assert hashlib.sha256(content).hexdigest().startswith(match[1])
                if Path(path).name == MARK:
                    assert content

    def killed_after(self, steps: int, work: Callable[[], object]) -> bool:
        """Work until a step, and be killed there; tell whether that came."""
        try:
            with self.stops.after(steps, kill):
                work()
        except Killed:
            return True
        return False

    @contextmanager
    def standing_after(self, steps: int, work: Callable[[], int]) -> Iterator[bool]:
        """Work in a thread that stands still at a step while the block runs, then goes on.

        Tells whether it came to that step.
        """
        stands, go_on = threading.Event(), threading.Event()
        statuses: list[int] = []

        def wait() -> None:
            stands.set()
            go_on.wait(60)

        def run() -> None:
            with self.stops.after(steps, wait):
                statuses.append(work())
            stands.set()

        writer = threading.Thread(target=run)
        writer.start()
        assert stands.wait(60)
        try:
            yield not statuses
        finally:
            go_on.set()
            writer.join(60)
        assert statuses == [0x0000]


@pytest.fixture(params=["in memory", "while it comes"])
def make(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Scene]]:
    scenes: list[Scene] = []
    monkeypatch.setattr(incoming, "IN_MEMORY", 0)

    def close() -> None:
        for scene in scenes:
            scene.disk.close()
            while scene.drafts:
                scene.drafts.pop().discard()

    def make() -> Scene:
        close()
        root = tmp_path / str(len(scenes))
        root.mkdir()
        scenes.append(Scene(root, drafted=request.param == "while it comes"))
        return scenes[-1]

    yield make
    close()


def numbered(number: int, **attributes: Any) -> Any:
    return image(SOPInstanceUID=f"{ROOT}.3.{number}", **attributes)


def test_the_disk_forgets_names_and_bytes_that_were_not_synced(make: Callable[[], Scene]) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        (scene.root / "file").write_bytes(b"data")
    assert scene.disk.after_power_cut() == {}
    assert scene.disk.with_all_names() == {"file": None}


def test_what_was_acknowledged_survives_a_power_cut(make: Callable[[], Scene]) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        archive = scene.archive()
        for number in (1, 2, 1):
            assert scene.store(numbered(number), archive) == 0x0000
        assert scene.store(numbered(2), scene.archive()) == 0x0000


@pytest.mark.parametrize("same", [True, False], ids=["the same instance", "another of its study"])
def test_what_is_acknowledged_after_a_writer_was_killed_survives_a_power_cut(
    make: Callable[[], Scene], same: bool
) -> None:
    for steps in range(MOST_STEPS):
        scene = make()
        with watched(scene.disk, scene.stops):
            was_killed = scene.killed_after(steps, lambda: scene.store(numbered(1)))  # noqa: B023
            scene.check_names()
            assert scene.store(numbered(1 if same else 2)) == 0x0000
            scene.check_names()
        if not was_killed:
            assert steps > 5
            return
    raise AssertionError("a store has more steps than was thought")


@pytest.mark.parametrize("one_process", [True, False])
@pytest.mark.parametrize("same", [True, False], ids=["the same instance", "another of its study"])
def test_what_is_acknowledged_while_another_writer_is_anywhere_survives_a_power_cut(
    make: Callable[[], Scene], same: bool, one_process: bool
) -> None:
    for steps in range(MOST_STEPS):
        scene = make()
        with watched(scene.disk, scene.stops):
            shared = scene.archive() if one_process else None
            with scene.standing_after(steps, lambda: scene.store(numbered(1), shared)) as stands:  # noqa: B023
                assert scene.store(numbered(1 if same else 2), shared) == 0x0000
                scene.check_names()
            scene.check(numbered(1).SOPInstanceUID)
            scene.check_names()
        if not stands:
            return
    raise AssertionError("a store has more steps than was thought")


def test_writers_of_one_study_at_once_lose_nothing(make: Callable[[], Scene]) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        archive = scene.archive()
        for _ in range(5):
            statuses = in_threads(8, lambda n: scene.store(numbered(n % 5), archive))
            assert statuses == [0x0000] * 8


def test_other_bytes_put_aside_lose_neither_the_first_nor_themselves(
    make: Callable[[], Scene],
) -> None:
    for steps in range(MOST_STEPS):
        scene = make()
        other = numbered(1, PatientComments="changed")
        with watched(scene.disk, scene.stops):
            assert scene.store(numbered(1)) == 0x0000
            was_killed = scene.killed_after(steps, lambda: scene.store(other))  # noqa: B023
            scene.check(numbered(1).SOPInstanceUID)
            scene.check_names()
            assert scene.store(other) == 0xC010
            scene.check(numbered(1).SOPInstanceUID)
            digest = scene.ledger.conflicts[-1].sha256
            kept = [each for each in scene.disk.after_power_cut().values() if each]
            assert digest in {hashlib.sha256(each).hexdigest() for each in kept}
        if not was_killed:
            return
    raise AssertionError("a store has more steps than was thought")


def test_other_bytes_that_come_twice_at_once_are_both_refused_for_what_they_are(
    make: Callable[[], Scene],
) -> None:
    scene = make()
    other = numbered(1, PatientComments="changed")
    with watched(scene.disk, scene.stops):
        archive = scene.archive()
        assert scene.store(numbered(1), archive) == 0x0000
        for _ in range(10):
            assert set(in_threads(4, lambda _: scene.store(other, archive))) == {0xC010}


def test_a_file_that_a_person_copied_back_is_synced_before_it_is_acknowledged(
    make: Callable[[], Scene],
) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        assert scene.store(numbered(1)) == 0x0000
        row = scene.ledger.rows[numbered(1).SOPInstanceUID]
        file = scene.home / row.path
        file.unlink()
        file.write_bytes(part10(numbered(1)))
        assert scene.store(numbered(1)) == 0x0000


def test_a_study_folder_that_was_made_anew_is_synced_anew(make: Callable[[], Scene]) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        archive = scene.archive()
        assert scene.store(numbered(1), archive) == 0x0000
        folder = (scene.home / scene.ledger.rows[numbered(1).SOPInstanceUID].path).parent
        folder.rename(folder.with_name("away"))
        folder.mkdir()
        assert scene.store(numbered(2), archive) == 0x0000


def test_what_killed_writers_left_is_removed_and_nothing_else(make: Callable[[], Scene]) -> None:
    scene = make()
    with watched(scene.disk, scene.stops):
        for steps in range(MOST_STEPS):
            scene.killed_after(steps, lambda steps=steps: scene.store(numbered(steps)))
        old = time.time() - 7200
        for path in scene.home.rglob("*"):
            os.utime(path, (old, old))
        assert list(scene.home.rglob("*.partial"))
        assert scene.archive().remove_partial() > 0
        assert not list(scene.home.rglob("*.partial"))
        for row in list(scene.ledger.rows.values()):
            scene.check(row.sop_instance_uid)
        scene.check_names()
