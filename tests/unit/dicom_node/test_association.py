import socket
import threading

import pytest
from pynetdicom import evt

from dicom_node import association
from dicom_node.association import accepted, associated, limited
from dicom_node.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Commitment,
    Reference,
    result_dataset,
)
from dicom_node.errors import AssociationRejected, PeerError
from dicom_node.storage_scu import echo
from tests.datasets import ROOT
from tests.pacs import EXPLICIT, IMPLICIT, VERIFICATION, Pacs, listening

ECHO = (VERIFICATION, IMPLICIT)


@pytest.fixture
def pacs():
    started = []

    def start(*accepts, **options):
        started.append(Pacs(accepts=accepts, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_what_the_peer_accepted_is_known_by_abstract_syntax(pacs):
    peer = pacs(ECHO, (VERIFICATION, EXPLICIT)).peer
    pairs = [ECHO, (VERIFICATION, EXPLICIT), (PUSH_MODEL, EXPLICIT)]
    with associated(peer, "CXR", pairs, 20) as assoc:
        assert accepted(assoc) == {VERIFICATION: {IMPLICIT, EXPLICIT}}


def test_an_association_is_released_at_the_end_and_aborted_on_an_error(pacs):
    aborted = threading.Event()
    peer = pacs(ECHO, handlers=[(evt.EVT_ABORTED, lambda _: aborted.set())])
    with associated(peer.peer, "CXR", [ECHO], 20):
        pass
    assert peer.released.wait(20)
    assert not aborted.is_set()
    with pytest.raises(KeyError), associated(peer.peer, "CXR", [ECHO], 20):
        raise KeyError
    assert aborted.wait(20)


def test_a_rejection_for_good_is_told_from_one_for_now(pacs):
    peer = pacs(ECHO)
    peer.entity.maximum_associations = 1
    with associated(peer.peer, "CXR", [ECHO], 20):
        with (
            pytest.raises(PeerError, match="for now") as busy,
            associated(peer.peer, "CXR", [ECHO], 20),
        ):
            pass
        assert not isinstance(busy.value, AssociationRejected)
    peer.entity.maximum_associations = 10
    peer.entity.require_calling_aet = ["SOMEBODY"]
    with (
        pytest.raises(AssociationRejected, match="check both AE titles"),
        associated(peer.peer, "CXR", [ECHO], 20),
    ):
        pass


def test_a_peer_that_never_ends_is_left_when_the_time_for_all_of_it_is_over(pacs):
    answers = 0
    with associated(pacs(ECHO).peer, "CXR", [ECHO], 60) as assoc, limited(assoc, 0.5):
        while "Status" in assoc.send_c_echo():  # each comes in time
            answers += 1
    assert answers


def test_we_may_be_the_scp_of_an_association_that_we_request(pacs):
    reported = threading.Event()

    def report(_):
        reported.set()
        return 0x0000, None

    peer = pacs(handlers=[(evt.EVT_N_EVENT_REPORT, report)], scu_of=[(PUSH_MODEL, IMPLICIT)])
    ds = result_dataset(Commitment(ROOT, (f"{ROOT}.1",)), [Reference(PUSH_MODEL, f"{ROOT}.1")])
    pairs = [(PUSH_MODEL, IMPLICIT)]
    with associated(peer.peer, "CXR", pairs, 20, scp_of=[PUSH_MODEL]) as assoc:
        status, _ = assoc.send_n_event_report(ds, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert status.Status == 0x0000
    assert reported.is_set()


def test_a_peer_that_does_not_answer_a_release_is_not_waited_for_long(pacs, monkeypatch):
    monkeypatch.setattr(association, "_RELEASE_S", 0.2)
    peer, done = pacs(ECHO), threading.Event()

    def relay(connection):
        """Pass all on but a release (PS3.8 9.3.6)."""
        with socket.create_connection(("127.0.0.1", peer.peer.port)) as real:
            while (pdu := connection.recv(65536)) and pdu[0] != 5:
                real.sendall(pdu)
                connection.sendall(real.recv(65536))
            done.wait(60)

    with listening(relay) as relayed:
        echo(relayed, "CXR", 250)  # the test would run into its time limit
    done.set()
