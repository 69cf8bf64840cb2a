import logging
import socket
import threading
import time

import pytest

from dicom_node.errors import ConfigurationError
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


def test_who_associates_is_logged(start, caplog):
    node = start(allowed_ae_titles=frozenset({"MODALITY"}))
    with caplog.at_level(logging.INFO):
        node.associate(calling="STRANGER")
        node.associate().release()
    assert "association rejected: calling 'STRANGER', called 'NODE', from 127.0.0.1" in caplog.text
    assert "association accepted: calling 'MODALITY', called 'NODE'" in caplog.text


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
