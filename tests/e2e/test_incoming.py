"""What DCMTK gets out of the node: it asks, fetches, and speaks TLS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.archive import Archive
from dicom_node.tls import TlsFiles
from tests.certificates import Authority
from tests.datasets import image, part10
from tests.e2e.programs import Orthanc, free_port, listens, run, running, wait_until
from tests.fakes import Bells
from tests.holdings import CAPTURE, KEY_OBJECT, SR, hold, made, report_on
from worker import node
from worker.settings import Settings
from worker.tables import Instance


@dataclass
class House:
    """A running node, and DCMTK beside it."""

    port: int
    tls_port: int
    destination: Path
    stranger: TlsFiles
    modality: TlsFiles
    sessions: sessionmaker[Session]
    folder: Path
    orthanc: Orthanc

    def ask(self, program: str, *words: str | Path) -> CompletedProcess[str]:
        """Run a DCMTK program against the node."""
        who = ["-aet", "READER", "-aec", "CXRWORKER"]
        command = [program, "-v", *who, *words, "127.0.0.1", str(self.port)]
        return run(command, encoding="latin-1")

    def store(self, path: Path, files: TlsFiles | None, port: int) -> CompletedProcess[str]:
        """Send a file, with TLS when there are files for that."""
        tls = ["+tls", files.key, files.certificate, "+cf", files.authority] if files else []
        who = ["-aet", "MODALITY", "-aec", "CXRWORKER"]
        return run(["storescu", "-R", *who, *tls, "127.0.0.1", str(port), path])


SOURCE = image(PatientName="Müller^Zoë")
OLD = image(
    StudyInstanceUID="2.25.50", SeriesInstanceUID="2.25.51", SOPInstanceUID="2.25.52",
    PatientID="PID2", AccessionNumber="ACC2", StudyDate="20200101",
)  # fmt: skip
OURS = [
    made(SOURCE, SR, "SR", "2.25.61"),
    made(SOURCE, KEY_OBJECT, "KO", "2.25.62"),
    made(SOURCE, CAPTURE, "OT", "2.25.63"),
]


@pytest.fixture
def house(peers: None, tmp_path: Path, sqlite_sessions: sessionmaker[Session]) -> Iterator[House]:
    archive, authority = Archive(tmp_path / "archive"), Authority(tmp_path / "authority")
    for ds in (SOURCE, OLD):
        hold(sqlite_sessions, archive, ds)
    report_on(sqlite_sessions, archive, *OURS)
    ours, scp_port, destination = authority.issue("node"), free_port(), tmp_path / "received"
    destination.mkdir()
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    known = f"STORE@127.0.0.1:{scp_port},ORTHANC@127.0.0.1:{orthanc.port}"
    settings = Settings.from_env({
        "CXR_HOME": str(tmp_path), "CXR_PORT": str(port), "CXR_TLS_PORT": str(free_port()),
        "CXR_BIND": "127.0.0.1", "CXR_PEERS": known,
        "CXR_TLS_CERTIFICATE": str(ours.certificate), "CXR_TLS_KEY": str(ours.key),
        "CXR_TLS_AUTHORITY": str(ours.authority), "CXR_ALLOWED_HOSTS": "127.0.0.0/8",
    })  # fmt: skip
    started = node.start(settings, archive, sqlite_sessions, Bells())
    store = ["storescp", "-aet", "STORE", "+xa", "-od", destination, str(scp_port)]
    with running(store, tmp_path / "storescp.log"):
        wait_until(lambda: listens(scp_port), 60, "the start of storescp")
        assert started.tls_port is not None
        yield House(
            started.port, started.tls_port, destination,
            Authority(tmp_path / "other").issue("stranger"), authority.issue("modality"),
            sqlite_sessions, tmp_path, orthanc,
        )  # fmt: skip
    started.shutdown(0)


def study(level: str, *words: str) -> list[str]:
    given = ["-S", "-k", f"QueryRetrieveLevel={level}"]
    return given + [part for word in words for part in ("-k", word)]


UID = f"StudyInstanceUID={SOURCE.StudyInstanceUID}"


def values(output: str, keyword: str) -> list[str]:
    """Values of an attribute in what findscu prints of the responses."""
    responses = output.partition("Find Response")[2]
    found = re.findall(rf"\[([^\]]*)\]\s+#.* {keyword}$", responses, flags=re.MULTILINE)
    return [value.strip("\0 ") for value in found]


def test_findscu_finds_studies_with_what_we_know_of_them(house: House) -> None:
    done = house.ask("findscu", *study(
        "STUDY", "PatientID=PID1", "PatientName=m*", "StudyInstanceUID", "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "StudyDate=20260101-",
    ))  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert values(said, "StudyInstanceUID") == [str(SOURCE.StudyInstanceUID)], said
    assert values(said, "ModalitiesInStudy") == ["CR\\KO\\OT\\SR"]
    assert values(said, "NumberOfStudyRelatedInstances") == ["4"]
    assert values(said, "NumberOfStudyRelatedSeries") == ["3"]
    assert values(said, "RetrieveAETitle") == ["CXRWORKER"]
    assert values(said, "PatientName") == ["Müller^Zoë"]


def test_findscu_finds_series_and_instances(house: House) -> None:
    done = house.ask("findscu", *study("SERIES", UID, "Modality=SR", "SeriesInstanceUID"))
    said = done.stdout + done.stderr
    (series,) = values(said, "SeriesInstanceUID")
    assert series == OURS[0].SeriesInstanceUID
    done = house.ask("findscu", *study(
        "IMAGE", UID, f"SeriesInstanceUID={series}", "SOPInstanceUID", "SOPClassUID",
    ))  # fmt: skip
    assert values(done.stdout + done.stderr, "SOPInstanceUID") == ["2.25.61"]


def test_findscu_is_told_what_is_wrong(house: House) -> None:
    done = house.ask("findscu", *study("SERIES", "SeriesInstanceUID"))
    said = done.stdout + done.stderr
    assert re.search("a900|DoesNotMatchSOPClass", said, flags=re.IGNORECASE), said


def received(folder: Path) -> dict[str, bytes]:
    """What came, by SOP Instance UID, without the file meta information of whoever wrote it."""
    found = {}
    for path in folder.iterdir():
        ds = dcmread(path)
        found[str(ds.SOPInstanceUID)] = encoded(path.read_bytes())
    return found


def encoded(data: bytes) -> bytes:
    return data[144 + int.from_bytes(data[140:144], "little") :]


SENT = {str(ds.SOPInstanceUID): encoded(part10(ds)) for ds in OURS}


def test_movescu_has_our_objects_and_no_others_sent_where_it_says(house: House) -> None:
    done = house.ask("movescu", "-aem", "STORE", *study("STUDY", UID))
    assert done.returncode == 0, done.stderr
    assert received(house.destination) == SENT


def test_movescu_is_refused_for_a_destination_that_is_not_known(house: House) -> None:
    done = house.ask("movescu", "-aem", "NOBODY", *study("STUDY", UID))
    said = done.stdout + done.stderr
    assert re.search("a801|MoveDestinationUnknown", said, flags=re.IGNORECASE), said
    assert not received(house.destination)


def test_getscu_gets_our_report(house: House) -> None:
    words = study("IMAGE", UID, f"SeriesInstanceUID={OURS[0].SeriesInstanceUID}",
                  "SOPInstanceUID=2.25.61")  # fmt: skip
    into = house.folder / "got"
    into.mkdir()
    done = house.ask("getscu", "-od", into, "+B", *words)
    assert done.returncode == 0, done.stderr
    assert received(into) == {"2.25.61": SENT["2.25.61"]}


def test_storescu_sends_with_tls_and_without(house: House) -> None:
    path = house.folder / "new.dcm"
    path.write_bytes(part10(image(SOPInstanceUID="2.25.70", SeriesInstanceUID="2.25.71")))
    done = house.store(path, house.modality, house.tls_port)
    assert done.returncode == 0, done.stderr
    assert house.store(path, None, house.port).returncode == 0
    with house.sessions() as session:
        assert session.query(Instance).filter_by(sop_instance_uid="2.25.70").count() == 1


def test_storescu_of_a_stranger_is_refused_with_the_reason(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    path = house.folder / "new.dcm"
    path.write_bytes(part10(image(SOPInstanceUID="2.25.70")))
    trusting = TlsFiles(house.stranger.certificate, house.stranger.key, house.modality.authority)
    assert house.store(path, trusting, house.tls_port).returncode != 0
    assert house.store(path, None, house.tls_port).returncode != 0
    assert house.store(path, house.modality, house.port).returncode != 0
    wait_until(lambda: len(refusals(caplog)) == 3, 60, "three lines")
    untrusted, plain, tls = refusals(caplog)
    assert "TLS: the client's certificate is not accepted" in untrusted
    assert f"plain DICOM on port {house.tls_port}, which takes TLS only" in plain
    assert f"TLS on port {house.port}, which takes plain DICOM only" in tls


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [m for m in caplog.messages if m.startswith("closed the connection from 127.0.0.1:")]


def test_storescu_may_send_our_objects_back(house: House) -> None:
    for ds in OURS:
        path = house.folder / f"{ds.SOPInstanceUID}.dcm"
        path.write_bytes(part10(ds))
        assert house.store(path, None, house.port).returncode == 0
    with house.sessions() as session:
        assert session.query(Instance).count() == 2


# --- Orthanc ---------------------------------------------------------------------------------


@pytest.fixture
def orthanc(house: House) -> Iterator[Orthanc]:
    with running(["Orthanc", house.orthanc.configuration], house.folder / "orthanc.log"):
        wait_until(house.orthanc.is_up, 120, "the start of Orthanc")
        yield house.orthanc


def post(orthanc: Orthanc, path: str, content: object) -> Any:
    return json.loads(orthanc.ask(path, json.dumps(content).encode()) or b"null")


def test_orthanc_is_told_what_is_committed_and_what_is_not(orthanc: Orthanc) -> None:
    new = image(SOPInstanceUID="2.25.80", StudyInstanceUID="2.25.81", SeriesInstanceUID="2.25.82")
    orthanc.send_to_node(part10(new))

    def asked(*uids: str) -> dict[str, Any]:
        instances = [[str(new.SOPClassUID), uid] for uid in uids]
        request = {"DicomInstances": instances, "Timeout": 60}
        path = post(orthanc, "/modalities/cxr-worker/storage-commitment", request)["Path"]
        said: dict[str, Any] = {}

        def answered() -> bool:
            said.update(json.loads(orthanc.ask(path)))
            return said["Status"] != "Pending"

        wait_until(answered, 60, "the result of storage commitment")
        return said

    assert asked("2.25.80")["Status"] == "Success"
    said = asked("2.25.80", "2.25.99")
    assert said["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in said["Success"]] == ["2.25.80"]
    assert [each["SOPInstanceUID"] for each in said["Failures"]] == ["2.25.99"]


def test_orthanc_finds_our_study_and_fetches_what_is_ours(orthanc: Orthanc) -> None:
    query = {"Level": "Study", "Query": {"PatientID": "PID1", "ModalitiesInStudy": "SR"}}
    found = post(orthanc, "/modalities/cxr-worker/query", query)
    assert json.loads(orthanc.ask(f"{found['Path']}/answers")) == ["0"]
    post(orthanc, f"{found['Path']}/answers/0/retrieve", {"TargetAet": "ORTHANC"})
    kept = {str(dcmread(BytesIO(data)).SOPInstanceUID) for data in orthanc.instances()}
    assert kept == set(SENT)
