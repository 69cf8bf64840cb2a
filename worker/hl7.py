r"""Telling by HL7 v2: an ORU^R01 message of version 2.5.1, and what its acknowledgement means.

Messages are written here, and held against hl7apy by the tests: it leaves ``\F\`` in a value as it
is, which a receiver would take for a separator, and lets a carriage return begin another segment.

References
----------
HL7 2.5.1 2.7 (escape sequences), 2.9.2 (acknowledgement), 2.14.8 (MSA), 2.14.9 (MSH), 3.4.2 (PID),
7.3.1 (ORU^R01), 7.4.1 (OBR), 7.4.2 (OBX); tables 0001, 0085, 0123, 0200, 0203, 0396, 4000
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from dicom_node import codes
from worker.notice import ISSUER, Answer, News, NoticeRefused, TargetAway
from worker.settings_notify import NotifyField

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

    from worker.settings import Settings

VERSION: Final = "2.5.1"
# A field, a component, or text that is escaped already.
Value = str
_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_ESCAPING: Final = str.maketrans(_ESCAPES | {chr(c): " " for c in (*range(32), *range(127, 160))})
# Table 0396 has no other name for what is coded here alone.
_LOCAL: Final = "L"


def escaped(text: str) -> Value:
    """Write text so that it is nothing but text; control characters become blanks."""
    return text.translate(_ESCAPING)


def _components(*values: Value) -> Value:
    return "^".join(values).rstrip("^")


def _segment(name: str, fields: Mapping[int, Value]) -> str:
    """Write a segment by the numbers of its fields."""
    last = max(number for number, value in fields.items() if value)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def _code(code: Code) -> Value:
    return _components(*map(escaped, (code.value, code.meaning, code.scheme_designator)))


def _time(at: datetime) -> Value:
    return at.strftime("%Y%m%d%H%M%S%z")


def _date(text: str) -> Value:
    """Write a date of DICOM; one that is none is left out."""
    digits = text.replace(".", "")  # as ACR-NEMA had it
    return digits if len(digits) == 8 and digits.isascii() and digits.isdigit() else ""


# --- the message -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ends:
    """Who sends, and who receives."""

    application: str
    facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""


def message_of(news: News, ends: Ends, at: datetime) -> bytes:
    """Write a notice as a message, in UTF-8.

    Parameters
    ----------
    at
        When it is sent.
    """
    segments = [
        _msh(news, ends, at), _pid(news, ends), _obr(news, ends), *_observations(news, ends)
    ]  # fmt: skip
    return "".join(f"{each}\r" for each in segments).encode("utf-8", "replace")


def _msh(news: News, ends: Ends, at: datetime) -> str:
    fields = {
        1: "^~\\&",  # MSH-2: the separator before it is MSH-1
        2: escaped(ends.application),
        3: escaped(ends.facility),
        4: escaped(ends.receiving_application),
        5: escaped(ends.receiving_facility),
        6: _time(at),
        8: "ORU^R01^ORU_R01",
        9: escaped(news.message_id),
        10: "P",
        11: VERSION,
        17: "UNICODE UTF-8",
    }
    return _segment("MSH", fields)


def _pid(news: News, ends: Ends) -> str:
    """Name the patient as far as it is chosen; what has to be there and is not names nobody."""
    said = news.fields
    identifier = _components(escaped(news.reference), "", "", escaped(ends.application), "ANON")
    if NotifyField.PATIENT_ID in said:
        issuer = escaped(said.get(ISSUER, ""))
        identifier = _components(escaped(said[NotifyField.PATIENT_ID]), "", "", issuer, "PI")
    name = said.get(NotifyField.PATIENT_NAME, "")
    sex = said.get(NotifyField.PATIENT_SEX, "")
    fields = {
        1: "1",
        3: identifier,
        5: _name(name) or "^^^^^^S",  # to ensure anonymity
        7: _date(said.get(NotifyField.PATIENT_BIRTH_DATE, "")),
        8: sex if sex in ("M", "F", "O") else "",
    }
    return _segment("PID", fields)


def _name(text: str) -> Value:
    """Write a name of DICOM (PS3.5 6.2.1): each way of writing it is a repetition."""
    groups = [(way, group) for way, group in zip("AIP", text.split("="), strict=False)]
    written = [(way, _parts(group)) for way, group in groups if group.strip("^ ")]
    if len(written) == 1:
        return _components(*written[0][1])
    return "~".join(_components(*parts, "", "", way) for way, parts in written)


def _parts(group: str) -> list[Value]:
    family, given, middle, prefix, suffix = (*map(str.strip, group.split("^")), *[""] * 5)[:5]
    return [escaped(each) for each in (family, given, middle, suffix, prefix)]


def _obr(news: News, ends: Ends) -> str:
    number = news.fields.get(NotifyField.ACCESSION_NUMBER) or news.reference
    fields = {
        1: "1",
        3: _components(escaped(number), escaped(ends.application)),
        4: _code(codes.IMAGING_PROCEDURE),
        7: _date(news.fields.get(NotifyField.STUDY_DATE, "")),
        22: _time(news.reported_at),
        25: _status(news),
    }
    return _segment("OBR", fields)


def _status(news: News) -> Value:
    """Tables 0085 and 0123: preliminary, as the report says of itself, or a correction."""
    return "C" if news.corrects else "P"


def _observations(news: News, ends: Ends) -> Iterator[str]:
    presence = news.presence
    answer = _code(presence) if presence else _components(escaped(news.finding), "", _LOCAL)
    finding = {2: "CWE", 3: _code(codes.PNEUMONIA), 5: answer, 8: "A" if news.is_positive else ""}
    yield _obx(1, finding, news, ends)
    for number, text in enumerate(news.cautions, 1):
        yield _segment("NTE", {1: str(number), 2: "L", 3: escaped(text)})
    rest: list[dict[int, Value]] = []
    if news.probability is not None:
        concept = codes.PROBABILITY if news.calibrated else codes.CERTAINTY
        percent = f"{100 * news.probability:.1f}"
        rest.append({2: "NM", 3: _code(concept), 5: percent, 6: _code(codes.PERCENT)})
    for field, concept in _UIDS.items():
        if field in news.fields:
            rest.append({2: "ST", 3: _code(concept), 5: escaped(news.fields[field])})
    for number, fields in enumerate(rest, 2):
        yield _obx(number, fields, news, ends)


_UIDS: Final = {
    NotifyField.STUDY_INSTANCE_UID: codes.STUDY_INSTANCE_UID,
    NotifyField.REPORT_UID: codes.REPORT,
}


def _obx(number: int, fields: dict[int, Value], news: News, ends: Ends) -> str:
    equipment = _components(
        escaped(f"{news.model} {news.model_version}"), escaped(ends.application)
    )
    told = {1: str(number), **fields, 11: _status(news), 14: _time(news.reported_at), 18: equipment}
    return _segment("OBX", told)


# --- its acknowledgement ---------------------------------------------------------------------


def answer_of(acknowledgement: bytes, message_id: str) -> Answer:
    """Read an acknowledgement; its text is not repeated, as it may quote the message.

    Raises
    ------
    TargetAway
        When it says that something went wrong (AE, CE), or is no answer to the message.
    NoticeRefused
        When it says that the message will not be taken (AR, CR).
    """
    code, about = _acknowledged(acknowledgement)
    if code is None:
        raise TargetAway("the HL7 receiver answered with something that is no acknowledgement")
    if about != message_id:
        raise TargetAway("the HL7 receiver acknowledged another message")
    words = f"the HL7 receiver answered {code}"
    if code in ("AA", "CA"):
        return Answer(None, words)
    if code in ("AR", "CR"):
        raise NoticeRefused(f"{words}: it rejects the message; see its log")
    raise TargetAway(f"{words}: it could not process the message; see its log", answered=True)


def _acknowledged(data: bytes) -> tuple[str | None, str]:
    """Give the code and the id of the first MSA segment; None when there is none."""
    text = data.decode("latin-1").replace("\n", "\r")
    segments = [each for each in text.split("\r") if each]
    if len(segments) < 2 or not segments[0].startswith("MSH") or len(segments[0]) < 4:
        return None, ""
    separator = segments[0][3]
    for segment in segments[1:]:
        fields = [each.strip() for each in segment.split(separator)]
        if fields[0] == "MSA" and len(fields) > 2 and fields[1] in _CODES:
            return fields[1], fields[2]
    return None, ""


_CODES: Final = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


def send(settings: Settings, news: News) -> Answer:
    """Tell the HL7 receiver; raises as `answer_of` does, and ConfigurationError for TLS's files."""
    from worker.clock import local_time
    from worker.mllp import NoConnection, exchange
    from worker.notify_tls import context_of

    there = settings.hl7_destination
    assert there is not None  # looked at where it is set
    ends = Ends(
        settings.ae_title, settings.hl7_sending_facility, settings.hl7_receiving_application,
        settings.hl7_receiving_facility,
    )  # fmt: skip
    tls = context_of(settings) if there.tls else None
    message = message_of(news, ends, local_time())
    try:
        answer = exchange(there.host, there.port, message, settings.delivery_timeout_s, tls)
    except OSError as error:
        why = error.strerror or type(error).__name__
        reached = not isinstance(error, NoConnection)
        words = f"the HL7 receiver cannot be reached: {why}"
        raise TargetAway(words, reached=reached) from None
    return answer_of(answer, news.message_id)
