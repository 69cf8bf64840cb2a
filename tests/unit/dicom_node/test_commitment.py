import logging
import queue
import threading

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import evt
from pynetdicom.pdu import P_DATA_TF

from dicom_node.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Commitment,
    Reference,
    read_commitment,
    read_request,
    request_commitment,
    request_dataset,
    result_dataset,
)
from dicom_node.errors import PeerError, ReportRefused
from tests.datasets import ROOT, read_back
from tests.pacs import EXPLICIT, IMPLICIT, VERIFICATION, Pacs

SR = "1.2.840.10008.5.1.4.1.1.88.34"
REPORT, PICTURE = Reference(SR, f"{ROOT}.1"), Reference("1.2.840.10008.5.1.4.1.1.7", f"{ROOT}.2")
BOTH = [REPORT, PICTURE]
TRANSACTION = f"{ROOT}.99"


def encoded(ds):
    """The data set as it comes from the network."""
    ds.file_meta = Dataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = PUSH_MODEL, ROOT
    return read_back(ds)


# --- data sets -------------------------------------------------------------------------------


def test_a_request_is_read_as_it_was_written():
    assert read_request(encoded(request_dataset(TRANSACTION, BOTH))) == (TRANSACTION, BOTH)


@pytest.mark.parametrize(
    ("commitment", "event_type"),
    [
        (Commitment(TRANSACTION, (f"{ROOT}.1", f"{ROOT}.2")), 1),
        (Commitment(TRANSACTION, (f"{ROOT}.1",), ((f"{ROOT}.2", 0x0112),)), 2),
        (Commitment(TRANSACTION, (), ((f"{ROOT}.1", 0x0110), (f"{ROOT}.2", 0x0213))), 2),
    ],
)
def test_a_result_is_read_as_it_was_written(commitment, event_type):
    assert commitment.event_type == event_type
    assert read_commitment(encoded(result_dataset(commitment, BOTH)), event_type) == commitment


def test_a_result_names_sop_class_and_reason_and_has_no_empty_sequence():
    failed = result_dataset(Commitment(TRANSACTION, (), ((f"{ROOT}.2", 0x0112),)), BOTH)
    (item,) = failed.FailedSOPSequence
    assert (item.ReferencedSOPClassUID, item.FailureReason) == (PICTURE.sop_class_uid, 0x0112)
    assert "ReferencedSOPSequence" not in failed
    assert "FailedSOPSequence" not in result_dataset(Commitment(TRANSACTION, (f"{ROOT}.1",)), BOTH)


def result(**changes):
    """A result of two instances with attributes set, or removed by None."""
    ds = result_dataset(Commitment(TRANSACTION, (f"{ROOT}.1", f"{ROOT}.2")), BOTH)
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def test_what_is_listed_as_failed_has_failed():
    failed = result_dataset(Commitment(TRANSACTION, (), ((f"{ROOT}.2", 0x0112),)), BOTH)
    both = result(FailedSOPSequence=failed.FailedSOPSequence)
    for event_type in (1, 2):
        assert read_commitment(both, event_type) == Commitment(
            TRANSACTION, (f"{ROOT}.1",), ((f"{ROOT}.2", 0x0112),)
        )


def test_a_failure_without_a_reason_is_a_processing_failure():
    failed = result_dataset(Commitment(TRANSACTION, (), ((f"{ROOT}.2", 0x0112),)), BOTH)
    del failed.FailedSOPSequence[0].FailureReason
    assert read_commitment(failed, 2).failed == ((f"{ROOT}.2", 0x0110),)


def test_an_empty_result_commits_nothing():
    assert read_commitment(result(ReferencedSOPSequence=Sequence()), 1).committed == ()


def broken():
    """Results that are none, each with what is said of it."""
    no_uid = result()
    del no_uid.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    text = Dataset()
    text.TransactionUID = TRANSACTION
    text[0x00081199] = DataElement(0x00081199, "LO", "not a sequence")
    two = result(TransactionUID=[TRANSACTION, TRANSACTION])
    return [
        (result(TransactionUID=None), "TransactionUID is missing"),
        (result(TransactionUID=""), "TransactionUID is missing"),
        (two, "TransactionUID is missing or not one UID"),
        (result(TransactionUID="x y"), "not one UID"),
        (no_uid, "ReferencedSOPInstanceUID is missing"),
        (text, "ReferencedSOPSequence is not a sequence"),
        (Dataset(), "TransactionUID is missing"),
    ]


@pytest.mark.parametrize(("ds", "words"), broken())
def test_a_result_that_is_none_says_what_is_wrong(ds, words):
    with pytest.raises(ValueError, match=words):
        read_commitment(ds, 1)


def test_a_result_of_an_unknown_event_type_is_none():
    with pytest.raises(ValueError, match="3 is not an event type"):
        read_commitment(result(), 3)


def test_a_request_without_instances_or_transaction_is_none():
    for ds in (Dataset(), result(ReferencedSOPSequence=None), result(TransactionUID=None)):
        with pytest.raises(ValueError, match="missing"):
            read_request(ds)


# --- asking ----------------------------------------------------------------------------------


