"""What goes out, as DCMTK and Orthanc take it: SOP classes, companions, commitment, TLS."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.commitment import Commitment, Reference, request_commitment
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.errors import PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.storage_scu import echo, offers
from dicom_node.tls import TlsFiles, client_context, server_context
from tests.certificates import Authority
from tests.datasets import image, part10
from tests.e2e.programs import START_S, Orthanc, free_port, listens, run, running, wait_until
from tests.nodes import Node
from tests.pacs import deliver
from tests.unit.dicom_node.test_report import REPORTS

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("peers")]

NODE = "CXRWORKER"
SR_3D, SR, ENHANCED_SR = REPORT_SOP_CLASSES
TRANSACTION = "2.25.4711"

# What storescp negotiates (DCMTK, asconfig.txt).
PROFILE = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LocalEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Reports]
PresentationContext1 = VerificationSOPClass\\Uncompressed
PresentationContext2 = {sop_class}\\Uncompressed
[[Profiles]]
[Some]
PresentationContexts = Reports
"""


def report() -> bytes:
    """A report as it is delivered."""
    return part10(REPORTS["one image"]())


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., tuple[Peer, Path]]]:
    """Start DCMTK's storescp with options; gives where it is, and its folder."""
    with ExitStack() as stack:

        def start(*options: str | Path) -> tuple[Peer, Path]:
            port, folder = free_port(), tmp_path / "dcmtk"
            folder.mkdir()
            command = ["storescp", "-aet", "DCMTKPACS", "-od", folder, *options, str(port)]
            stack.enter_context(running(command, tmp_path / "storescp.log"))
            wait_until(lambda: listens(port), START_S, "the start of storescp")
            return Peer("DCMTKPACS", "127.0.0.1", port), folder

        yield start


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """Start an Orthanc."""
    with ExitStack() as stack:

        def start(node_port: int, **settings: Any) -> Orthanc:
            pacs = Orthanc(tmp_path / "orthanc", node_port, **settings)
            stack.enter_context(running(["Orthanc", pacs.configuration], tmp_path / "orthanc.log"))
            wait_until(pacs.is_up, START_S, "the start of Orthanc")
            return pacs

        yield start


# --- DCMTK -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sop_class", "name", "iod"),
    [
        (SR_3D, SR_3D, "Comprehensive3DSR"),
        (SR, "ComprehensiveSRStorage", "ComprehensiveSR"),
        (ENHANCED_SR, "EnhancedSRStorage", "EnhancedSR"),
    ],
)
def test_storescp_gets_the_class_that_it_takes(
    storescp: Any, tmp_path: Path, sop_class: str, name: str, iod: str
) -> None:
    profile = tmp_path / "storescp.cfg"
    profile.write_text(PROFILE.format(sop_class=name))
    peer, folder = storescp("-xf", profile, "Some")
    delivered = deliver(report(), peer, NODE)
    assert (delivered.status, delivered.sop_class_uid) == (0x0000, sop_class)
    assert not delivered.offers_commitment
    (path,) = folder.iterdir()
    stored = dcmread(path)
    assert (stored.SOPClassUID, stored.SOPInstanceUID) == (sop_class, delivered.sop_instance_uid)
    assert run(["dsrdump", path]).returncode == 0
    checked = run([Path(sys.executable).parent / "dciodvfy", "-new", path])
    assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []
    assert iod in checked.stderr


def test_storescp_that_takes_no_report_is_told_apart(storescp: Any, tmp_path: Path) -> None:
    profile = tmp_path / "storescp.cfg"
    profile.write_text(PROFILE.format(sop_class="CTImageStorage"))
    peer, _ = storescp("-xf", profile, "Some")
    assert offers(peer, NODE, REPORT_SOP_CLASSES) == frozenset()
    with pytest.raises(ReportRefused, match="accepts neither Comprehensive 3D SR nor"):
        deliver(report(), peer, NODE)


