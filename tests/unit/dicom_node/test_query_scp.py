"""Query and retrieve, with pynetdicom as the one who asks; DCMTK does so in tests/e2e."""

import logging
import socket
import sys
import threading
import time
from itertools import repeat

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.dul import DULServiceProvider

from dicom_node import query_scp
from dicom_node.peer import Peer
from dicom_node.query import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from tests.certificates import Authority
from tests.datasets import STUDY_UID, image, part10, read_back, with_bytes
from tests.nodes import wait_until
from tests.pacs import Pacs

SR = "1.2.840.10008.5.1.4.1.1.88.34"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def keys(level="STUDY", **values):
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def associate(node, *sop_classes, syntax=EXPLICIT, **options):
    ae = AE("READER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for uid in sop_classes:
        ae.add_requested_context(uid, syntax)
    assoc = ae.associate("127.0.0.1", node.running.port, **options)
    assert assoc.is_established
    return assoc


def find(node, identifier, sop_class=STUDY_ROOT_FIND, syntax=EXPLICIT):
    """Statuses and identifiers of all responses."""
    assoc = associate(node, sop_class, syntax=syntax)
    responses = list(assoc.send_c_find(identifier, sop_class))
    assoc.release()
    return [status for status, _ in responses], [ds for _, ds in responses if ds is not None]


@pytest.fixture
def holds(start):
    """Start a node that holds some entities."""

    def holds(*entities, **services):
        return start(services={"find": lambda _: list(entities)} | services)

    return holds


# --- C-FIND ----------------------------------------------------------------------------------


def test_what_matches_is_returned_with_the_keys_that_were_asked_for(holds):
    one, other = read_back(image()), read_back(image(PatientID="P2", StudyInstanceUID="2.25.9"))
    statuses, (found,) = find(
        holds(one, other),
        keys(PatientID="PID1", PatientName="", StudyDate="20260101-",
             ModalitiesInStudy="", StudyInstanceUID=""),
    )  # fmt: skip
    assert [s.Status for s in statuses] == [0xFF00, 0x0000]
    assert found.PatientName == "Test^Child"
    assert found.PatientID == "PID1"
    assert found.StudyInstanceUID == STUDY_UID
    assert found.QueryRetrieveLevel == "STUDY"
    assert not found.ModalitiesInStudy
    assert "AccessionNumber" not in found
    assert "RetrieveAETitle" not in found


def test_what_can_be_retrieved_names_us(holds):
    entity = read_back(image())
    entity.RetrieveAETitle = ""
    _, (found,) = find(holds(entity), keys(StudyInstanceUID=""))
    assert found.RetrieveAETitle == "NODE"


def test_nothing_that_matches_is_a_success(holds):
    statuses, found = find(holds(read_back(image())), keys(PatientID="nobody"))
    assert ([s.Status for s in statuses], found) == ([0x0000], [])


def test_a_key_that_is_not_supported_is_told_and_not_matched(holds):
    statuses, found = find(holds(read_back(image())), keys(StudyInstanceUID="", PatientState="x"))
    assert [s.Status for s in statuses] == [0xFF01, 0x0000]
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Zoë".encode()),
        ("GB18030", "王^小东".encode("gb18030")),
        ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("ISO_IR 100", b"M\xfcller^"),
        ("no such", b"M\xfcller"),
    ],
)
def test_names_come_as_the_bytes_they_are(holds, charset, name, syntax):
    ds = image(SpecificCharacterSet=None)
    entity = read_back(with_bytes(ds, SpecificCharacterSet=charset.encode(), PatientName=name))
    node = holds(entity)
    assoc = associate(node, STUDY_ROOT_FIND, syntax=syntax)
    raw = []
    assoc.bind(evt.EVT_DIMSE_RECV, lambda event: raw.append(event.message.data_set.getvalue()))
    list(assoc.send_c_find(keys(PatientName="", StudyInstanceUID=""), STUDY_ROOT_FIND))
    assoc.release()
    assert name in raw[0]
    assert charset.encode() in raw[0]