class Committing:
    """A PACS that is asked to commit itself: answers `status`, and then does `then(assoc)`.

    What it was asked is in `requests`.
    """

    def __init__(self, status=0x0000, *, then=lambda *_: None, at_once=False, **options):
        self.status, self.then, self.at_once = status, then, at_once
        self.requests, self._responses = [], queue.Queue()
        self.answered = threading.Event()
        handlers = [(evt.EVT_N_ACTION, self._asked), (evt.EVT_PDU_SENT, self._sent)]
        options = {"accepts": [(PUSH_MODEL, IMPLICIT)]} | options
        self.pacs = Pacs(handlers=handlers, **options)
        self.peer = self.pacs.peer

    def _asked(self, event):
        self.requests.append((event.action_type, *read_request(event.action_information)))
        if self.at_once:
            self.then(self, event.assoc)
        else:
            threading.Thread(target=self._later, args=[event.assoc], daemon=True).start()
        return self.status, None

    def _sent(self, event):
        if isinstance(event.pdu, P_DATA_TF):
            self.answered.set()

    def _later(self, assoc):
        if self.answered.wait(20):
            self.then(self, assoc)

    def report(self, assoc, ds, event_type=1):
        status, _ = assoc.send_n_event_report(ds, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        self._responses.put(status.get("Status"))

    def responses(self, number):
        """What we answered to its results."""
        return [self._responses.get(timeout=20) for _ in range(number)]


@pytest.fixture
def committing():
    started = []

    def start(*args, **options):
        started.append(Committing(*args, **options))
        return started[-1]

    yield start
    for each in started:
        each.pacs.stop()


def ask(peer, **options):
    return request_commitment(
        BOTH, peer, "CXR", TRANSACTION, **{"timeout_s": 20, "wait_s": 20} | options
    )


ALL = Commitment(TRANSACTION, (f"{ROOT}.1", f"{ROOT}.2"))


@pytest.mark.parametrize("at_once", [False, True], ids=["after the answer", "before the answer"])
def test_a_result_on_the_same_association_is_taken_and_answered(committing, at_once):
    pacs = committing(then=lambda self, assoc: self.report(assoc, result()), at_once=at_once)
    assert ask(pacs.peer) == ALL
    assert pacs.requests == [(1, TRANSACTION, BOTH)]
    assert pacs.pacs.released.wait(20)
    assert pacs.responses(1) == [0x0000]


def test_a_result_with_failures_tells_each_reason(committing):
    failing = Commitment(TRANSACTION, (f"{ROOT}.1",), ((f"{ROOT}.2", 0x0112),))
    ds = result_dataset(failing, BOTH)
    assert ask(committing(then=lambda self, assoc: self.report(assoc, ds, 2)).peer) == failing


def test_without_a_result_in_time_it_comes_later(committing):
    pacs = committing()
    assert ask(pacs.peer, wait_s=0.1) is None
    assert pacs.pacs.released.wait(20)


@pytest.mark.parametrize("end", ["release", "abort"])
def test_a_peer_that_ends_the_association_is_not_waited_for(committing, end):
    pacs = committing(then=lambda _, assoc: getattr(assoc, end)())
    assert ask(pacs.peer, wait_s=250) is None  # the test would run into its time limit


def test_what_is_not_our_result_is_refused_and_waited_past(committing, caplog):
    other = Commitment(f"{ROOT}.98", (f"{ROOT}.1",))
    garbage = Dataset()  # where a sequence should be
    garbage[0x00081195] = DataElement(0x00081195, "UI", TRANSACTION)
    garbage[0x00081199] = DataElement(0x00081199, "OB", b"\xff\xfe\x00\xe0\xff\x00\x00\x00junk")
    reports = [
        (result(TransactionUID="x y"), 1),
        (garbage, 1),
        (result(), 3),
        (result(ReferencedSOPSequence=Sequence([Dataset()])), 1),
        (result_dataset(other, BOTH), 1),
        (result(), 1),
    ]

    def then(self, assoc):
        for report in reports:
            self.report(assoc, *report)

    pacs = committing(then=then)
    with caplog.at_level(logging.WARNING, "dicom_node"):
        assert ask(pacs.peer) == ALL
    assert pacs.responses(6) == [0x0115, 0x0115, 0x0113, 0x0115, 0x0110, 0x0000]
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("dicom_node")]
    assert len(ours) == 5
    assert all(str(pacs.peer) in words for words in ours)


@pytest.mark.parametrize("status", [0x0112, 0x0118, 0x0122, 0x0123, 0x0124, 0x0211, 0xC001])
def test_a_request_that_is_refused_for_good_says_so(committing, status):
    pacs = committing(status)
    with pytest.raises(ReportRefused, match="refused to commit itself") as error:
        ask(pacs.peer)
    assert (error.value.status, error.value.peer) == (status, str(pacs.peer))
    assert pacs.pacs.released.wait(20)


@pytest.mark.parametrize("status", [0x0110, 0x0213, 0xA700])
def test_a_request_that_may_be_taken_later_is_made_again(committing, status):
    with pytest.raises(PeerError) as error:
        ask(committing(status).peer)
    assert error.value.status == status


@pytest.mark.parametrize("accepts", [[(VERIFICATION, IMPLICIT)], [(SR, EXPLICIT)]])
def test_a_peer_that_does_not_offer_it_is_not_asked_again(committing, accepts):
    with pytest.raises(ReportRefused, match="does not offer Storage Commitment"):
        ask(committing(accepts=accepts).peer)


def test_a_peer_that_does_not_answer_is_asked_again(committing):
    given_up = threading.Event()
    pacs = committing(then=lambda *_: given_up.wait(60), at_once=True)
    with pytest.raises(PeerError, match="did not answer"):
        ask(pacs.peer, timeout_s=0.5)
    given_up.set()


def test_a_peer_that_hangs_up_is_asked_again(committing):
    pacs = committing(then=lambda _, assoc: assoc.abort(), at_once=True)
    with pytest.raises(PeerError, match="did not answer"):
        ask(pacs.peer)
