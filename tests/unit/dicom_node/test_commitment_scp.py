"""Storage Commitment, with pynetdicom as the modality that asks, or the PACS that answers."""

import logging
import threading

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from dicom_node import commitment_reporter
from dicom_node.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Commitment,
    Reference,
    request_dataset,
    result_dataset,
)
from dicom_node.peer import Peer
from tests.certificates import Authority
from tests.datasets import image
from tests.nodes import wait_until

# The modality's own library, when it is aborted while it answers.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

CR, DX = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"
HELD, LOST, UNKNOWN = (Reference(CR, f"2.25.{n}") for n in (1, 2, 3))
SYNTAX = "1.2.840.10008.1.2.1"


def failure_of(reference):
    if reference.sop_instance_uid == HELD.sop_instance_uid:
        return None if reference.sop_class_uid == CR else 0x0119
    return 0x0110 if reference == LOST else 0x0112


class Modality:
    """An SCU that keeps the results it is told, on whatever association."""

    def __init__(self, status=0x0000, tls=None, ae_title="MODALITY"):
        self.results, self.status = [], status
        self.told = threading.Event()
        self.ae = AE(ae_title)
        self.ae.acse_timeout = self.ae.dimse_timeout = self.ae.network_timeout = 20
        self.ae.add_supported_context(PUSH_MODEL, SYNTAX, scu_role=False, scp_role=True)
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        self.roles = []
        self.server = self.ae.start_server(
            ("127.0.0.1", 0), block=False, ssl_context=tls,
            evt_handlers=[*self.handlers, (evt.EVT_ACCEPTED, self._accepted)],
        )  # fmt: skip
        self.peer = Peer(ae_title, "127.0.0.1", self.server.server_address[1])

    def _accepted(self, event):
        roles = event.assoc.requestor.role_selection
        self.roles.append((roles[PUSH_MODEL].scu_role, roles[PUSH_MODEL].scp_role))

    def _take(self, event):
        self.results.append((event.event_type, event.event_information))
        self.told.set()
        return self.status, None

    def associate(self, node, sop_classes=(PUSH_MODEL, CR)):
        ae = AE(self.ae.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        for uid in sop_classes:
            ae.add_requested_context(uid, SYNTAX)
        return ae.associate("127.0.0.1", node.running.port, evt_handlers=self.handlers)

    def stop(self):
        threading.Thread(target=self.server.shutdown, daemon=True).start()


@pytest.fixture
def modality():
    modality = Modality()
    yield modality
    modality.stop()


@pytest.fixture
def commits(start, modality, monkeypatch):
    monkeypatch.setattr(commitment_reporter, "WAITS_S", (0.0, 0.1, 0.1, 0.1))

    def commits(**config):
        services = {"failure_of": failure_of} | config.pop("services", {})
        peers = {modality.peer.ae_title: modality.peer}
        return start(services=services, **({"peers": peers} | config))

    return commits


def ask(assoc, references, uid="2.25.9", action=1, instance=PUSH_MODEL_INSTANCE, ds=None):
    information = request_dataset(uid, references) if ds is None else ds
    status, _ = assoc.send_n_action(information, action, PUSH_MODEL, instance)
    return status.Status


def told(result):
    """Event type, committed UIDs and failures of a result."""
    kind, ds = result
    committed = [item.ReferencedSOPInstanceUID for item in ds.get("ReferencedSOPSequence", [])]
    failed = [
        (item.ReferencedSOPInstanceUID, item.FailureReason)
        for item in ds.get("FailedSOPSequence", [])
    ]
    assert ds.TransactionUID == "2.25.9"
    return kind, committed, failed


# --- as SCP ----------------------------------------------------------------------------------


def test_the_result_comes_on_the_association_that_asked(commits, modality):
    assoc = modality.associate(commits())
    assert ask(assoc, [HELD]) == 0x0000
    assert modality.told.wait(20)
    assert assoc.is_established
    assoc.release()
    assert told(modality.results[0]) == (1, [HELD.sop_instance_uid], [])


def test_what_is_not_durably_stored_is_not_committed_and_the_reason_is_told(commits, modality):
    other_class = Reference(DX, HELD.sop_instance_uid)
    assoc = modality.associate(commits())
    ask(assoc, [LOST, UNKNOWN, other_class])
    assert modality.told.wait(20)
    assoc.release()
    kind, committed, failed = told(modality.results[0])
    assert (kind, committed) == (2, [])
    assert [reason for _, reason in failed] == [0x0110, 0x0112, 0x0119]


def test_a_modality_that_goes_on_at_once_is_answered_and_told(commits, modality):
    node = commits()
    assoc = modality.associate(node)
    assert ask(assoc, [HELD]) == 0x0000
    assert assoc.send_c_store(image()).Status == 0x0000
    assert ask(assoc, [HELD]) == 0x0000
    assoc.release()
    wait_until(lambda: modality.results)
    assert all(told(result)[0] == 1 for result in modality.results)


@pytest.mark.parametrize("end", ["abort", "release"])
def test_a_modality_that_ends_at_once_is_told_on_a_new_association(commits, modality, end):
    node = commits()
    assoc = modality.associate(node)
    # It neither waits for the result nor acknowledges it.
    assoc.unbind(evt.EVT_N_EVENT_REPORT, modality._take)
    ask(assoc, [HELD, UNKNOWN])
    getattr(assoc, end)()
    assert modality.told.wait(20)
    assert told(modality.results[0])[0] == 2
    assert modality.roles == [(False, True)]  # PS3.7 D.3.3.4: we ask, and are the SCP


def test_the_result_is_told_with_tls_where_the_peer_takes_that(commits, tmp_path):
    authority = Authority(tmp_path / "authority")
    secure = Modality(tls=authority.server("secure"), ae_title="SECURE")
    node = commits(peers={"SECURE": secure.peer}, peer_tls={"SECURE": authority.client("node")})
    assoc = secure.associate(node)
    assoc.unbind(evt.EVT_N_EVENT_REPORT, secure._take)
    ask(assoc, [HELD])
    assoc.abort()
    assert secure.told.wait(20)
    secure.stop()


def test_a_result_that_is_not_taken_is_told_again(commits, modality):
    modality.status = 0x0110
    assoc = modality.associate(commits())
    assoc.unbind(evt.EVT_N_EVENT_REPORT, modality._take)
    ask(assoc, [HELD])
    assoc.abort()
    wait_until(lambda: modality.results)
    modality.status = 0x0000
    wait_until(lambda: len(modality.results) >= 2)


def test_a_modality_that_cannot_be_reached_is_named_in_the_end(commits, modality, caplog):
    assoc = modality.associate(commits(peers={"MODALITY": Peer("MODALITY", "127.0.0.1", 1)}))
    assoc.unbind(evt.EVT_N_EVENT_REPORT, modality._take)
    ask(assoc, [HELD])
    assoc.abort()
    words = "storage commitment result 2.25.9 did not reach MODALITY@127.0.0.1:1"
    wait_until(lambda: words in caplog.text)


def test_a_modality_that_nobody_knows_the_address_of_is_named(commits, modality, caplog):
    assoc = modality.associate(commits(peers={}))
    assoc.unbind(evt.EVT_N_EVENT_REPORT, modality._take)
    ask(assoc, [HELD])
    assoc.abort()
    wait_until(lambda: "CXR_PEERS has no address of MODALITY" in caplog.text)


def test_a_database_that_is_away_commits_nothing(commits, modality):
    def fail(_):
        raise RuntimeError("database is down")

    assoc = modality.associate(commits(services={"failure_of": fail}))
    assert ask(assoc, [HELD]) == 0x0000
    assert modality.told.wait(20)
    assoc.release()
    assert told(modality.results[0]) == (2, [], [(HELD.sop_instance_uid, 0x0110)])


def without(keyword):
    ds = request_dataset("2.25.9", [HELD])
    del ds[keyword]
    return ds


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"ds": without("TransactionUID")}, 0x0115),
        ({"ds": without("ReferencedSOPSequence")}, 0x0115),
        ({"references": []}, 0x0115),
        ({"uid": "no uid"}, 0x0115),
        ({"action": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
    ],
)
def test_a_wrong_request_is_refused_by_its_status(commits, modality, request_, status):
    assoc = modality.associate(commits())
    assert ask(assoc, **({"references": [HELD]} | request_)) == status
    assert ask(assoc, [HELD], uid="2.25.9") == 0x0000
    assoc.release()