def test_a_name_is_found_whatever_the_character_sets(holds):
    entity = read_back(
        with_bytes(
            image(), SpecificCharacterSet=b"GB18030", PatientName="王^小东".encode("gb18030")
        )
    )
    wanted = keys(SpecificCharacterSet="ISO_IR 192", PatientName="王*", StudyInstanceUID="")
    _, found = find(holds(entity), wanted)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("identifier", "comment"),
    [
        (keys("FILM"), "QueryRetrieveLevel must be one of STUDY, SERIES, IMAGE"),
        (keys(""), "QueryRetrieveLevel must be one of STUDY, SERIES, IMAGE"),
        (keys("PATIENT"), "QueryRetrieveLevel must be one of STUDY, SERIES, IMAGE"),
        (keys("SERIES"), "SERIES level needs one StudyInstanceUID"),
        (
            keys("SERIES", StudyInstanceUID=["1.2", "1.3"]),
            "SERIES level needs one StudyInstanceUID",
        ),
        (keys("IMAGE", StudyInstanceUID="1.2"), "IMAGE level needs one SeriesInstanceUID"),
        (keys(PatientComments="*a" * 513), "PatientComments is too long to be matched"),
        (keys(ModalitiesInStudy=["CR"] * 65), "ModalitiesInStudy is too long to be matched"),
    ],
)
def test_a_wrong_identifier_is_refused_with_what_is_wrong(holds, identifier, comment):
    identifier.PatientID = ""
    (status,), found = find(holds(read_back(image())), identifier)
    assert (status.Status, status.ErrorComment, found) == (0xA900, comment, [])


def test_a_list_of_uids_may_be_long(holds):
    uids = [f"1.2.{number}" for number in range(2000)]
    (status,), found = find(holds(read_back(image())), keys(StudyInstanceUID=uids))
    assert (status.Status, found) == (0x0000, [])


def test_the_patient_root_needs_the_patient(holds):
    node = holds(read_back(image()))
    (status,), _ = find(node, keys(StudyInstanceUID=""), PATIENT_ROOT_FIND)
    assert (status.Status, status.ErrorComment) == (0xA900, "STUDY level needs one PatientID")
    _, found = find(node, keys("PATIENT", PatientID="", PatientName=""), PATIENT_ROOT_FIND)
    assert [ds.PatientID for ds in found] == ["PID1"]


def test_a_database_that_is_away_is_unable_to_process(start, caplog):
    def fail(_):
        raise RuntimeError("SECRET")

    node = start(services={"find": fail})
    (status,), _ = find(node, keys(StudyInstanceUID=""))
    assert (status.Status, status.ErrorComment) == (0xC001, "The node cannot answer")
    assert "a query failed: RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_too_many_matches_are_out_of_resources(holds, monkeypatch):
    monkeypatch.setattr(query_scp, "MATCH_LIMIT", 2)
    entities = [read_back(image(StudyInstanceUID=f"2.25.{n}")) for n in range(5)]
    statuses, found = find(holds(*entities), keys(StudyInstanceUID=""))
    assert [s.Status for s in statuses] == [0xFF00, 0xFF00, 0xA700]
    assert statuses[-1].ErrorComment == "More than 2 match; ask for less"
    assert len(found) == 2


def test_too_many_to_search_are_out_of_resources(holds, monkeypatch):
    monkeypatch.setattr(query_scp, "SEARCH_LIMIT", 2)
    (status,), _ = find(holds(*[read_back(image())] * 3), keys(PatientName="nobody"))
    assert status.Status == 0xA700
    assert status.ErrorComment == "Too many to search; give an ID, an accession number or a date"


