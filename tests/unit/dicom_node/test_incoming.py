"""Large instances, which are written while they come: what a node does with each of them."""

import errno
import hashlib
import os

import pytest

from dicom_node import incoming
from dicom_node.archive import MARK, Archive
from dicom_node.status import Status
from tests import datasets
from tests.datasets import ROOT, image
from tests.nodes import Node, wait_until
from tests.wire import VERIFICATION, cut, store, store_as, wired

LARGEST = 4096  # of a PDU: an instance comes in many


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr(incoming, "IN_MEMORY", 10_000)


@pytest.fixture
def drafts(monkeypatch):
    """List the drafts that are begun."""
    begun = []
    begin = Archive.draft

    def note(self, start):
        begun.append(begin(self, start))
        return begun[-1]

    monkeypatch.setattr(Archive, "draft", note)
    return begun


@pytest.fixture
def node(tmp_path, drafts):
    node = Node(tmp_path, maximum_pdu=LARGEST)
    yield node
    node.running.shutdown(0, 5)


def large(number=1, **attributes):
    ds = image(SOPInstanceUID=f"{ROOT}.7.{number}", **attributes)
    ds.Rows = ds.Columns = 200
    ds.PixelData = os.urandom(200 * 200 * 2)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    return ds


def send(node, *instances):
    with wired(node.running.port) as wire:
        wire.associate()
        statuses = []
        for ds in instances:
            wire.send(*store(ds, maximum=LARGEST))
            statuses.append(wire.answer())
        wire.release()
    return statuses


def left_over(node):
    return [path for path in node.archive.root.rglob("*") if path.name.endswith(".partial")]


def test_it_is_stored_as_one_that_waits_in_memory_would_be(node, drafts, monkeypatch):
    ds = large()
    assert send(node, ds) == [0]
    (received,) = node.received
    stored = node.archive.read(received.path)
    assert hashlib.sha256(stored).hexdigest() == received.sha256
    assert len(stored) == received.size
    assert len(drafts) == 1
    assert received.sop_instance_uid == ds.SOPInstanceUID
    monkeypatch.setattr(incoming, "IN_MEMORY", 1 << 30)
    assert send(node, ds) == [0]
    assert len(drafts) == 1
    assert node.received[1].sha256 == received.sha256
    assert node.received[1].path == received.path
    assert not left_over(node)


def test_a_small_one_waits_in_memory(node, drafts):
    assert send(node, image()) == [0]
    assert not drafts
    assert len(node.received) == 1


def test_none_of_it_stays_in_memory():
    class Kept:
        size = 0

        def write(self, data):
            self.size += len(data)

    kept = Kept()
    data_set = incoming.DataSet(lambda: kept)
    for _ in range(100):
        data_set.write(memoryview(bytes(1000)))
    assert kept.size == 100_000
    assert not data_set.getbuffer().nbytes


def test_the_same_again_is_kept_once_and_other_bytes_are_put_aside(node, drafts):
    first, other = large(), large()
    assert send(node, first, first, other) == [0, 0, Status.OTHER_BYTES_UNDER_THIS_UID]
    assert len(drafts) == 3
    files = [path for path in node.archive.root.rglob("*.dcm") if "quarantine" not in path.parts]
    assert len(files) == 1
    assert len(list((node.archive.root / "quarantine").rglob("*.dcm"))) == 1
    assert not left_over(node)


