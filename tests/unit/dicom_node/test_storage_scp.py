import logging
import random
import socket
import threading
import time
from ipaddress import ip_network

import pytest
from pynetdicom.dimse_messages import C_STORE_RQ

from dicom_node.errors import ConfigurationError
from dicom_node.listener import is_allowed
from tests.datasets import ROOT, image, part10
from tests.nodes import Node, accepts, wait_until


def test_a_stored_instance_is_on_disk_byte_for_byte(start):
    node, ds = start(), image()
    assert node.store(ds) == [0x0000]
    (received,) = node.received
    kept = node.archive.read(received.path)
    dataset = part10(ds)[part10(ds).index(b"\x08\x00\x05\x00") :]
    assert kept.endswith(dataset)
    assert received.calling_ae_title == "MODALITY"


def test_the_same_instance_again_is_a_success_and_other_bytes_are_not(start):
    node = start()
    other = image(PatientComments="changed")
    statuses = node.store(image(), image(), other)
    assert statuses[:2] == [0x0000, 0x0000]
    assert 0xC000 <= statuses[2] <= 0xCFFF
    assert len(list(node.archive.root.glob("quarantine/**/*.dcm"))) == 1


def test_a_failing_record_is_out_of_resources_and_the_next_one_is_stored(start):
    node = start()
    works = node.record
    calls = []

    def fails_once(received):
        calls.append(received)
        if len(calls) == 1:
            raise RuntimeError("database is down")
        return works(received)

    node.record = fails_once
    assert node.store(image(), image()) == [0xA700, 0x0000]


def test_the_peer_reads_the_comment_of_a_failure(start):
    node = start()
    assoc = node.associate()
    status = assoc.send_c_store(image(SeriesInstanceUID=None))
    assoc.release()
    assert status.Status == 0xC000
    assert status.ErrorComment == "SeriesInstanceUID is missing or invalid"


def test_echo_is_answered_and_does_not_count_as_sending(start):
    node = start()
    assoc = node.associate()
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    wait_until(lambda: node.running.open_associations == 0)
    assert node.closed == []


def test_all_storage_classes_are_accepted_and_others_are_not(start):
    uids = ["1", "1.1", "1.1.1", "7"]
    classes = [f"1.2.840.10008.5.1.4.1.1.{uid}" for uid in uids]
    assoc = start().associate(sop_classes=[*classes, "1.2.840.10008.5.1.4.1.1.2"])
    assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == classes
    assoc.release()


def test_an_unknown_calling_ae_title_is_rejected_when_a_list_is_set(start):
    node = start(allowed_ae_titles=frozenset({"MODALITY"}))
    stranger = node.associate(calling="STRANGER")
    assert stranger.is_rejected
    assert node.store(image()) == [0x0000]


def test_another_called_ae_title_is_rejected_only_when_that_is_asked_for(start):
    assert start(require_called_ae_title=True).associate(called="OTHER").is_rejected
    assoc = start().associate(called="OTHER")
    assert assoc.is_established
    assoc.release()


@pytest.mark.parametrize("allowed", ["192.0.2.0/24", "2001:db8::/32"])
def test_a_connection_from_elsewhere_is_closed_unread(start, caplog, allowed):
    node = start(allowed_hosts=(ip_network(allowed),))
    with socket.create_connection(("127.0.0.1", node.running.port)) as peer:
        assert peer.recv(1) == b""
    wait_until(lambda: caplog.messages)
    assert caplog.messages[-1] == "closed the connection from 127.0.0.1: not in CXR_ALLOWED_HOSTS"
    assert node.running.open_associations == 0


def test_a_connection_from_an_allowed_network_is_taken(start):
    node = start(allowed_hosts=(ip_network("192.0.2.1"), ip_network("127.0.0.0/8")))
    assert node.store(image()) == [0x0000]


def has_dual_stack():
    try:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True):
            return True
    except (OSError, ValueError):
        return False


@pytest.mark.skipif(not has_dual_stack(), reason="this machine has no IPv6")
def test_an_ipv4_peer_of_an_ipv6_socket_is_known_by_its_ipv4_address(start):
    node = start(bind="::", allowed_hosts=(ip_network("127.0.0.1"),))
    assert node.store(image()) == [0x0000]


@pytest.mark.parametrize(
    ("host", "is_in"),
    [
        ("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.3.7", False),
        ("fe80::1%eth0", True), ("2001:db8::1", False),
    ],
)  # fmt: skip
def test_an_address_is_in_a_network_or_not(host, is_in):
    assert is_allowed(host, [ip_network("192.0.2.0/24"), ip_network("fe80::/10")]) is is_in