def last_status_when_cancelled(node):
    """Cancel a query after three answers; give the status that ends it."""
    assoc = associate(node, STUDY_ROOT_FIND)
    statuses = []
    for status, _ in assoc.send_c_find(keys(StudyInstanceUID=""), STUDY_ROOT_FIND, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 3:
            assoc.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
    assoc.release()
    return statuses[-1]


def test_a_query_that_is_cancelled_ends(start, monkeypatch):
    for limit in ("MATCH_LIMIT", "SEARCH_LIMIT"):
        monkeypatch.setattr(query_scp, limit, sys.maxsize)

    def endless(_):
        while True:
            time.sleep(0.01)  # as a database takes some time
            yield read_back(image())

    assert last_status_when_cancelled(start(services={"find": endless})) == 0xFE00


def test_a_cancellation_is_heard_while_more_is_found_than_can_be_sent(start, monkeypatch):
    monkeypatch.setattr(query_scp, "MATCH_LIMIT", sys.maxsize)
    send = DULServiceProvider._send

    def send_slowly(dul, pdu):
        time.sleep(0.005 if dul.assoc.is_acceptor else 0)
        send(dul, pdu)

    monkeypatch.setattr(DULServiceProvider, "_send", send_slowly)
    node = start(services={"find": lambda _: repeat(read_back(image()), 3000)})
    assert last_status_when_cancelled(node) == 0xFE00


@pytest.mark.parametrize("aborts", [True, False], ids=["aborts", "hangs up"])
def test_a_query_whose_peer_is_gone_ends(start, monkeypatch, aborts):
    monkeypatch.setattr(query_scp, "MATCH_LIMIT", sys.maxsize)
    ended = threading.Event()

    def find(_):
        try:
            yield from repeat(read_back(image()), 5000)
        finally:
            ended.set()

    node = start(services={"find": find})
    assoc = associate(node, STUDY_ROOT_FIND)
    answers = assoc.send_c_find(keys(StudyInstanceUID=""), STUDY_ROOT_FIND)
    assert next(answers)[0].Status == 0xFF00
    if aborts:
        assoc.abort()
    else:
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    assert ended.wait(30)
    wait_until(lambda: node.running.open_associations == 0)


def test_what_is_not_offered_is_not_accepted(start):
    ae = AE("READER")
    for uid in (STUDY_ROOT_FIND, STUDY_ROOT_MOVE, "1.2.840.10008.1.1"):
        ae.add_requested_context(uid)
    assoc = ae.associate("127.0.0.1", start().running.port)
    assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == ["1.2.840.10008.1.1"]
    assoc.release()


# --- C-MOVE and C-GET ------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    paths = []
    for n in range(3):
        ds = image(SOPClassUID=SR, SOPInstanceUID=f"2.25.{n}", Manufacturer="cxr-worker")
        paths.append(tmp_path / f"{n}.dcm")
        paths[-1].write_bytes(part10(ds))
    return paths


def dataset_of(path):
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.fixture
def pacs():
    pacs = Pacs(accepts=[(SR, EXPLICIT)])
    yield pacs
    pacs.stop()


def move(node, destination="PACS", **values):
    assoc = associate(node, STUDY_ROOT_MOVE)
    identifier = keys(**({"StudyInstanceUID": STUDY_UID} | values))
    responses = list(assoc.send_c_move(identifier, destination, STUDY_ROOT_MOVE))
    assoc.release()
    return responses


def counts(status):
    return tuple(
        status.get(f"NumberOf{what}Suboperations")
        for what in ("Remaining", "Completed", "Failed", "Warning")
    )


def test_what_is_ours_is_moved_byte_for_byte(start, files, pacs):
    wanted = []
    retrieve = lambda w: wanted.append(w) or files  # noqa: E731
    node = start(services={"retrieve": retrieve}, peers={"PACS": pacs.peer})
    statuses = [status for status, _ in move(node)]
    assert [s.Status for s in statuses] == [0xFF00, 0xFF00, 0x0000]
    assert [counts(s) for s in statuses] == [(2, 1, 0, 0), (1, 2, 0, 0), (None, 3, 0, 0)]
    assert [data[-len(dataset_of(files[0])) :] for data in pacs.files] == [
        dataset_of(path) for path in files
    ]
    assert (wanted[0].level, wanted[0].values("StudyInstanceUID")) == ("STUDY", (STUDY_UID,))


def test_what_is_not_on_this_machine_is_fetched_and_moved_byte_for_byte(start, files, pacs):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    fetches = [path.read_bytes for path in files]
    node = start(
        services={"retrieve": lambda _: [*fetches, gone]}, peers={"PACS": pacs.peer}
    )  # fmt: skip
    status, _ = move(node)[-1]
    assert (status.Status, counts(status)) == (0xB000, (None, 3, 1, 0))
    assert [data[-len(dataset_of(files[0])) :] for data in pacs.files] == [
        dataset_of(path) for path in files
    ]


def test_a_move_uses_tls_where_the_peer_takes_that(start, files, tmp_path):
    authority = Authority(tmp_path / "authority")
    secure = Pacs(accepts=[(SR, EXPLICIT)], tls=authority.server("pacs"))
    node = start(
        services={"retrieve": lambda _: files},
        peers={"PACS": secure.peer}, peer_tls={"PACS": authority.client("node")},
    )  # fmt: skip
    assert move(node)[-1][0].Status == 0x0000
    secure.stop()


def test_a_destination_that_is_not_known_is_refused(start, files):
    node = start(services={"retrieve": lambda _: files})
    ((status, _),) = move(node)
    assert (status.Status, counts(status)) == (0xA801, (None, 0, 3, 0))
    assert status.ErrorComment == "The move destination is not in CXR_PEERS"


def test_a_destination_that_does_not_answer_is_a_failure_of_all(start, files):
    node = start(
        services={"retrieve": lambda _: files}, peers={"PACS": Peer("PACS", "127.0.0.1", 1)}
    )
    ((status, _),) = move(node)
    assert (status.Status, counts(status)) == (0xA702, (None, 0, 3, 0))
    assert status.ErrorComment == "The move destination does not associate"


def test_a_retrieval_of_nothing_is_a_success(start, pacs):
    node = start(services={"retrieve": lambda _: []}, peers={"PACS": pacs.peer})
    ((status, _),) = move(node)
    assert (status.Status, counts(status)) == (0x0000, (None, 0, 0, 0))


def test_what_failed_and_what_was_warned_of_is_counted_and_named(start, files, pacs):
    pacs.answer = lambda event: {"2.25.0": 0xA700, "2.25.1": 0xB000}.get(
        event.request.AffectedSOPInstanceUID, 0x0000
    )
    node = start(services={"retrieve": lambda _: files}, peers={"PACS": pacs.peer})
    status, identifier = move(node)[-1]
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 1, 1))
    assert identifier.FailedSOPInstanceUIDList == "2.25.0"