@pytest.mark.parametrize("end", ["reset", "close"])
def test_one_that_is_broken_off_leaves_nothing(node, drafts, end):
    parts = store(large(), maximum=LARGEST)
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(cut(parts, sum(map(len, parts)) // 2))
        wait_until(lambda: drafts and drafts[0].size > 10_000)
        assert left_over(node)
        getattr(wire, end)()
    wait_until(lambda: not node.running.open_associations)
    wait_until(lambda: not left_over(node))
    assert not node.received


def test_one_that_is_refused_leaves_nothing(node, drafts):
    ds = large()
    parts = store(ds, maximum=LARGEST)
    # The data set says another UID than the command.
    told = ds.SOPInstanceUID.encode()
    other = told[:-1] + b"9"
    with wired(node.running.port) as wire:
        wire.associate()
        wire.send(parts[0], *(part.replace(told, other) for part in parts[1:]))
        assert wire.answer() == Status.DOES_NOT_MATCH_SOP_CLASS
    assert drafts
    assert not left_over(node)


def test_an_archive_that_is_away_is_answered_with_out_of_resources(node):
    mark = node.archive.root / MARK
    mark.rename(mark.with_name("away"))
    assert send(node, large(), image()) == [Status.OUT_OF_RESOURCES] * 2
    mark.with_name("away").rename(mark)
    assert send(node, large()) == [0]
    assert not left_over(node)


def test_a_disk_that_has_no_more_room_is_answered_with_out_of_resources(node):
    node.archive.reserve_bytes = 1 << 62
    assert send(node, large()) == [Status.OUT_OF_RESOURCES]
    assert not left_over(node)
    assert not list(node.archive.root.rglob("*.dcm"))
    node.archive.reserve_bytes = 0
    assert send(node, large()) == [0]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_disk_without_room_from_the_first_piece_on_is_answered(node, monkeypatch, after):
    """What waited in memory is the first that the draft does not take."""
    monkeypatch.setattr(incoming, "IN_MEMORY", 3 << 20)
    asked = []

    def require_space(*_):
        asked.append(0)
        if len(asked) > after:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(node.archive, "_require_space", require_space)
    ds = large()
    ds.Rows = ds.Columns = 3000
    ds.PixelData = bytes(3000 * 3000 * 2)
    assert send(node, ds) == [Status.OUT_OF_RESOURCES]
    assert len(asked) == after + 1
    assert not node.received
    assert not left_over(node)


def test_a_disk_that_fails_in_between_is_answered_when_all_has_come(node, monkeypatch):
    write, failing = incoming.Draft.write, []

    def fail(self, data):
        if self.size > 20_000 and not failing:
            failing.append(True)
            self.error = OSError(5, "Input/output error")
        write(self, data)

    monkeypatch.setattr(incoming.Draft, "write", fail)
    assert send(node, large(), large()) == [Status.OUT_OF_RESOURCES, 0]
    assert failing
    assert not left_over(node)


def test_a_deflated_one_waits_in_memory_as_it_may_be_a_bomb(tmp_path, drafts):
    node = Node(tmp_path)
    try:
        ds = large()
        data = datasets.part10(ds)
        assert data
        from pydicom.uid import DeflatedExplicitVRLittleEndian
        from pynetdicom import AE

        ae = AE("MODALITY")
        ae.add_requested_context(ds.SOPClassUID, DeflatedExplicitVRLittleEndian)
        assoc = ae.associate("127.0.0.1", node.running.port, ae_title="NODE")
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        assert assoc.send_c_store(ds).Status == 0
        assoc.release()
        assert not drafts
        assert len(node.received) == 1
    finally:
        node.running.shutdown(0, 5)


@pytest.mark.parametrize(
    ("sop_class_uid", "status"),
    [("1.2.3.4.5", Status.SOP_CLASS_NOT_SUPPORTED), (VERIFICATION, Status.SOP_CLASS_NOT_SUPPORTED)],
    ids=["a class that nobody knows", "another service"],
)
def test_what_is_no_storage_is_refused_and_leaves_nothing_behind(
    node, drafts, tmp_path, sop_class_uid, status
):
    with wired(node.running.port) as wire:
        wire.associate()
        for number in range(3):
            ds = large(number)
            wire.send(store_as(sop_class_uid, ds.SOPInstanceUID, ds, LARGEST))
            assert wire.answer() == status
        assert wire.store(image()) == Status.SUCCESS
        wire.release()
    assert len(drafts) == 3
    assert all(draft._is_closed for draft in drafts)
    assert not list(tmp_path.rglob("*.partial"))


def test_what_comes_for_an_association_that_is_ending_leaves_nothing_behind(node, drafts, tmp_path):
    with wired(node.running.port) as wire:
        wire.associate()
        (assoc,) = node.running._associations()
        assoc.cxr_serving._is_ending = True
        wire.send(*store(large(), maximum=LARGEST))
        wait_until(lambda: drafts and drafts[0]._is_closed)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("uid", ["1.2.3\xe9", "no uid"])
@pytest.mark.parametrize("make", [large, image], ids=["large", "small"])
def test_a_command_that_names_no_uid_is_refused_and_the_next_instance_is_taken(node, make, uid):
    with wired(node.running.port) as wire:
        wire.associate()
        ds = make()
        wire.send(store_as(ds.SOPClassUID, uid, ds, LARGEST))
        assert wire.answer() == Status.DOES_NOT_MATCH_SOP_CLASS
        assert wire.store(image()) == Status.SUCCESS
        assert wire.release() == 6
