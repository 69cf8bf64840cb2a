"""The schema of an audit message, for tests: DICOM PS3.15 A.5.1.1, which is RELAX NG, as tables.

For each element: its attributes with the pattern of their values, those that may be missing marked
by ``?``; its children in their order, as a regular expression over ``name;``; and its text.
"""

from __future__ import annotations

import re
from datetime import datetime
from xml.etree.ElementTree import Element, fromstring

_ANY, _TOKEN = r"[\s\S]*", r"|\S(.*\S)?"
_BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_BOOLEAN = "true|false|0|1"
_DATE_TIME = r"-?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"  # A.5.2.5: with its zone

_CODE = {
    "csd-code": _TOKEN, "codeSystemName": _TOKEN, "displayName?": _TOKEN, "originalText": _TOKEN,
}  # fmt: skip


def _numbers(last: int) -> str:
    return "|".join(map(str, range(1, last + 1)))


_ATTRIBUTES: dict[str, dict[str, str]] = {
    "AuditMessage": {},
    "EventIdentification": {
        "EventActionCode?": "C|R|U|D|E", "EventDateTime": _DATE_TIME,
        "EventOutcomeIndicator": "0|4|8|12",
    },
    "EventID": _CODE,
    "EventTypeCode": _CODE,
    "EventOutcomeDescription": {},
    "ActiveParticipant": {
        "UserID": _ANY, "AlternativeUserID?": _ANY, "UserName?": _ANY,
        "UserIsRequestor": _BOOLEAN, "NetworkAccessPointID?": _TOKEN,
        "NetworkAccessPointTypeCode?": _numbers(5),
    },
    "RoleIDCode": _CODE,
    "MediaIdentifier": {},
    "MediaType": _CODE,
    "AuditSourceIdentification": {"AuditEnterpriseSiteID?": _TOKEN, "AuditSourceID": _TOKEN},
    "AuditSourceTypeCode": {
        "csd-code": _TOKEN, "codeSystemName?": _TOKEN, "displayName?": _TOKEN,
        "originalText?": _TOKEN,
    },
    "ParticipantObjectIdentification": {
        "ParticipantObjectID": _TOKEN, "ParticipantObjectTypeCode?": _numbers(4),
        "ParticipantObjectTypeCodeRole?": _numbers(26),
        "ParticipantObjectDataLifeCycle?": _numbers(15), "ParticipantObjectSensitivity?": _TOKEN,
    },
    "ParticipantObjectIDTypeCode": _CODE,
    "ParticipantObjectName": {},
    "ParticipantObjectQuery": {},
    "ParticipantObjectDetail": {"type": _TOKEN, "value": _BASE64},
}  # fmt: skip
_CHILDREN = {
    "AuditMessage": "EventIdentification;(ActiveParticipant;)+AuditSourceIdentification;"
    "(ParticipantObjectIdentification;)*",
    "EventIdentification": "EventID;(EventTypeCode;)*(EventOutcomeDescription;)?",
    "ActiveParticipant": "(RoleIDCode;)*(MediaIdentifier;)?",
    "MediaIdentifier": "MediaType;",
    "AuditSourceIdentification": "(AuditSourceTypeCode;)*",
    "ParticipantObjectIdentification": "ParticipantObjectIDTypeCode;"
    "(ParticipantObjectName;|ParticipantObjectQuery;)(ParticipantObjectDetail;)*",
}
_TEXT = {
    "EventOutcomeDescription": _ANY, "ParticipantObjectName": _TOKEN,
    "ParticipantObjectQuery": _BASE64,
}  # fmt: skip


def valid(xml: str) -> Element:
    """Read a message that must be valid by the schema."""
    root = fromstring(xml)
    assert root.tag == "AuditMessage"
    for element in root.iter():
        _check_attributes(element)
        children = "".join(f"{child.tag};" for child in element)
        assert re.fullmatch(_CHILDREN.get(element.tag, ""), children), (element.tag, children)
        assert re.fullmatch(_TEXT.get(element.tag, ""), element.text or ""), element.tag
        assert not element.tail
    when = root[0].get("EventDateTime")
    assert when is not None
    assert datetime.fromisoformat(when).utcoffset() is not None
    # A.5.2: at most one participant is the requestor.
    requestors = [
        each for each in root.iter("ActiveParticipant") if each.get("UserIsRequestor") == "true"
    ]
    assert len(requestors) <= 1
    return root


def _check_attributes(element: Element) -> None:
    patterns = _ATTRIBUTES[element.tag]
    required = {name for name in patterns if not name.endswith("?")}
    known = {name.removesuffix("?"): pattern for name, pattern in patterns.items()}
    assert required <= set(element.attrib) <= set(known), (element.tag, element.attrib)
    for name, value in element.attrib.items():
        assert re.fullmatch(known[name], value), (element.tag, name, value)
