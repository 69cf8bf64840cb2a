"""Audit messages: valid by the schema of PS3.15 A.5.1, with the codes that A.5.3 asks for."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from urllib.parse import parse_qs
from xml.etree.ElementTree import Element

import pytest
from pydicom.sr.codedict import codes

from tests.audit_schema import valid
from tests.fakes import NOON
from worker.audit import messages
from worker.audit.messages import Person, StudyOf
from worker.audit.schema import Code, Message, Outcome
from worker.audit.trail import Trail

ANNA = Person("anna", "192.0.2.7")
STUDY = StudyOf("1.2.3", "P-17")
OTHER = StudyOf("1.2.4", "P-17")
HERE = socket.gethostname()

EVERY: dict[str, Message] = {
    "start": messages.application_started(Person("root")),
    "start by itself": messages.application_started(),
    "stop": messages.application_stopped(),
    "login": messages.signed_in(ANNA),
    "wrong password": messages.signed_in(ANNA, Outcome.MINOR_FAILURE),
    "too many": messages.signed_in(ANNA, Outcome.SERIOUS_FAILURE),
    "logout": messages.signed_out(ANNA),
    "view": messages.study_viewed(ANNA, STUDY),
    "verdict": messages.study_changed(ANNA, STUDY, "disagrees with the finding"),
    "erasure": messages.study_deleted(ANNA, STUDY),
    "search": messages.studies_searched(ANNA, {"patient_id": "P-17", "state": "ü & ö"}),
    "export": messages.exported(ANNA, [STUDY, OTHER], "/studies.csv")[0],
    "sent": messages.instances_sent(ANNA, STUDY),
    "received": messages.instances_received(ANNA, STUDY),
    "user": messages.user_changed(ANNA, "berta", "disabled"),
    "role": messages.role_changed(ANNA, "berta", "is admin now"),
    "refused": messages.access_refused(ANNA, "/users"),
    "model": messages.model_changed(ANNA, "promoted cxr 1.2"),
}


def line_of(message: Message, tmp_path: Path) -> str:
    path = tmp_path / "audit" / "audit.log"
    Trail(path, "CXRWORKER", lambda: NOON).record(message)
    (line,) = path.read_text("ascii").splitlines()
    return line


def xml_of(message: Message, tmp_path: Path) -> Element:
    return valid(line_of(message, tmp_path).split(" - ", 1)[1])


def code(element: Element | None) -> tuple[str | None, ...]:
    assert element is not None
    return tuple(element.get(name) for name in ("csd-code", "codeSystemName", "originalText"))


def coded(value: str, meaning: str, system: str = "DCM") -> tuple[str, str, str]:
    return value, system, meaning


def detail(element: Element) -> dict[str | None, str]:
    return {
        each.get("type"): base64.b64decode(each.get("value", "")).decode()
        for each in element.iter("ParticipantObjectDetail")
    }


def objects(root: Element) -> list[Element]:
    return root.findall("ParticipantObjectIdentification")


def kinds(element: Element) -> tuple[str | None, str | None, str | None]:
    return (
        element.get("ParticipantObjectTypeCode"), element.get("ParticipantObjectTypeCodeRole"),
        element.get("ParticipantObjectID"),
    )  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_message_is_valid_by_the_schema(name: str, tmp_path: Path) -> None:
    root = xml_of(EVERY[name], tmp_path)
    event = root[0]
    assert event.get("EventDateTime") == "2026-11-23T12:00:00.000+00:00"
    process = root.findall("ActiveParticipant")[-1]
    assert process.get("UserID") == str(os.getpid())
    assert process.get("AlternativeUserID") == "AETITLES=CXRWORKER"
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.get("AuditSourceID") == f"CXRWORKER@{HERE}"


@pytest.mark.parametrize(
    "each", [each for each in vars(messages).values() if isinstance(each, Code)], ids=str
)
def test_every_code_of_dicom_has_the_meaning_that_dicom_gives_it(each: Code) -> None:
    if each.system == "DCM":
        meanings = {codes.DCM.__getattr__(name).value: codes.DCM.__getattr__(name).meaning
                    for name in codes.DCM.dir()}  # fmt: skip
        assert meanings[each.value] == each.meaning
    else:
        names = {
            "2": "Patient Number",
            "10": "Search Criteria",
            "11": "User Identifier",
            "12": "URI",
        }
        assert (each.system, names[each.value]) == ("RFC-3881", each.meaning)  # A.5.1.2.4


@pytest.mark.parametrize(
    ("name", "event", "kind", "action", "outcome"),
    [
        ("start", "110100", "110120", "E", "0"),
        ("stop", "110100", "110121", "E", "0"),
        ("login", "110114", "110122", "E", "0"),
        ("wrong password", "110114", "110122", "E", "4"),
        ("too many", "110114", "110122", "E", "8"),
        ("logout", "110114", "110123", "E", "0"),
        ("view", "110103", None, "R", "0"),
        ("verdict", "110103", None, "U", "0"),
        ("erasure", "110105", None, "D", "0"),
        ("search", "110112", None, "E", "0"),
        ("export", "110106", None, "R", "0"),
        ("sent", "110104", None, "R", "0"),
        ("received", "110104", None, "C", "0"),
        ("user", "110113", "110137", "E", "0"),
        ("role", "110113", "110136", "E", "0"),
        ("refused", "110113", "110132", "E", "8"),
    ],
)
def test_each_event_has_its_codes(
    tmp_path: Path, name: str, event: str, kind: str | None, action: str, outcome: str
) -> None:
    found = xml_of(EVERY[name], tmp_path)[0]
    assert found[0].get("csd-code") == event
    assert [each.get("csd-code") for each in found.findall("EventTypeCode")] == [kind][: bool(kind)]
    assert (found.get("EventActionCode"), found.get("EventOutcomeIndicator")) == (action, outcome)


def test_a_view_names_who_saw_which_study_of_which_patient(tmp_path: Path) -> None:
    root = xml_of(EVERY["view"], tmp_path)
    person = root.findall("ActiveParticipant")[0]
    assert person.attrib == {
        "UserID": f"anna@{HERE}", "UserName": "anna", "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.7", "NetworkAccessPointTypeCode": "2",
    }  # fmt: skip
    study, patient = objects(root)
    assert kinds(study) == ("2", "3", "1.2.3")
    assert code(study[0]) == coded("110180", "Study Instance UID")
    assert kinds(patient) == ("1", "1", "P-17")
    assert code(patient[0]) == coded("2", "Patient Number", "RFC-3881")


def test_a_change_says_what_was_done(tmp_path: Path) -> None:
    study, _ = objects(xml_of(EVERY["verdict"], tmp_path))
    assert detail(study) == {"Action": "disagrees with the finding"}


def test_a_search_says_for_what(tmp_path: Path) -> None:
    root = xml_of(EVERY["search"], tmp_path)
    (query,) = objects(root)
    assert kinds(query)[:2] == ("2", "3")
    told = base64.b64decode(query.findtext("ParticipantObjectQuery", "")).decode()
    assert parse_qs(told) == {"patient_id": ["P-17"], "state": ["ü & ö"]}
    roles = [code(each.find("RoleIDCode")) for each in root.findall("ActiveParticipant")]
    assert roles == [coded("110153", "Source Role ID"), coded("110152", "Destination Role ID")]


def test_an_export_names_each_patient_once_and_where_it_went(tmp_path: Path) -> None:
    root = xml_of(EVERY["export"], tmp_path)
    assert [kinds(each)[2] for each in objects(root)] == ["1.2.3", "1.2.4", "P-17"]
    person, media, process = root.findall("ActiveParticipant")
    assert code(person.find("RoleIDCode")) == coded("110152", "Destination Role ID")
    assert code(process.find("RoleIDCode")) == coded("110153", "Source Role ID")
    assert code(media.find("RoleIDCode")) == coded("110154", "Destination Media")
    assert code(media.find("MediaIdentifier/MediaType")) == coded("110037", "URI")
    assert media.get("UserIsRequestor") == "false"
    assert media.get("UserID") == "/studies.csv"


def test_an_export_of_many_studies_is_several_messages_that_every_receiver_takes(
    tmp_path: Path,
) -> None:
    many = [StudyOf(f"1.2.{n}".ljust(64, "7"), f"\N{SNOWMAN}{n}" * 80) for n in range(60)]
    parts = messages.exported(ANNA, many, "/studies.csv" + "x" * 5000)
    path = tmp_path / "audit.log"
    Trail(path, "CXRWORKER").record(*parts)
    lines = path.read_bytes().splitlines()
    assert len(lines) == len(parts) == 3
    assert max(map(len, lines)) < 100_000
    told = [
        kinds(each)[2]
        for line in lines
        for each in objects(valid(line.decode().split(" - ", 1)[1]))
    ]
    assert {each.study_instance_uid for each in many} <= set(told)


def test_an_alert_describes_itself(tmp_path: Path) -> None:
    for name, told in (
        ("user", "disabled"), ("role", "is admin now"),
        ("refused", "refused: the role does not allow it"),
    ):  # fmt: skip
        (subject,) = objects(xml_of(EVERY[name], tmp_path / name))
        assert detail(subject) == {"Alert Description": told}
        assert kinds(subject)[:2] == ("2", "13")


def test_who_was_refused_is_named_but_did_not_ask_for_the_alert(tmp_path: Path) -> None:
    root = xml_of(EVERY["refused"], tmp_path)
    person = root.findall("ActiveParticipant")[0]
    assert (person.get("UserName"), person.get("UserIsRequestor")) == ("anna", "false")


def test_who_is_at_this_machine_has_its_name_as_address(tmp_path: Path) -> None:
    person = xml_of(messages.signed_out(Person("root")), tmp_path).findall("ActiveParticipant")[0]
    assert person.get("NetworkAccessPointID") == HERE
    assert person.get("NetworkAccessPointTypeCode") == "1"


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\r\n<85>1 forged",
        "\x00\x1b[31m\ufffe",
        "\ud800",
        '"><AuditMessage/>',
        "&lt;",
        "ü" * 10_000,
        "]]>",
        "\U0001f600",
        "",
    ],
)
def test_whatever_was_typed_as_a_name_stays_a_name(tmp_path: Path, name: str) -> None:
    message = messages.signed_in(Person(name, "192.0.2.7"), Outcome.MINOR_FAILURE)
    line = line_of(message, tmp_path)
    assert line.isascii()
    assert line.isprintable()
    root = valid(line.split(" - ", 1)[1])
    assert len(root.findall("ActiveParticipant")[0].get("UserID", "")) <= 256


def test_the_envelope_is_that_of_the_syslog_profile(tmp_path: Path) -> None:
    good = line_of(EVERY["login"], tmp_path / "good")
    bad = line_of(EVERY["wrong password"], tmp_path / "bad")
    head = f"1 2026-11-23T12:00:00.000+00:00 {HERE} cxr-worker {os.getpid()} DICOM+RFC3881 - <?xml "
    assert good.startswith(f"<85>{head}")
    assert bad.startswith(f"<84>{head}"), "a warning"