def test_storescp_gets_the_companions(storescp: Any) -> None:
    peer, folder = storescp("+xa")
    delivered = deliver(report(), peer, NODE, companions=[capture()])
    assert [sent.status for sent in delivered.companions] == [0x0000]
    classes = {str(dcmread(path).SOPClassUID) for path in folder.iterdir()}
    assert classes == {SR_3D, "1.2.840.10008.5.1.4.1.1.7"}


def capture() -> bytes:
    """A picture as it goes with a report."""
    return part10(image(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SOPInstanceUID="2.25.4712"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "hospital")


def with_tls(files: TlsFiles) -> list[str | Path]:
    """Options of DCMTK's programs."""
    return ["+tls", files.key, files.certificate, "+cf", files.authority]


@pytest.mark.parametrize("profile", ["+py", "+px"], ids=["BCP 195, non-downgrading", "BCP 195"])
def test_storescp_takes_a_report_over_tls(storescp: Any, hospital: Authority, profile: str) -> None:
    peer, folder = storescp(*with_tls(hospital.issue("dcmtk")), profile)
    assert deliver(report(), peer, NODE, tls=hospital.client("node")).status == 0x0000
    assert len(list(folder.iterdir())) == 1


def test_storescp_with_tls_and_without_are_told_apart(storescp: Any, hospital: Authority) -> None:
    peer, _ = storescp(*with_tls(hospital.issue("dcmtk")))
    with pytest.raises(PeerError, match="speaks TLS on this port, although TLS is not set"):
        echo(peer, NODE)


def test_storescp_without_tls_is_told_apart(storescp: Any, hospital: Authority) -> None:
    peer, _ = storescp()
    with pytest.raises(PeerError, match="speaks no TLS on this port, although TLS is set"):
        echo(peer, NODE, tls=hospital.client("node"))


def test_storescp_that_does_not_know_our_authority_is_told_apart(
    storescp: Any, hospital: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger").issue("node")
    peer, _ = storescp(*with_tls(hospital.issue("dcmtk")))
    with pytest.raises(PeerError, match="refuses our certificate"):
        echo(peer, NODE, tls=client_context(replace(stranger, authority=hospital.certificate)))
    with pytest.raises(PeerError, match="has a certificate that is not trusted"):
        echo(peer, NODE, tls=client_context(stranger))


# --- Orthanc ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_orthanc_commits_itself_to_a_report(
    orthanc: Any, hospital: Authority, tmp_path: Path, tls: bool
) -> None:
    """It answers on an association of its own, so to our node."""
    results: queue.Queue[Commitment] = queue.Queue()
    files, port, tls_port = hospital.issue("node"), free_port(), free_port()
    node = Node(
        tmp_path,
        services={"on_commitment": lambda result: results.put(result) or True},
        ae_title=NODE, port=port, tls_port=tls_port if tls else None,
        tls=server_context(files) if tls else None,
    )  # fmt: skip
    try:
        pacs = orthanc(port, **(orthanc_tls(hospital.issue("orthanc"), tls_port) if tls else {}))
        peer = Peer("ORTHANC", "127.0.0.1", pacs.port)
        context = client_context(files) if tls else None
        delivered = deliver(report(), peer, NODE, tls=context)
        assert delivered.sop_class_uid == SR_3D
        assert delivered.offers_commitment
        uid, missing = delivered.sop_instance_uid, "2.25.4713"
        references = [Reference(SR_3D, uid), Reference(SR_3D, missing)]
        assert request_commitment(
            references, peer, NODE, TRANSACTION, wait_s=0.1, tls=context
        ) is None  # fmt: skip
        assert results.get(timeout=60) == Commitment(TRANSACTION, (uid,), ((missing, 0x0112),))
    finally:
        node.running.shutdown(0)


def orthanc_tls(files: TlsFiles, node_port: int) -> dict[str, Any]:
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(files.certificate),
        "DicomTlsPrivateKey": str(files.key),
        "DicomTlsTrustedCertificates": str(files.authority),
        "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {
            "cxr-worker": {
                "AET": NODE, "Host": "127.0.0.1", "Port": node_port, "UseDicomTls": True,
            }
        },
    }  # fmt: skip
