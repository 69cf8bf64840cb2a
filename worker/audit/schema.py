"""The audit message of DICOM PS3.15 A.5.1 as data, and how it is written as XML.

References
----------
DICOM PS3.15 A.5.1.1 (schema), A.5.1.2 (values), A.5.2 (conventions)
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from xml.etree.ElementTree import Element, SubElement, tostring

# What came from outside may be of any length; a receiver takes 32768 bytes for certain (A.6).
LONGEST_VALUE = 256
LONGEST_DETAIL = 1024
# XML 1.0 2.2: what may be in a document. What is not becomes U+FFFD.
_NO_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value."""

    value: str
    system: str
    meaning: str


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4  # say, a wrong password
    SERIOUS_FAILURE = 8  # say, too many of them
    MAJOR_FAILURE = 12


class AccessPoint(StrEnum):
    """NetworkAccessPointTypeCode."""

    MACHINE_NAME = "1"
    IP_ADDRESS = "2"


class ObjectType(StrEnum):
    """ParticipantObjectTypeCode."""

    PERSON = "1"
    SYSTEM = "2"


class ObjectRole(StrEnum):
    """ParticipantObjectTypeCodeRole, as far as it is used."""

    PATIENT = "1"
    REPORT = "3"
    SECURITY_RESOURCE = "13"


# AuditSourceTypeCode (A.5.1.2.1)
WEB_SERVER = "3"


@dataclass(frozen=True, slots=True)
class Participant:
    """Who or what took part: a person, a process, a medium."""

    user_id: str
    is_requestor: bool
    role: Code | None = None
    alternative_id: str = ""
    name: str = ""
    address: str = ""
    address_type: AccessPoint = AccessPoint.IP_ADDRESS
    media_type: Code | None = None


@dataclass(frozen=True, slots=True)
class AuditObject:
    """What it was about: a patient, a study, a query, a user."""

    id: str
    id_type: Code
    type: ObjectType
    role: ObjectRole
    name: str = ""
    query: str | None = None
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What happened. The process that writes it down adds itself where `process_role` says.

    Attributes
    ----------
    event : Code
        EventID, of CID 400.
    kind : Code or None
        EventTypeCode, of CID 401.
    action : Action
        What kind of access it was.
    participants : tuple of Participant
        All but the process that writes the message.
    objects : tuple of AuditObject
        What it was about.
    outcome : Outcome
        How it went.
    process_role : Code or None
        RoleIDCode of the process that writes the message.
    """

    event: Code
    action: Action
    participants: tuple[Participant, ...] = ()
    objects: tuple[AuditObject, ...] = ()
    kind: Code | None = None
    outcome: Outcome = Outcome.SUCCESS
    process_role: Code | None = None


def to_xml(
    message: Message, participants: Iterable[Participant], source_id: str, at: datetime
) -> str:
    """Write a message as XML, in one line of ASCII: what is not ASCII becomes references.

    Parameters
    ----------
    message
        What happened.
    participants
        All of them, in their order.
    source_id
        AuditSourceID: which installation writes it down.
    at
        When it happened.
    """
    root = Element("AuditMessage")
    event = SubElement(
        root, "EventIdentification", EventActionCode=message.action,
        EventDateTime=at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(int(message.outcome)),
    )  # fmt: skip
    _add_code(event, "EventID", message.event)
    _add_code(event, "EventTypeCode", message.kind)
    root.extend(map(_participant, participants))
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source_id))
    SubElement(source, "AuditSourceTypeCode", {"csd-code": WEB_SERVER})
    root.extend(map(_object, message.objects))
    return '<?xml version="1.0" encoding="UTF-8"?>' + tostring(root, "us-ascii").decode("ascii")


def _participant(participant: Participant) -> Element:
    attributes = {"UserID": participant.user_id}
    if participant.alternative_id:
        attributes["AlternativeUserID"] = participant.alternative_id
    if participant.name:
        attributes["UserName"] = participant.name
    attributes["UserIsRequestor"] = "true" if participant.is_requestor else "false"
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = participant.address_type
    element = Element("ActiveParticipant", {k: _clean(v) for k, v in attributes.items()})
    _add_code(element, "RoleIDCode", participant.role)
    if participant.media_type is not None:
        _add_code(SubElement(element, "MediaIdentifier"), "MediaType", participant.media_type)
    return element


def _object(subject: AuditObject) -> Element:
    element = Element(
        "ParticipantObjectIdentification", ParticipantObjectID=_clean(subject.id),
        ParticipantObjectTypeCode=subject.type, ParticipantObjectTypeCodeRole=subject.role,
    )  # fmt: skip
    _add_code(element, "ParticipantObjectIDTypeCode", subject.id_type)
    # The schema wants one of these two, be it empty.
    if subject.query is None:
        SubElement(element, "ParticipantObjectName").text = _clean(subject.name)
    else:
        SubElement(element, "ParticipantObjectQuery").text = _base64(subject.query)
    for kind, value in _told(subject.details):
        SubElement(element, "ParticipantObjectDetail", type=_clean(kind), value=_base64(value))
    return element


def _told(details: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((kind, value) for kind, value in details if value)


def _add_code(parent: Element, name: str, code: Code | None) -> None:
    """Write a coded value; nothing when there is none."""
    if code is not None:
        SubElement(
            parent, name,
            {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning},
        )  # fmt: skip


def _clean(value: str) -> str:
    """Give what may stand in XML and in a line, of a value that may be anything."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value[:LONGEST_VALUE])


def _base64(value: str) -> str:
    data = value[:LONGEST_DETAIL].encode("utf-8", "replace")
    return base64.b64encode(data).decode("ascii")
