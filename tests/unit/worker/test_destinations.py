"""Destinations and known peers, as text and as tables of a TOML file."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dicom_node.peer import Peer
from worker.destinations import Destination, KnownPeer
from worker.states import CompanionKind

PACS = Peer("PACS", "192.0.2.7", 104)
BOTH = frozenset(CompanionKind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PACS@192.0.2.7:104", Destination(PACS)),
        ("PACS@192.0.2.7:104?", Destination(PACS)),
        ("PACS@192.0.2.7:104?tls=on", Destination(PACS, tls=True)),
        ("PACS@192.0.2.7:104?commitment=off", Destination(PACS, commitment=False)),
        ("PACS@192.0.2.7:104?companions=", Destination(PACS)),
        (
            " PACS@192.0.2.7:104?companions=picture&tls=ON ",
            Destination(PACS, frozenset({CompanionKind.PICTURE}), tls=True),
        ),
        (
            "PACS@192.0.2.7:104?companions=picture+key-object&tls=on&commitment=off",
            Destination(PACS, BOTH, tls=True, commitment=False),
        ),
        ("WHAT?&@[::1]:104?tls=on", Destination(Peer("WHAT?&", "::1", 104), tls=True)),
    ],
)
def test_a_destination_is_read_with_its_options(text: str, expected: Destination) -> None:
    assert Destination.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PACS", "'PACS' is not of the form AET@host:port"),
        ("PACS@h:1?colour=red", "'colour' is no option here; there are companions, tls, commit"),
        ("PACS@h:1?tls", "tls is on or off, not ''"),
        ("PACS@h:1?tls=1", "tls is on or off, not '1'"),
        ("PACS@h:1?commitment=maybe", "commitment is on or off, not 'maybe'"),
        ("PACS@h:1?tls=on&tls=off", "tls is given twice"),
        ("PACS@h:1?companions=video", "'video' is no companion; there are picture, key-object"),
        ("PACS@h:1?companions=picture,key-object", "'picture,key-object' is no companion"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_what_there_is(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        Destination.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"peer": "PACS@192.0.2.7:104"}, Destination(PACS)),
        (
            {"peer": "PACS@192.0.2.7:104", "companions": ["picture", "key-object"], "tls": True},
            Destination(PACS, BOTH, tls=True),
        ),
        ({"peer": "PACS@192.0.2.7:104", "commitment": False}, Destination(PACS, commitment=False)),
        ({"peer": "PACS@192.0.2.7:104", "tls": "on"}, Destination(PACS, tls=True)),
    ],
)
def test_a_table_says_the_same_in_its_own_types(
    table: dict[str, Any], expected: Destination
) -> None:
    assert Destination.of(table) == expected


@pytest.mark.parametrize(
    "table",
    [
        {}, {"peer": 7}, {"peer": "PACS@h:1", "tls": 1}, {"peer": "PACS@h:1", "companions": 3},
        {"peer": "PACS@h:1", "companions": [["picture"]]}, {"peer": "PACS@h:1", "other": 1},
    ],
)  # fmt: skip
def test_a_wrong_table_is_a_sentence_too(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"AET@host:port|is on or off|is no"):
        Destination.of(table)


def test_a_known_peer_has_tls_alone() -> None:
    assert KnownPeer.parse("PACS@192.0.2.7:104?tls=on") == KnownPeer(PACS, tls=True)
    with pytest.raises(ValueError, match=r"'companions' is no option here; there are tls$"):
        KnownPeer.parse("PACS@192.0.2.7:104?companions=picture")
