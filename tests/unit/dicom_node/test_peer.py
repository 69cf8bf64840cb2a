import pytest

from dicom_node.peer import Peer


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("PACS@host:104", Peer("PACS", "host", 104)),
        (" PACS@10.0.0.1:11112 ", Peer("PACS", "10.0.0.1", 11112)),
        ("MY PACS@host.example:104", Peer("MY PACS", "host.example", 104)),
        ("PACS@[::1]:104", Peer("PACS", "::1", 104)),
    ],
)
def test_a_peer_is_read_and_written(text, peer):
    assert Peer.parse(text) == peer
    assert Peer.parse(str(peer)) == peer


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("host:104", "AET@host:port"),
        ("PACS@host", "AET@host:port"),
        ("PACS@host:", "port must be a number"),
        ("PACS@host:0", "port must be a number"),
        ("PACS@host:70000", "port must be a number"),
        ("PACS@host:1e3", "port must be a number"),
        ("PACS@:104", "not a host name"),
        ("PACS@ho st:104", "not a host name"),
        ("@host:104", "AE title"),
        ("A\\B@host:104", "AE title"),
        ("SEVENTEENCHARSLONG@host:104", "AE title"),
    ],
)
def test_what_is_wrong_with_a_peer_is_said(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        Peer.parse(text)
