"""What a connection may not do, tried on a running node."""

import logging
import re
import socket
import ssl
import struct

import numpy as np
import pytest
from pynetdicom import AE

from tests.certificates import Authority
from tests.datasets import image
from tests.nodes import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.CRITICAL, "pynetdicom")  # as worker.logs does
    caplog.set_level(logging.INFO)

    def lines(level=logging.WARNING):
        return [r.getMessage() for r in caplog.records if r.levelno >= level]

    return lines


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def pdu(kind, length, body=b""):
    return struct.pack(">BxL", kind, length) + body


ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02"  # PS3.8 9.3.8, of the service-provider


def answer(connection):
    """Read until the node hangs up."""
    data = b""
    while True:
        try:
            more = connection.recv(4096)
        except ConnectionError:
            return data
        if not more:
            return data
        data += more


def associate(node, tls=None, port=None, ae_title="MODALITY"):
    ae = AE(ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 30
    ae.add_requested_context(image().SOPClassUID, "1.2.840.10008.1.2.1")
    port = port or (node.running.tls_port if tls else node.running.port)
    return ae.associate("127.0.0.1", port, tls_args=(tls, None) if tls else None)


def ended(node):
    wait_until(lambda: node.running.open_associations == 0)


ADDRESS = r"closed the connection from 127\.0\.0\.1:\d+: "


def one_line(log, pattern):
    wait_until(lambda: log())
    (line,) = log()
    assert re.fullmatch(ADDRESS + pattern, line), line


# --- size ------------------------------------------------------------------------------------


def test_a_huge_pdu_before_an_association_is_refused_by_its_header(start, log):
    node = start()
    with connect(node.running.port) as peer:
        peer.sendall(pdu(0x01, 300 << 20, b"\0" * 1000))
        assert answer(peer)[:1] in (b"\x07", b"")
    one_line(log, "a PDU of 314572800 bytes; at most 1048576 are taken before an association")
    ended(node)
    assert node.store(image()) == [0x0000]


def test_a_pdu_beyond_what_we_announced_aborts_the_association(start, log):
    node = start(maximum_pdu=16384)
    assoc = associate(node)
    assoc.dul.socket.socket.sendall(pdu(0x04, 20000))
    wait_until(lambda: assoc.is_aborted)
    one_line(log, "a PDU of 20000 bytes; at most 16384 are taken in one, as we announced")
    ended(node)


def test_a_pdu_as_large_as_we_announced_is_taken(start):
    node = start(maximum_pdu=16384)
    assoc = associate(node)
    big = image(pixels=np.zeros((200, 200), np.uint16))
    assert assoc.send_c_store(big).Status == 0x0000
    assoc.release()


def test_a_data_set_without_end_is_aborted(start, log, monkeypatch):
    monkeypatch.setattr("dicom_node.guard.MESSAGE_LIMIT", 20000)
    node = start()
    assoc = associate(node)
    pdv = struct.pack(">LBB", 8002, 1, 0) + b"\0" * 8000
    for _ in range(3):
        assoc.dul.socket.socket.sendall(pdu(0x04, len(pdv), pdv))
    wait_until(lambda: assoc.is_aborted)
    one_line(log, "it sends a data set beyond all measure")


# --- time ------------------------------------------------------------------------------------


def test_bytes_that_dribble_in_do_not_hold_a_connection(start, log):
    node = start(network_timeout_s=1.0)
    with connect(node.running.port) as peer:
        for byte in pdu(0x01, 1000):
            peer.sendall(bytes([byte]))
        stopped = False
        for _ in range(200):
            try:
                peer.sendall(b"\0")
                peer.settimeout(0.05)
                stopped = not peer.recv(100)
            except TimeoutError:
                continue
            except ConnectionError:
                stopped = True
            if stopped:
                break
        assert stopped
    one_line(log, "its PDU did not come in time")
    ended(node)


def test_a_pdu_that_never_ends_aborts_the_association(start, log):
    node = start(network_timeout_s=2.0)
    assoc = associate(node)
    assoc.dul.socket.socket.sendall(pdu(0x04, 1000, b"\0" * 10))
    wait_until(lambda: assoc.is_aborted)
    one_line(log, "its PDU did not come in time")
    ended(node)


def test_a_silent_association_is_aborted_in_one_line(start, log):
    node = start(network_timeout_s=2.0)
    associate(node)
    wait_until(lambda: log())
    (line,) = log()
    assert line.startswith("association was silent for too long: calling 'MODALITY'")
    ended(node)


# --- language --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rubbish",
    [b"GET / HTTP/1.1\r\n\r\n" * 20, b"\xff" * 4000, b"\x00" * 6, b"SSH-2.0-OpenSSH_9.2\r\n"],
)
def test_what_is_not_dicom_is_one_line(start, log, rubbish):
    node = start()
    with connect(node.running.port) as peer:
        peer.sendall(rubbish)
        assert answer(peer) in (ABORT + b"\x01", b"")  # b"" when the connection was reset
    one_line(log, "what it sends is not DICOM")
    ended(node)


