import re
import ssl
import subprocess
import threading
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from dicom_node.commitment import PUSH_MODEL, Reference, request_commitment
from dicom_node.contexts import REPORT_SOP_CLASSES
from dicom_node.errors import ConfigurationError, PeerError
from dicom_node.storage_scu import echo, offers, send
from dicom_node.tls import CIPHER_SUITES, client_context, expiry, server_context
from tests.certificates import Authority
from tests.datasets import ROOT, image, part10
from tests.pacs import EXPLICIT, IMPLICIT, VERIFICATION, Pacs, deliver, listening

CR, SR_3D = image().SOPClassUID, REPORT_SOP_CLASSES[0]
TLS_1_1, TLS_1_2 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The authority of the hospital."""
    return Authority(tmp_path_factory.mktemp("tls") / "hospital")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture(scope="module")
def node(ours):
    return ours.issue("node")


@pytest.fixture(scope="module")
def pacs_files(ours):
    return ours.issue("pacs")


@pytest.fixture
def pacs():
    started = []

    def start(tls, accepts=((VERIFICATION, IMPLICIT),), **options):
        started.append(Pacs(tls=tls, accepts=accepts, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


# --- contexts --------------------------------------------------------------------------------


def handshake(client, server):
    """Shake hands in memory; return the version and the cipher suite.

    With TLS 1.3 the client is done before it is judged, so that a byte is sent at the end.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    other.write(b"x")
    assert one.read(1) == b"x"
    return one.version(), one.cipher()[0]


def loose(side, version, suites, files=None):
    """A context as an old or careless peer has it."""
    context = ssl.SSLContext(side)
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(f"{suites}:@SECLEVEL=0")
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def test_tls_1_3_is_spoken_where_both_can(node, pacs_files):
    version, _ = handshake(client_context(node), server_context(pacs_files))
    assert version == "TLSv1.3"


@pytest.mark.parametrize("suite", [s for s in CIPHER_SUITES if "ECDSA" in s])
def test_tls_1_2_is_spoken_with_the_suites_of_bcp_195(node, pacs_files, suite):
    old_client = loose(ssl.PROTOCOL_TLS_CLIENT, TLS_1_2, suite, node)
    old_server = loose(ssl.PROTOCOL_TLS_SERVER, TLS_1_2, suite, pacs_files)
    assert handshake(client_context(node), old_server) == ("TLSv1.2", suite)
    assert handshake(old_client, server_context(pacs_files)) == ("TLSv1.2", suite)


def test_only_suites_of_bcp_195_are_proposed(node):
    old = [s["name"] for s in client_context(node).get_ciphers() if s["protocol"] != "TLSv1.3"]
    assert old == list(CIPHER_SUITES)


@pytest.mark.parametrize(
    ("version", "suite"),
    [
        (ssl.TLSVersion.TLSv1, "ALL"),
        (TLS_1_1, "ALL"),
        (TLS_1_2, "ECDHE-ECDSA-AES128-SHA256"),  # CBC
        (TLS_1_2, "ECDHE-ECDSA-AES256-SHA"),  # CBC and SHA-1
        (TLS_1_2, "ECDHE-ECDSA-NULL-SHA"),  # no encryption
    ],
)
def test_old_versions_and_weak_suites_are_refused_on_both_sides(node, pacs_files, version, suite):
    old_client = loose(ssl.PROTOCOL_TLS_CLIENT, version, suite, node)
    old_server = loose(ssl.PROTOCOL_TLS_SERVER, version, suite, pacs_files)
    handshake(old_client, old_server)
    for client, server in (
        (client_context(node), old_server),
        (old_client, server_context(pacs_files)),
    ):
        with pytest.raises(ssl.SSLError):
            handshake(client, server)


def test_each_side_refuses_whom_it_does_not_trust(node, theirs, pacs_files):
    stranger = theirs.issue("stranger")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(node), server_context(stranger))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(replace(stranger, authority=node.authority)), server_context(node))
    nobody = loose(ssl.PROTOCOL_TLS_CLIENT, TLS_1_2, "ALL")
    with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
        handshake(nobody, server_context(pacs_files))