def test_too_many_connections_are_closed_and_the_rest_goes_on(start, caplog):
    node = start(max_associations=1)
    held = [socket.create_connection(("127.0.0.1", node.running.port)) for _ in range(30)]
    wait_until(lambda: any(m.endswith("18 are open already") for m in caplog.messages))
    for connection in held:
        connection.close()
    wait_until(lambda: node.running.open_associations == 0)
    assert node.store(image()) == [0x0000]


def test_our_documents_are_taken_and_those_of_others_are_not(start):
    node, report = start(), "1.2.840.10008.5.1.4.1.1.88.34"
    assoc = node.associate(sop_classes=[report])
    ours = image(SOPClassUID=report, Manufacturer="cxr-worker")
    assert assoc.send_c_store(ours).Status == 0x0000
    assert assoc.send_c_store(image(SOPClassUID=report)).Status == 0x0122
    assoc.release()
    wait_until(lambda: node.running.open_associations == 0)
    assert (node.received, node.closed) == ([], [])


def test_who_associates_is_logged(start, caplog):
    node = start()
    with caplog.at_level(logging.INFO):
        node.associate().release()
    assert "association accepted: calling 'MODALITY', called 'NODE'" in caplog.text


@pytest.mark.parametrize(
    ("config", "titles", "why"),
    [
        ({"allowed_ae_titles": frozenset({"MODALITY"})}, {"calling": "STRANGER"},
         "CXR_ALLOWED_AE_TITLES does not have the calling AE title"),
        ({"require_called_ae_title": True}, {"called": "OTHER"}, "the called AE title is not ours"),
        ({"max_associations": 1}, {}, "as many are open as CXR_MAX_ASSOCIATIONS allows"),
    ],
)  # fmt: skip
def test_a_rejection_is_one_line_that_says_why(start, caplog, config, titles, why):
    node = start(**config)
    first = node.associate()
    assert node.associate(**titles).is_rejected
    names = {"calling": "MODALITY", "called": "NODE"} | titles
    who = f"calling {names['calling']!r}, called {names['called']!r}, from 127.0.0.1"
    lines = [line for line in caplog.messages if line.startswith("association rejected")]
    assert lines == [f"association rejected: {who}: {why}"]
    first.release()


def test_too_many_associations_are_rejected(start):
    node = start(max_associations=1)
    first = node.associate()
    assert node.associate().is_rejected
    first.release()


def test_two_associations_store_at_the_same_time(start):
    node = start()
    both_inside = threading.Barrier(2, timeout=30)
    keep = node.record

    def together(received):
        both_inside.wait()
        return keep(received)

    node.record = together
    statuses = []
    instances = [image(SOPInstanceUID=f"{ROOT}.{n}") for n in (11, 12)]
    threads = [
        threading.Thread(target=lambda ds=ds: statuses.extend(node.store(ds))) for ds in instances
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0x0000, 0x0000]
    assert len({r.association_id for r in node.received}) == 2


@pytest.mark.parametrize("how", ["release", "abort", "lose"])
def test_the_end_of_an_association_is_told_once_however_it_ends(start, how):
    node = start()
    assoc = node.associate()
    assoc.send_c_store(image())
    if how == "lose":
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    else:
        getattr(assoc, how)()
    wait_until(lambda: node.closed)
    wait_until(lambda: node.running.open_associations == 0)
    assert node.closed == [node.received[0].association_id]


def test_the_end_is_told_after_the_last_instance_is_recorded(start):
    node = start()
    inside, go_on = threading.Event(), threading.Event()
    keep = node.record
    order = []

    def slow(received):
        inside.set()
        go_on.wait(30)
        order.append("recorded")
        return keep(received)

    node.record = slow
    node.on_closed = lambda _: order.append("closed")
    assoc = node.associate()
    sender = threading.Thread(target=lambda: assoc.send_c_store(image()))
    sender.start()
    inside.wait(30)
    assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    time.sleep(0.1)
    assert order == []
    go_on.set()
    sender.join()
    wait_until(lambda: order == ["recorded", "closed"])


def test_a_failing_listener_of_the_end_does_not_harm_the_node(start):
    node = start()

    def fail(_):
        raise RuntimeError("database is down")

    node.on_closed = fail
    assert node.store(image()) == [0x0000]
    assert node.store(image()) == [0x0000]