def test_a_request_that_cannot_be_decoded_is_one_line(start, log):
    node = start()
    with connect(node.running.port) as peer:
        peer.sendall(pdu(0x01, 200, b"\xff" * 200))
        wait_until(lambda: log())
    one_line(log, "it sends a PDU that cannot be decoded")
    ended(node)
    assert node.store(image()) == [0x0000]


def test_a_pdu_that_cannot_be_decoded_aborts_the_association(start, log):
    node = start()
    assoc = associate(node)
    assoc.dul.socket.socket.sendall(pdu(0x04, 20, b"\xff" * 20))
    wait_until(lambda: assoc.is_aborted)
    one_line(log, "it sends a PDU that cannot be decoded")
    ended(node)


def test_tls_on_the_plain_port_is_named(start, log, authority):
    node = start()
    with connect(node.running.port) as peer, pytest.raises(OSError, match=r"EOF|reset"):
        authority.client().wrap_socket(peer)
    one_line(log, rf"TLS on port {node.running.port}, which takes plain DICOM only")
    ended(node)


# --- TLS -------------------------------------------------------------------------------------


@pytest.fixture
def start_tls(start, authority):
    return lambda **config: start(tls_port=0, tls=authority.server(), **config)


def test_both_ports_take_instances(start_tls, authority):
    node = start_tls()
    assert node.running.tls_port != node.running.port
    assoc = associate(node, authority.client())
    assert assoc.send_c_store(image()).Status == 0x0000
    assoc.release()
    assert node.store(image()) == [0x0000]
    assert len(node.received) == 2


def test_a_node_may_listen_with_tls_only(start_tls, authority):
    node = start_tls(plaintext=False)
    assert node.running.port == node.running.tls_port
    assoc = associate(node, authority.client())
    assert assoc.is_established
    assoc.release()


def test_plain_dicom_on_the_tls_port_is_named(start_tls, log):
    node = start_tls()
    assert not associate(node, port=node.running.tls_port).is_established
    one_line(log, rf"plain DICOM on port {node.running.tls_port}, which takes TLS only")
    ended(node)


def test_rubbish_on_the_tls_port_is_named(start_tls, log):
    node = start_tls()
    with connect(node.running.tls_port) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer(peer)
    one_line(log, rf"what it sends is no TLS, on port {node.running.tls_port}, .*")


def test_a_client_without_a_certificate_is_refused(start_tls, log, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.certificate)
    assert not associate(start_tls(), context).is_established
    one_line(log, "TLS: the client has no certificate")


def test_a_client_of_another_authority_is_refused(start_tls, log, authority, tmp_path):
    stranger = Authority(tmp_path / "other").client()
    stranger.load_verify_locations(authority.certificate)
    assert not associate(start_tls(), stranger).is_established
    one_line(log, "TLS: the client's certificate is not accepted: .*")


def test_a_client_whose_certificate_has_expired_is_refused(start_tls, log, authority):
    assert not associate(start_tls(), authority.client("late", days=-1)).is_established
    one_line(log, "TLS: the client's certificate is not accepted: certificate has expired")


def test_a_client_that_does_not_trust_us_is_named(start_tls, log, tmp_path):
    stranger = Authority(tmp_path / "other").client()
    assert not associate(start_tls(), stranger).is_established
    one_line(log, "TLS: the client does not trust our certificate")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_tls_is_refused(start_tls, log, authority):
    context = authority.client()
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert not associate(start_tls(), context).is_established
    one_line(log, "TLS: the client speaks an older TLS than 1.2")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_versions_of_tls_are_spoken(start_tls, authority, version):
    context = authority.client()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    assoc = associate(start_tls(), context)
    assert assoc.send_c_store(image()).Status == 0x0000
    assoc.release()


def test_clients_that_say_nothing_hold_up_nobody(start_tls, log, authority):
    node = start_tls(network_timeout_s=4.0)
    silent = [connect(node.running.tls_port) for _ in range(20)]
    assoc = associate(node, authority.client())
    assert assoc.send_c_store(image()).Status == 0x0000
    assoc.release()
    ended(node)
    for peer in silent:
        peer.close()
    assert {line.split(": ", 1)[1] for line in log()} == {
        "TLS: the client did not complete the handshake in time"
    }


def test_associations_are_counted_over_both_ports(start_tls, authority):
    node = start_tls(max_associations=1)
    first = associate(node, authority.client())
    assert associate(node).is_rejected
    first.release()