def test_a_peers_own_certificate_may_be_trusted_instead_of_its_authority(node, theirs):
    stranger = theirs.issue("trusted-stranger")
    knows = client_context(replace(node, authority=stranger.certificate))
    handshake(knows, server_context(replace(stranger, authority=node.authority)))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(knows, server_context(theirs.issue("other-stranger")))


def wrong_files(files, folder):
    """Sets of files that do not do, each with the setting and the words of its error."""
    text = folder / "text.pem"
    text.write_text("not PEM")
    gone = Path("/nowhere/gone.pem")
    return [
        (replace(files, certificate=gone), "CXR_TLS_CERTIFICATE: /nowhere/gone.pem cannot be read"),
        (replace(files, key=gone), "CXR_TLS_KEY: /nowhere/gone.pem cannot be read: No such file"),
        (replace(files, authority=gone), "CXR_TLS_AUTHORITY: /nowhere/gone.pem cannot be read"),
        (replace(files, certificate=text), "CXR_TLS_CERTIFICATE: .* holds no certificate in PEM"),
        (replace(files, certificate=files.key), "CXR_TLS_CERTIFICATE: .* holds no certificate"),
        (replace(files, key=text), "CXR_TLS_KEY: .* holds no private key in PEM"),
        (replace(files, authority=text), "CXR_TLS_AUTHORITY: .* holds no certificate in PEM"),
        (replace(files, authority=files.certificate.parent), "CXR_TLS_AUTHORITY: .* cannot be"),
    ]


def test_a_file_that_does_not_do_is_named_with_its_setting(node, tmp_path):
    for files, words in wrong_files(node, tmp_path):
        for context in (client_context, server_context):
            with pytest.raises(ConfigurationError, match=words):
                context(files)


def test_a_key_of_another_certificate_is_told_apart(node, pacs_files):
    with pytest.raises(ConfigurationError, match=r"CXR_TLS_KEY: .* does not belong to the cert"):
        client_context(replace(node, key=pacs_files.key))


def test_an_encrypted_key_is_told_apart_and_no_password_is_asked_for(node, tmp_path):
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", node.key, "-out", locked, "-passout", "pass:secret"],
        check=True,
    )
    with pytest.raises(ConfigurationError, match=r"CXR_TLS_KEY: .* is encrypted"):
        client_context(replace(node, key=locked))


def test_the_expiry_of_a_certificate_is_read(node, ours):
    now = datetime.now(UTC)
    assert now + timedelta(days=1) < expiry(node.certificate) < now + timedelta(days=3)
    assert expiry(ours.issue("for-long", days=20_000).certificate) > now + timedelta(days=19_000)
    assert expiry(ours.issue("expired", days=0).certificate) <= datetime.now(UTC)
    with pytest.raises(ConfigurationError, match="CXR_TLS_CERTIFICATE"):
        expiry(node.key)


# --- associations ----------------------------------------------------------------------------


def test_all_that_we_send_goes_over_tls(pacs, node, pacs_files):
    peer = pacs(
        server_context(pacs_files),
        [(VERIFICATION, IMPLICIT), *((uid, EXPLICIT) for uid in (CR, SR_3D, PUSH_MODEL))],
    )
    tls = client_context(node)
    report = part10(image(SOPClassUID=SR_3D))
    echo(peer.peer, "CXR", 20, tls=tls)
    assert offers(peer.peer, "CXR", [SR_3D], 20, tls=tls) == {SR_3D}
    assert [a.status for a in send([image()], peer.peer, "CXR", timeout_s=20, tls=tls)] == [0]
    assert deliver(report, peer.peer, "CXR", 20, tls=tls).offers_commitment
    with pytest.raises(PeerError, match="processing failure"):  # the library's own answer
        request_commitment([Reference(SR_3D, f"{ROOT}.1")], peer.peer, "CXR", ROOT, tls=tls)
    assert peer.associations == 5


def test_a_large_instance_goes_over_tls(pacs, node, pacs_files):
    peer = pacs(server_context(pacs_files), [(CR, EXPLICIT)])
    large = image(np.arange(4_000_000, dtype=np.uint16).reshape(2000, 2000))
    (answer,) = send([large], peer.peer, "CXR", timeout_s=20, tls=client_context(node))
    assert answer.status == 0x0000
    assert len(peer.files[0]) > 8_000_000


