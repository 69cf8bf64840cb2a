"""The parts of messages, as they stand in a PDU."""

import struct

import pytest
from pynetdicom.pdu import P_DATA_TF

from dicom_node.data_values import DataValues


def pdu(*items):
    body = b"".join(struct.pack(">LB", len(value) + 1, context) + value for context, value in items)
    return memoryview(struct.pack(">BxL", 4, len(body)) + body)


@pytest.mark.parametrize(
    "items",
    [
        [(1, b"\x03command")],
        [(1, b"\x03command"), (1, b"\x00first"), (1, b"\x02last")],
        [(255, b"\x02")],
        [],
    ],
)
def test_values_are_what_the_library_reads(items):
    data = pdu(*items)
    theirs = P_DATA_TF()
    theirs.decode(bytes(data))
    expected = theirs.to_primitive().presentation_data_value_list
    ours = DataValues(data).to_primitive().presentation_data_value_list
    assert [(context, bytes(value)) for context, value in ours] == [tuple(v) for v in expected]


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">LB", 100, 1) + b"\x03short",
        struct.pack(">LB", 1, 1),
        struct.pack(">LB", 0, 1),
        struct.pack(">LB", 2, 1) + b"\x03" + b"\0\0\0",
    ],
    ids=["longer than its PDU", "without a control header", "of no length", "cut off"],
)
def test_an_item_that_does_not_fit_its_pdu_is_an_error(body):
    with pytest.raises((ValueError, struct.error)):
        DataValues(memoryview(struct.pack(">BxL", 4, len(body)) + body))