def test_what_no_context_was_accepted_for_has_failed(start, files):
    pacs = Pacs(accepts=[("1.2.840.10008.1.1", IMPLICIT)])
    node = start(services={"retrieve": lambda _: files}, peers={"PACS": pacs.peer})
    status, identifier = move(node)[-1]
    assert (status.Status, counts(status)) == (0xA702, (None, 0, 3, 0))
    assert len(identifier.FailedSOPInstanceUIDList) == 3
    pacs.stop()


def test_a_wrong_identifier_moves_nothing(start, files, pacs):
    node = start(services={"retrieve": lambda _: files}, peers={"PACS": pacs.peer})
    ((status, _),) = move(node, QueryRetrieveLevel="FILM")
    assert status.Status == 0xA900
    assert pacs.files == []


@pytest.mark.parametrize(
    "key",
    [
        {"StudyInstanceUID": ""},
        {"StudyInstanceUID": "*"},
        {"QueryRetrieveLevel": "SERIES"},
        {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "1.2.*"},
    ],
)
def test_a_retrieval_names_what_it_wants(start, files, pacs, key):
    node = start(services={"retrieve": lambda _: files}, peers={"PACS": pacs.peer})
    ((status, _),) = move(node, **key)
    assert status.Status == 0xA900
    assert status.ErrorComment.startswith("A retrieval at ")
    assert pacs.files == []


def get(node, syntax=EXPLICIT, sop_class=STUDY_ROOT_GET, answer=0x0000):
    got = []

    def store(event):
        got.append(event.encoded_dataset(include_meta=False))
        return answer

    assoc = associate(
        node, sop_class, SR, syntax=syntax, ext_neg=[build_role(SR, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )  # fmt: skip
    identifier = keys(StudyInstanceUID=STUDY_UID, PatientID="PID1")
    responses = list(assoc.send_c_get(identifier, sop_class))
    assert assoc.is_established
    assoc.release()
    return responses, got


@pytest.mark.parametrize("sop_class", [STUDY_ROOT_GET, PATIENT_ROOT_GET])
def test_what_is_ours_is_got_byte_for_byte(start, files, sop_class):
    node = start(services={"retrieve": lambda _: files})
    responses, got = get(node, sop_class=sop_class)
    assert [s.Status for s, _ in responses] == [0xFF00, 0xFF00, 0x0000]
    assert counts(responses[-1][0]) == (None, 3, 0, 0)
    assert got == [dataset_of(path) for path in files]


def test_a_peer_of_the_default_transfer_syntax_gets_it_in_that(start, files):
    responses, got = get(start(services={"retrieve": lambda _: files}), syntax=IMPLICIT)
    assert responses[-1][0].Status == 0x0000
    assert len(got) == 3


def test_an_instance_that_is_gone_from_the_archive_fails_alone(start, files, caplog):
    files[1].unlink()
    with caplog.at_level(logging.WARNING):
        responses, got = get(start(services={"retrieve": lambda _: files}))
    status, _ = responses[-1]
    assert (status.Status, counts(status)) == (0xB000, (None, 2, 1, 0))
    assert len(got) == 2


def test_a_peer_that_refuses_all_is_told_that_all_failed(start, files):
    responses, _ = get(start(services={"retrieve": lambda _: files}), answer=0xA700)
    assert responses[-1][0].Status == 0xA702


def test_a_retrieval_that_is_cancelled_ends(start, files, pacs):
    node = start(services={"retrieve": lambda _: files * 500}, peers={"PACS": pacs.peer})
    assoc = associate(node, STUDY_ROOT_MOVE)
    statuses = []
    identifier = keys(StudyInstanceUID=STUDY_UID)
    for status, _ in assoc.send_c_move(identifier, "PACS", STUDY_ROOT_MOVE, msg_id=3):
        statuses.append(status)
        if len(statuses) == 2:
            assoc.send_c_cancel(3, query_model=STUDY_ROOT_MOVE)
    assert statuses[-1].Status == 0xFE00
    assert sum(filter(None, counts(statuses[-1]))) == 1500
    assoc.release()