def refused(peer, tls, timeout_s=20):
    """Why a C-ECHO fails."""
    with pytest.raises(PeerError) as error:
        echo(peer, "CXR", timeout_s, tls=tls)
    assert error.value.peer == str(peer)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{peer} ")


NO_TLS = "speaks no TLS on this port, although TLS is set for it; "


def test_a_peer_without_tls_is_told_apart_where_tls_is_set(pacs, node):
    assert refused(pacs(None).peer, client_context(node)).startswith(NO_TLS)


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection: connection.recv(1000),  # and closes
        lambda connection: connection.sendall(b"HTTP/1.1 400\r\n\r\n"),
    ],
)
def test_a_peer_that_is_none_is_told_apart_where_tls_is_set(node, behave):
    with listening(behave, times=2) as peer:
        assert refused(peer, client_context(node), 0.5).startswith(NO_TLS)


def test_a_peer_that_is_silent_is_told_apart_where_tls_is_set(node):
    done = threading.Event()
    with listening(lambda _: done.wait(60)) as peer:
        words = "does not answer a TLS handshake; it may be busy, or speak no TLS on this port"
        assert refused(peer, client_context(node), 0.3).startswith(words)
        done.set()


def test_a_peer_with_tls_is_told_apart_where_tls_is_not_set(pacs, pacs_files):
    words = "speaks TLS on this port, although TLS is not set for it; "
    assert refused(pacs(server_context(pacs_files)).peer, None).startswith(words)
    lenient = loose(ssl.PROTOCOL_TLS_SERVER, TLS_1_2, "ALL", pacs_files)
    assert refused(pacs(lenient).peer, None).startswith(words)
    old = loose(ssl.PROTOCOL_TLS_SERVER, TLS_1_1, "ALL", pacs_files)
    assert refused(pacs(old).peer, None).startswith(words)


def test_a_peer_whose_certificate_is_not_trusted_is_told_apart(pacs, node, theirs):
    words = r"has a certificate that is not trusted; .* CXR_TLS_AUTHORITY"
    peer = pacs(server_context(theirs.issue("stranger")))
    assert_matches(words, refused(peer.peer, client_context(node)))


def test_a_peer_whose_certificate_has_expired_is_told_apart(pacs, node, ours):
    peer = pacs(server_context(ours.issue("expired-pacs", days=0)))
    assert_matches("has a certificate that has expired", refused(peer.peer, client_context(node)))


@pytest.mark.parametrize("version", [TLS_1_2, ssl.TLSVersion.TLSv1_3])
def test_a_peer_that_refuses_our_certificate_is_told_apart(pacs, node, theirs, ours, version):
    context = server_context(replace(ours.issue("strict"), authority=theirs.certificate))
    context.maximum_version = version
    words = r"refuses our certificate \(unknown ca\); check CXR_TLS_CERTIFICATE"
    assert_matches(words, refused(pacs(context).peer, client_context(node)))


def test_a_peer_that_finds_our_certificate_expired_is_told_apart(pacs, pacs_files, ours):
    words = r"refuses our certificate \(certificate expired\)"
    peer = pacs(server_context(pacs_files))
    assert_matches(words, refused(peer.peer, ours.client("expired-node", days=0)))


def test_a_peer_of_an_old_version_is_told_apart(pacs, node, pacs_files):
    peer = pacs(loose(ssl.PROTOCOL_TLS_SERVER, TLS_1_1, "ALL", pacs_files))
    assert_matches("has no TLS 1.2 or later", refused(peer.peer, client_context(node)))


def test_a_peer_of_weak_suites_only_is_told_apart(pacs, node, pacs_files):
    suite = "ECDHE-ECDSA-AES128-SHA256"
    peer = pacs(loose(ssl.PROTOCOL_TLS_SERVER, TLS_1_2, suite, pacs_files))
    assert_matches(
        ".*may share no cipher suite of BCP 195", refused(peer.peer, client_context(node))
    )


def test_a_peer_of_tls_that_does_not_speak_dicom_is_told_apart(node, pacs_files):
    context = server_context(pacs_files)

    def behave(connection):
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1000)

    with listening(behave, times=2) as peer:
        words = "takes the connection, with TLS, but does not associate"
        assert_matches(words, refused(peer, client_context(node)))


def assert_matches(pattern, words):
    assert re.match(pattern, words), words