def test_a_peer_that_says_nothing_is_dropped(start):
    node = start(network_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", node.running.port)) as peer:
        peer.sendall(b"\x01\x00\x00\x00\x10\x00")  # the head of an A-ASSOCIATE-RQ, then silence
        wait_until(lambda: node.running.open_associations == 1)
        wait_until(lambda: node.running.open_associations == 0)


def test_rubbish_on_the_port_does_not_harm_the_node(start):
    node = start()
    with socket.create_connection(("127.0.0.1", node.running.port)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n" * 50)
    wait_until(lambda: node.running.open_associations == 0)
    assert node.store(image()) == [0x0000]


@pytest.mark.parametrize("missing", ["MessageID", "AffectedSOPClassUID", "AffectedSOPInstanceUID"])
def test_a_request_that_lacks_what_it_must_have_is_aborted(start, caplog, missing):
    node, message = start(), C_STORE_RQ()
    assoc = node.associate()
    for keyword, value in {
        "CommandField": 1, "Priority": 0, "CommandDataSetType": 0x0101, "CommandGroupLength": 0,
        "MessageID": 1, "AffectedSOPClassUID": image().SOPClassUID,
        "AffectedSOPInstanceUID": image().SOPInstanceUID,
    }.items():  # fmt: skip
        setattr(message.command_set, keyword, value)
    del message.command_set[missing]
    for part in message.encode_msg(1, 16384):
        assoc.dul.send_pdu(part)
    wait_until(lambda: assoc.is_aborted)
    assert "a C-STORE lacks what it must have: calling 'MODALITY'" in caplog.text
    assert node.store(image()) == [0x0000]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_instances_are_answered_each_and_the_next_is_stored(start, tmp_path):
    node, chance, good = start(), random.Random(7), part10(image())
    begin = good.index(b"\x08\x00\x05\x00")
    assoc, statuses = node.associate(), set()
    for number in range(40):
        data = bytearray(good)
        for _ in range(chance.choice((1, 2, 20))):
            data[chance.randrange(begin, len(data))] = chance.randrange(256)
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data[: chance.randrange(begin, len(data))] if number % 5 == 0 else data)
        statuses.add(assoc.send_c_store(path).Status)
    assert assoc.is_established
    assoc.release()
    assert statuses <= {0x0000, 0x0122, 0xA900, 0xC000, 0xC010}
    assert len(statuses) >= 3
    other = image(SOPInstanceUID=f"{ROOT}.99", StudyInstanceUID=f"{ROOT}.98")
    assert node.store(other) == [0x0000]


def test_a_burst_of_connections_waits_in_line(start):
    node = start()
    waited = []
    for _ in range(150):
        began = time.monotonic()
        socket.create_connection(("127.0.0.1", node.running.port)).close()
        waited.append(time.monotonic() - began)
    assert max(waited) < 0.9  # a connection that is dropped is tried again after a second
    assert node.store(image()) == [0]


def test_a_probe_of_the_port_does_not_stay_an_association(start):
    node = start(max_associations=1)
    for _ in range(3):
        assert accepts(node.running.port)

    def associates():
        assoc = node.associate()
        assoc.release()
        return not assoc.is_rejected

    wait_until(associates)


def test_shutdown_waits_for_a_running_association(start):
    node = start()
    assoc = node.associate()
    stopper = threading.Thread(target=node.running.shutdown, args=(30,))
    stopper.start()
    wait_until(lambda: not accepts(node.running.port))
    assert assoc.send_c_store(image()).Status == 0x0000
    assoc.release()
    stopper.join(20)
    assert not stopper.is_alive()
    assert len(node.closed) == 1


def test_shutdown_aborts_what_does_not_end_in_time(start):
    node = start()
    assoc = node.associate()
    assoc.send_c_store(image())
    began = time.monotonic()
    node.running.shutdown(0.2)
    assert time.monotonic() - began < 10
    assert node.running.open_associations == 0
    wait_until(lambda: assoc.is_aborted)
    assert len(node.closed) == 1


def test_shutdown_twice_is_harmless(start):
    node = start()
    node.running.shutdown(0)
    node.running.shutdown(0)


def test_a_port_in_use_is_a_configuration_error(start, tmp_path):
    port = start().running.port
    with pytest.raises(ConfigurationError) as error:
        Node(tmp_path, port=port)
    assert str(error.value).startswith(f"CXR_PORT: port {port} is in use")


def test_an_address_that_is_not_ours_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        Node(tmp_path, bind="192.0.2.1")
    assert error.value.setting == "CXR_BIND"


def test_a_node_without_any_port_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="CXR_PLAINTEXT: is off, so CXR_TLS_PORT must be"):
        Node(tmp_path, plaintext=False)


def test_tls_without_a_certificate_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="CXR_TLS_CERTIFICATE: must be set"):
        Node(tmp_path, tls_port=0)
