"""The presentation data values of a P-DATA-TF: parts of messages, on their way to DIMSE."""

from __future__ import annotations

import struct
from typing import Final

from pynetdicom.pdu_primitives import P_DATA

# PS3.8 9.3.1: type, reserved, length of the rest; 9.3.5.1: length of an item, context id.
HEADER: Final = struct.Struct(">BxL")
_ITEM: Final = struct.Struct(">LB")
P_DATA_TF: Final = 0x04
LAST_FRAGMENT: Final = 0x02  # PS3.8 E.2, of the message control header


class DataValues:
    """The presentation data values of a P-DATA-TF, which stay where they were received.

    The library's class copies each of them several times.

    Parameters
    ----------
    data : memoryview
        The PDU.

    Raises
    ------
    ValueError
        When its items do not fill it.

    References
    ----------
    DICOM PS3.8 9.3.5
    """

    def __init__(self, data: memoryview) -> None:
        self.each: list[tuple[int, memoryview]] = []
        at = HEADER.size
        while at < len(data):
            length, context_id = _ITEM.unpack_from(data, at)
            start, at = at + _ITEM.size, at + 4 + length
            if start >= at or at > len(data):  # it has a message control header at least
                raise ValueError("an item is longer than its PDU, or empty")
            self.each.append((context_id, data[start:at]))

    def to_primitive(self) -> P_DATA:
        """Give them as the library's own reading does."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self.each)
        return primitive
