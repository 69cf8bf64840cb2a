import logging
import socket
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pynetdicom import AE, evt

from dicom_node.errors import PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.storage_scu import Sent, deliver, echo, send
from tests.datasets import ROOT, image, part10

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
CR, SR = image().SOPClassUID, "1.2.840.10008.5.1.4.1.1.88.34"
VERIFICATION = "1.2.840.10008.1.1"


class Pacs:
    """A Storage SCP that keeps what it gets and answers as told."""

    def __init__(self, *, accepts=((CR, EXPLICIT), (VERIFICATION, IMPLICIT)), answer=0x0000):
        self.answer, self.files = answer, []
        ae = AE("PACS")
        for sop_class, syntax in accepts:
            ae.add_supported_context(sop_class, syntax)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _: self.answer)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = Peer("PACS", "127.0.0.1", self.server.server_address[1])

    def _store(self, event):
        self.files.append(event.encoded_dataset())
        return self.answer(event) if callable(self.answer) else self.answer


@pytest.fixture
def pacs():
    started = []

    def start(**options):
        started.append(Pacs(**options))
        return started[-1]

    yield start
    for each in started:
        threading.Thread(target=each.server.shutdown, daemon=True).start()


@contextmanager
def listening(behave):
    """A TCP server that is no DICOM application: `behave` gets its one connection."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=lambda: behave(server.accept()[0]), daemon=True).start()
        yield Peer("PACS", "127.0.0.1", server.getsockname()[1])


def dataset_of(file):
    """The encoded dataset of a Part 10 file, which begins with (0008,0005)."""
    return file[file.index(b"\x08\x00\x05\x00") :]


def test_a_file_is_sent_byte_for_byte_in_its_own_transfer_syntax(pacs, tmp_path):
    peer = pacs()
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(image()))
    assert send([path], peer.peer, "CXR") == [
        Sent(image().SOPInstanceUID, 0x0000, "success (0x0000)")
    ]
    assert dataset_of(peer.files[0]) == dataset_of(path.read_bytes())


def test_bytes_datasets_and_files_go_in_one_association_in_order(pacs, tmp_path):
    peer = pacs()
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(image(SOPInstanceUID=f"{ROOT}.11")))
    told = []
    instances = [
        path,
        part10(image(SOPInstanceUID=f"{ROOT}.12")),
        image(SOPInstanceUID=f"{ROOT}.13"),
    ]
    answers = send(iter(instances), peer.peer, "CXR", on_sent=told.append)
    assert [a.sop_instance_uid for a in answers] == [f"{ROOT}.{n}" for n in (11, 12, 13)]
    assert told == answers
    assert [a.status for a in answers] == [0, 0, 0]


def test_each_instance_has_its_own_answer(pacs, tmp_path):
    peer = pacs(answer=lambda event: 0xA700 if len(peer.files) == 1 else 0xB000)
    text = tmp_path / "notes.txt"
    text.write_text("not DICOM")
    compressed = image(SOPInstanceUID=f"{ROOT}.12")
    compressed.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    answers = send([image(), text, compressed, image()], peer.peer, "CXR")
    assert [a.status for a in answers] == [0xA700, 0xC000, 0x0122, 0xB000]
    assert answers[1].comment == "not a readable DICOM Part 10 file"
    assert "does not accept" in answers[2].comment


def test_a_peer_of_the_default_transfer_syntax_only_gets_that(pacs):
    peer = pacs(accepts=[(CR, IMPLICIT)])
    assert send([image()], peer.peer, "CXR")[0].status == 0x0000
    received = dcmread(BytesIO(peer.files[0]))
    assert received.file_meta.TransferSyntaxUID == IMPLICIT
    assert received == image()


def test_a_peer_that_accepts_nothing_answers_for_each_instance(pacs):
    peer = pacs(accepts=[("1.2.840.10008.5.1.4.1.1.2", EXPLICIT)])
    assert [a.status for a in send([image(), image()], peer.peer, "CXR")] == [0x0122, 0x0122]


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_a_report_is_delivered_with_success_or_a_warning(pacs, status):
    assert deliver(part10(image()), pacs(answer=status).peer, "CXR", 20) == status


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0x0110])
def test_a_report_that_is_refused_for_good_says_so(pacs, status):
    peer = pacs(answer=status)
    with pytest.raises(ReportRefused) as error:
        deliver(image(), peer.peer, "CXR", 20)
    assert (error.value.status, error.value.peer) == (status, str(peer.peer))


def test_a_report_of_a_class_that_the_peer_does_not_take_is_refused(pacs):
    for accepts in ([(SR, EXPLICIT)], [(VERIFICATION, IMPLICIT)]):
        with pytest.raises(ReportRefused, match="does not accept this SOP class"):
            deliver(image(), pacs(accepts=accepts).peer, "CXR", 20)


@pytest.mark.parametrize("status", [0xA700, 0x0213, 0xFF42])
def test_a_report_that_may_be_taken_later_is_tried_again(pacs, status):
    with pytest.raises(PeerError) as error:
        deliver(image(), pacs(answer=status).peer, "CXR", 20)
    assert error.value.status == status


def test_a_peer_that_aborts_while_we_send_is_a_peer_error(pacs):
    def abort(event):
        event.assoc.abort()
        return 0x0000

    with pytest.raises(PeerError, match="did not answer"):
        deliver(image(), pacs(answer=abort).peer, "CXR", 20)


def test_a_peer_that_does_not_answer_in_time_is_a_peer_error(pacs):
    given_up = threading.Event()
    peer = pacs(answer=lambda _: 0x0000 if given_up.wait(60) else 0xA700)
    began = time.monotonic()
    with pytest.raises(PeerError, match="did not answer"):
        deliver(image(), peer.peer, "CXR", 0.5)
    assert time.monotonic() - began < 30
    given_up.set()


def test_a_peer_that_stops_reading_does_not_hold_us(pacs):
    peer = pacs()

    def associate_then_stall(connection):
        with socket.create_connection(("127.0.0.1", peer.peer.port)) as real:
            real.sendall(connection.recv(65536))
            connection.sendall(real.recv(65536))
            time.sleep(30)

    large = image(np.zeros((3000, 3000), np.uint16))
    with listening(associate_then_stall) as stalled:
        began = time.monotonic()
        with pytest.raises(PeerError):
            send([large], stalled, "CXR", timeout_s=0.5)
        assert time.monotonic() - began < 15


def test_echo_is_silent_when_all_is_well(pacs):
    assert echo(pacs().peer, "CXR", 20) is None


@pytest.mark.parametrize(
    ("behave", "advice"),
    [
        (lambda connection: time.sleep(2), "without TLS"),
        (lambda connection: connection.close(), "without TLS"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400\r\n\r\n"), "without TLS"),
    ],
)
def test_a_port_that_does_not_speak_dicom_is_told_apart(behave, advice):
    with listening(behave) as peer, pytest.raises(PeerError, match=advice):
        echo(peer, "CXR", 0.5)


def test_a_port_where_nothing_listens_is_told_apart():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        peer = Peer("PACS", "127.0.0.1", unused.getsockname()[1])
        with pytest.raises(PeerError, match=f"nothing listens on port {peer.port}"):
            echo(peer, "CXR", 1)


def test_a_host_that_is_not_known_is_told_apart():
    with pytest.raises(PeerError, match=r"host name .pacs\.invalid. is not known"):
        echo(Peer("PACS", "pacs.invalid", 104), "CXR", 1)


def test_a_rejected_association_says_why(pacs):
    peer = pacs()
    peer.server.ae.require_calling_aet = ["SOMEBODY"]
    with pytest.raises(PeerError, match="rejected the association: Calling AE title"):
        echo(peer.peer, "CXR", 20)


def test_a_peer_without_verification_is_told_apart(pacs):
    peer = pacs(accepts=[(CR, EXPLICIT)])
    with pytest.raises(PeerError, match="does not offer Verification"):
        echo(peer.peer, "CXR", 20)


def test_an_echo_that_is_refused_says_how(pacs):
    with pytest.raises(PeerError, match=r"not supported \(0x0122\)"):
        echo(pacs(answer=0x0122).peer, "CXR", 20)


def test_no_patient_data_is_logged(pacs, caplog):
    with caplog.at_level(logging.DEBUG):
        send([image(PatientID="SECRET", PatientName="SECRET")], pacs().peer, "CXR")
    assert "SECRET" not in caplog.text
