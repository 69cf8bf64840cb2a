import logging
import socket
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.commitment import PUSH_MODEL
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.errors import PeerError, ReportRefused
from dicom_node.fallback import as_sop_class
from dicom_node.peer import Peer
from dicom_node.storage_scu import Sent, delivering, echo, offers, send
from tests.datasets import ROOT, image, part10, with_bytes
from tests.pacs import EXPLICIT, IMPLICIT, VERIFICATION, Pacs, deliver, listening

CR = image().SOPClassUID
SR_3D, SR, ENHANCED_SR = REPORT_SOP_CLASSES
CAPTURE, KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.59"
IMAGES = ((CR, EXPLICIT), (VERIFICATION, IMPLICIT))
REPORTS = tuple((uid, EXPLICIT) for uid in REPORT_SOP_CLASSES)
# As far as it is looked at here, any instance of the class is a report.
REPORT = part10(image(SOPClassUID=SR_3D))


@pytest.fixture
def pacs():
    started = []

    def start(accepts=IMAGES, **options):
        started.append(Pacs(accepts=accepts, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


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
    peer = pacs([(CR, IMPLICIT)])
    assert send([image()], peer.peer, "CXR")[0].status == 0x0000
    received = dcmread(BytesIO(peer.files[0]))
    assert received.file_meta.TransferSyntaxUID == IMPLICIT
    assert received == image()


@pytest.mark.parametrize(
    ("charset", "value"),
    [
        (b"\\ISO 2022 IR 87", b"A\x1b$B;3\x1b(B"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3=\x1b$)C\xb1\xe8"),
        (b"ISO_IR 13", b"\xd4\xcf\xc0\xde"),
        (b"GB18030", b"Wang=\xcd\xf5="),
        (b"ISO_IR 192", b"\xff\xfe"),
    ],
)
def test_text_keeps_its_bytes_in_the_default_transfer_syntax(pacs, charset, value):
    item = with_bytes(Dataset(), PatientID=value)
    ds = with_bytes(
        image(OtherPatientIDsSequence=[item]), SpecificCharacterSet=charset,
        PatientName=value, PatientID=value, StudyDescription=value,
    )  # fmt: skip
    peer = pacs([(CR, IMPLICIT)])
    assert send([part10(ds)], peer.peer, "CXR")[0].status == 0x0000
    received = dcmread(BytesIO(peer.files[0]))
    for keyword in ("PatientName", "PatientID", "StudyDescription"):
        assert received.get_item(keyword).value.rstrip() == value
    assert received.OtherPatientIDsSequence[0].get_item("PatientID").value.rstrip() == value


def test_a_peer_that_accepts_nothing_answers_for_each_instance(pacs):
    peer = pacs([("1.2.840.10008.5.1.4.1.1.2", EXPLICIT)])
    assert [a.status for a in send([image(), image()], peer.peer, "CXR")] == [0x0122, 0x0122]


def test_nothing_that_can_be_sent_needs_no_association(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not DICOM")
    nowhere = Peer("PACS", "pacs.invalid", 104)
    assert [a.status for a in send([text], nowhere, "CXR")] == [0xC000]
    assert send([], nowhere, "CXR") == []


def test_more_presentation_contexts_than_an_association_has_take_a_second_one(pacs):
    classes = [*(f"1.2.840.10008.5.1.4.1.1.{n}" for n in range(2000, 2064)), CR]
    peer = pacs()
    instances = [
        image(SOPClassUID=uid, SOPInstanceUID=f"{ROOT}.{n}") for n, uid in enumerate(classes)
    ]
    answers = send(instances, peer.peer, "CXR")
    assert [a.sop_instance_uid for a in answers] == [f"{ROOT}.{n}" for n in range(65)]
    assert [a.status for a in answers] == [0x0122] * 64 + [0x0000]
    assert peer.associations == 2


# --- reports ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007])
def test_a_report_is_delivered_with_success_or_a_warning(pacs, status):
    peer = pacs(REPORTS, answer=status)
    delivered = deliver(REPORT, peer.peer, "CXR", 20)
    assert (delivered.status, delivered.sop_class_uid) == (status, SR_3D)
    assert delivered.sop_instance_uid == image().SOPInstanceUID
    assert dataset_of(peer.files[0]) == dataset_of(REPORT)


@pytest.mark.parametrize(
    ("accepts", "richest"),
    [
        ([(SR_3D, IMPLICIT), (SR, EXPLICIT)], SR_3D),
        ([(ENHANCED_SR, EXPLICIT), (SR, EXPLICIT)], SR),
        ([(SR, IMPLICIT)], SR),
        ([(ENHANCED_SR, EXPLICIT), (CR, EXPLICIT)], ENHANCED_SR),
    ],
)
def test_a_report_goes_as_the_richest_class_that_the_peer_accepts(pacs, accepts, richest):
    peer = pacs(accepts)
    delivered = deliver(REPORT, peer.peer, "CXR", 20)
    expected = dcmread(BytesIO(as_sop_class(REPORT, richest)))
    assert delivered.sop_class_uid == richest
    assert delivered.sop_instance_uid == expected.SOPInstanceUID
    assert dcmread(BytesIO(peer.files[0])) == expected


@pytest.mark.parametrize("status", [0x0122, 0x0118])
def test_a_class_that_is_accepted_and_then_not_supported_gives_way_to_the_next(pacs, status):
    peer = pacs(REPORTS, answer=lambda _: 0x0000 if peer.classes[-1] == ENHANCED_SR else status)
    assert deliver(REPORT, peer.peer, "CXR", 20).sop_class_uid == ENHANCED_SR
    assert peer.classes == list(REPORT_SOP_CLASSES)
    assert peer.associations == 1


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0124, 0x0110])
def test_a_report_that_is_refused_for_good_says_so(pacs, status):
    peer = pacs(REPORTS, answer=status)
    with pytest.raises(ReportRefused) as error:
        deliver(REPORT, peer.peer, "CXR", 20)
    assert (error.value.status, error.value.peer) == (status, str(peer.peer))
    assert len(peer.files) == 1
    assert peer.released.wait(20), "a refusal is an answer: the association is released"


def test_what_the_peer_comments_is_told_but_for_the_patient(pacs):
    def answer(_):
        ds = Dataset()
        ds.Status = 0xA900
        ds.ErrorComment = "coercion of id PAT-7: doe, Jane  is not 19700102 (series 7)"
        return ds

    patient = {"PatientID": "PAT-7", "PatientName": "Doe^Jane", "PatientBirthDate": "19700102"}
    report = part10(image(SOPClassUID=SR_3D, **patient))
    words = r"\(0xA900\): coercion of id \.\.\.: \.\.\., \.\.\. is not \.\.\. \(series 7\)\.$"
    with pytest.raises(ReportRefused, match=words):
        deliver(report, pacs(REPORTS, answer=answer).peer, "CXR", 20)


def test_a_report_of_which_no_class_is_supported_is_refused(pacs):
    peer = pacs(REPORTS, answer=0x0122)
    with pytest.raises(ReportRefused) as error:
        deliver(REPORT, peer.peer, "CXR", 20)
    assert error.value.status == 0x0122
    assert len(peer.files) == 3


def test_a_peer_that_accepts_no_class_of_a_report_is_told_which(pacs):
    for other in ((CR, EXPLICIT), (VERIFICATION, IMPLICIT)):
        with pytest.raises(
            ReportRefused, match=f"accepts neither .* allow one of {SR_3D}"
        ) as error:
            deliver(REPORT, pacs([other, (PUSH_MODEL, EXPLICIT)]).peer, "CXR", 20)
        assert error.value.status == 0x0122


@pytest.mark.parametrize("status", [0xA700, 0x0213, 0xFF42])
def test_a_report_that_may_be_taken_later_is_tried_again(pacs, status):
    with pytest.raises(PeerError) as error:
        deliver(REPORT, pacs(REPORTS, answer=status).peer, "CXR", 20)
    assert error.value.status == status


def test_reports_go_one_after_the_other_by_one_association(pacs):
    answers = [0x0000, 0xC000, 0xB000]
    peer = pacs([*REPORTS, (PUSH_MODEL, EXPLICIT)], answer=lambda _: answers.pop(0))
    reports = [part10(image(SOPClassUID=SR_3D, SOPInstanceUID=f"{ROOT}.{n}")) for n in (31, 32, 33)]
    with delivering(peer.peer, "CXR", 20) as send:
        assert send(reports[0]).sop_instance_uid == f"{ROOT}.31"
        with pytest.raises(ReportRefused):
            send(reports[1])
        assert send(reports[2]).offers_commitment
    assert [dataset_of(file) for file in peer.files] == [dataset_of(each) for each in reports]
    assert peer.associations == 1
    assert peer.released.wait(20)


def test_the_next_report_after_a_lost_association_is_told_so_at_once(pacs):
    peer = pacs(REPORTS, answer=lambda event: event.assoc.abort() or 0x0000)
    with delivering(peer.peer, "CXR", 20) as send:
        for _ in range(2):
            with pytest.raises(PeerError) as error:
                send(REPORT)
            assert error.value.status is None


def test_it_is_told_whether_the_peer_offers_storage_commitment(pacs):
    without, offering = pacs(REPORTS), pacs([*REPORTS, (PUSH_MODEL, IMPLICIT)])
    assert not deliver(REPORT, without.peer, "CXR", 20).offers_commitment
    assert deliver(REPORT, offering.peer, "CXR", 20).offers_commitment


def test_it_is_asked_in_one_association_what_a_peer_takes(pacs):
    peer = pacs([(SR, IMPLICIT), (PUSH_MODEL, EXPLICIT), (CR, EXPLICIT)])
    asked = [*REPORT_SOP_CLASSES, PUSH_MODEL]
    assert offers(peer.peer, "CXR", asked, 20) == {SR, PUSH_MODEL}
    assert peer.associations == 1
    assert offers(peer.peer, "CXR", [SR_3D], 20) == frozenset()


def companions():
    """A picture and a key object, as far as it is looked at here."""
    return [
        part10(image(SOPClassUID=uid, SOPInstanceUID=f"{ROOT}.{n}"))
        for n, uid in enumerate((CAPTURE, KEY_OBJECT), 21)
    ]


def test_companions_follow_the_report_in_the_same_association(pacs):
    peer = pacs([*REPORTS, (CAPTURE, EXPLICIT), (KEY_OBJECT, IMPLICIT)])
    delivered = deliver(REPORT, peer.peer, "CXR", 20, companions=companions())
    assert peer.classes == [SR_3D, CAPTURE, KEY_OBJECT]
    assert peer.associations == 1
    assert delivered.companions == tuple(
        Sent(f"{ROOT}.{n}", 0x0000, "success (0x0000)") for n in (21, 22)
    )


def test_a_companion_that_is_refused_for_good_does_not_fail_the_report(pacs):
    peer = pacs(
        [*REPORTS, (KEY_OBJECT, EXPLICIT)],
        answer=lambda _: 0xA900 if peer.classes[-1] == KEY_OBJECT else 0x0000,
    )
    broken = [*companions(), b"not DICOM"]
    delivered = deliver(REPORT, peer.peer, "CXR", 20, companions=broken)
    assert delivered.status == 0x0000
    assert [sent.status for sent in delivered.companions] == [0x0122, 0xA900, 0xC000]


def test_a_companion_that_may_be_taken_later_sends_all_again(pacs):
    peer = pacs(
        [*REPORTS, (CAPTURE, EXPLICIT)],
        answer=lambda _: 0xA700 if peer.classes[-1] == CAPTURE else 0x0000,
    )
    with pytest.raises(PeerError, match="companion of the report: out of resources") as error:
        deliver(REPORT, peer.peer, "CXR", 20, companions=companions())
    assert error.value.status == 0xA700


def test_no_companion_is_sent_after_a_report_that_is_not_taken(pacs):
    peer = pacs([*REPORTS, (CAPTURE, EXPLICIT)], answer=0xA700)
    with pytest.raises(PeerError, match="did not take the report"):
        deliver(REPORT, peer.peer, "CXR", 20, companions=companions())
    assert peer.classes == [SR_3D]


# --- peers that fail -------------------------------------------------------------------------


def test_a_peer_that_aborts_while_we_send_is_a_peer_error(pacs):
    def abort(event):
        event.assoc.abort()
        return 0x0000

    with pytest.raises(PeerError, match="did not answer"):
        deliver(REPORT, pacs(REPORTS, answer=abort).peer, "CXR", 20)


def test_a_peer_that_does_not_answer_in_time_is_a_peer_error(pacs):
    given_up = threading.Event()
    peer = pacs(REPORTS, answer=lambda _: 0x0000 if given_up.wait(60) else 0xA700)
    began = time.monotonic()
    with pytest.raises(PeerError, match="did not answer"):
        deliver(REPORT, peer.peer, "CXR", 0.5)
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
    "behave",
    [
        lambda connection: connection.recv(1000),  # and closes
        lambda connection: connection.close(),
        lambda connection: connection.sendall(b"HTTP/1.1 400\r\n\r\n"),
    ],
)
def test_a_port_that_does_not_speak_dicom_is_told_apart(behave):
    words = "takes the connection but does not associate; check that it speaks DICOM"
    with listening(behave, times=2) as peer, pytest.raises(PeerError, match=words):
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
    peer = pacs([(CR, EXPLICIT)])
    with pytest.raises(PeerError, match="does not offer Verification"):
        echo(peer.peer, "CXR", 20)


def test_an_echo_that_is_refused_says_how(pacs):
    with pytest.raises(PeerError, match=r"not supported \(0x0122\)"):
        echo(pacs(answer=0x0122).peer, "CXR", 20)


def test_no_patient_data_is_logged(pacs, caplog):
    with caplog.at_level(logging.DEBUG):
        send([image(PatientID="SECRET", PatientName="SECRET")], pacs().peer, "CXR")
    assert "SECRET" not in caplog.text