def test_a_transaction_uid_that_is_used_for_something_else_fails(commits, modality):
    assoc = modality.associate(commits())
    ask(assoc, [HELD])
    assert modality.told.wait(20)
    wait_until(lambda: len(modality.results) == 1)
    ask(assoc, [UNKNOWN])
    wait_until(lambda: len(modality.results) == 2)
    assoc.release()
    assert told(modality.results[1]) == (2, [], [(UNKNOWN.sop_instance_uid, 0x0131)])


# --- as SCU ----------------------------------------------------------------------------------


def report(node, event_type, commitment, instance=PUSH_MODEL_INSTANCE, ds=None):
    """Tell a result as a PACS does, on an association of its own where it is the SCP."""
    ae = AE("PACS")
    ae.add_requested_context(PUSH_MODEL, SYNTAX)
    assoc = ae.associate(
        "127.0.0.1", node.running.port, ext_neg=[build_role(PUSH_MODEL, scp_role=True)]
    )
    assert assoc.acceptor.role_selection[PUSH_MODEL].scp_role
    information = ds or result_dataset(commitment, [HELD, LOST])
    status, _ = assoc.send_n_event_report(information, event_type, PUSH_MODEL, instance)
    assoc.release()
    return status.Status


RESULT = Commitment("2.25.7", (HELD.sop_instance_uid,), ((LOST.sop_instance_uid, 0x0112),))


def test_what_a_peer_says_to_our_request_is_passed_on(commits):
    taken = []
    node = commits(services={"on_commitment": lambda c: taken.append(c) or True})
    assert report(node, 2, RESULT) == 0x0000
    assert taken == [RESULT]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({}, 0x0115),  # a transaction that is none of ours
        ({"event_type": 3}, 0x0113),
        ({"instance": "1.2.3"}, 0x0112),
        ({"ds": Dataset.from_json('{"00081195": {"vr": "UI"}}')}, 0x0115),
    ],
)
def test_a_wrong_result_is_refused_by_its_status(commits, request_, status):
    assert report(commits(), **({"event_type": 2, "commitment": RESULT} | request_)) == status


def test_a_result_that_cannot_be_recorded_may_be_told_again(commits, caplog):
    def fail(_):
        raise RuntimeError("2.25.7")

    with caplog.at_level(logging.ERROR):
        assert report(commits(services={"on_commitment": fail}), 2, RESULT) == 0x0110
    assert "a storage commitment result is not recorded: RuntimeError" in caplog.text
