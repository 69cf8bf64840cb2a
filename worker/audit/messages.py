"""What is written to the audit trail, one function for each kind of event.

References
----------
DICOM PS3.15 A.5.3; PS3.16 CID 400 (event), 401 (type), 402 (role), 403 (alert), 404 (object), 405
(media)
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from worker.audit.schema import (
    AccessPoint,
    Action,
    AuditObject,
    Code,
    Message,
    ObjectRole,
    ObjectType,
    Outcome,
    Participant,
)

APPLICATION_ACTIVITY = Code("110100", "DCM", "Application Activity")
INSTANCES_ACCESSED = Code("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DCM", "DICOM Instances Transferred")
STUDY_DELETED = Code("110105", "DCM", "DICOM Study Deleted")
EXPORT = Code("110106", "DCM", "Export")
QUERY = Code("110112", "DCM", "Query")
SECURITY_ALERT = Code("110113", "DCM", "Security Alert")
USER_AUTHENTICATION = Code("110114", "DCM", "User Authentication")

APPLICATION_START = Code("110120", "DCM", "Application Start")
APPLICATION_STOP = Code("110121", "DCM", "Application Stop")
LOGIN = Code("110122", "DCM", "Login")
LOGOUT = Code("110123", "DCM", "Logout")
SOFTWARE_CONFIGURATION = Code("110131", "DCM", "Software Configuration")
RESTRICTED_FUNCTION = Code("110132", "DCM", "Use of Restricted Function")
ROLES_CHANGED = Code("110136", "DCM", "Security Roles Changed")
USER_CHANGED = Code("110137", "DCM", "User Security Attributes Changed")

APPLICATION = Code("110150", "DCM", "Application")
LAUNCHER = Code("110151", "DCM", "Application Launcher")
DESTINATION = Code("110152", "DCM", "Destination Role ID")
SOURCE = Code("110153", "DCM", "Source Role ID")
DESTINATION_MEDIA = Code("110154", "DCM", "Destination Media")
URI_MEDIA = Code("110037", "DCM", "URI")

NODE = Code("110182", "DCM", "Node ID")
STUDY_UID = Code("110180", "DCM", "Study Instance UID")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
SEARCH_CRITERIA = Code("10", "RFC-3881", "Search Criteria")
USER_IDENTIFIER = Code("11", "RFC-3881", "User Identifier")
URI = Code("12", "RFC-3881", "URI")

# Of this many, a message is surely shorter than what every receiver takes (A.6).
MOST_STUDIES = 25


@dataclass(frozen=True, slots=True)
class Person:
    """Who did something.

    Attributes
    ----------
    name : str
        Of the user; where a sign-in failed, what was typed.
    address : str
        Of their browser, as an IP address; empty for whoever is at this machine.
    """

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class StudyOf:
    """A study, and whose it is."""

    study_instance_uid: str
    patient_id: str


def application_started(by: Person | None = None) -> Message:
    """Say that the web pages are served from now on."""
    return _activity(APPLICATION_START, by)


def application_stopped(by: Person | None = None) -> Message:
    """Say that the web pages are no longer served."""
    return _activity(APPLICATION_STOP, by)


def signed_in(person: Person, outcome: Outcome = Outcome.SUCCESS) -> Message:
    """Say that somebody signed in, or tried to.

    Parameters
    ----------
    person
        Who it is, or claims to be.
    outcome
        A minor failure for a wrong password, a serious one for a try too many.
    """
    return _authentication(LOGIN, person, outcome)


def signed_out(person: Person) -> Message:
    """Say that somebody signed out."""
    return _authentication(LOGOUT, person, Outcome.SUCCESS)


def study_viewed(person: Person, study: StudyOf) -> Message:
    """Say that somebody saw a patient's study: a page of it, or an image."""
    return _accessed(person, study, Action.READ, "")


def study_changed(person: Person, study: StudyOf, what: str) -> Message:
    """Say that somebody did something about a patient's study.

    Parameters
    ----------
    person
        Who.
    study
        About which study.
    what
        In words: a verdict, a requeue, a discard.
    """
    return _accessed(person, study, Action.UPDATE, what)


def study_deleted(person: Person, study: StudyOf) -> Message:
    """Say that somebody erases a patient's study, with all that is known of it here."""
    return Message(STUDY_DELETED, Action.DELETE, (_participant(person),), _subjects([study]))


def studies_searched(person: Person, criteria: Mapping[str, str]) -> Message:
    """Say that somebody searched the worklist, and for what; it shows ids of patients."""
    query = AuditObject(
        "worklist", SEARCH_CRITERIA, ObjectType.SYSTEM, ObjectRole.REPORT, query=urlencode(criteria)
    )
    return Message(
        QUERY, Action.EXECUTE, (_participant(person, SOURCE),), (query,), process_role=DESTINATION
    )


def exported(person: Person, studies: Sequence[StudyOf], what: str) -> list[Message]:
    """Say that something of patients left by a download or an export; in several if they are many.

    Parameters
    ----------
    person
        Who has it now.
    studies
        Of which studies.
    what
        The path it was fetched from, such as ``/studies/1.2.3/report``, or the command.
    """
    media = Participant(
        what, is_requestor=False, role=DESTINATION_MEDIA, address=person.address,
        media_type=URI_MEDIA,
    )  # fmt: skip
    who = (_participant(person, DESTINATION), media)
    parts = [studies[i : i + MOST_STUDIES] for i in range(0, len(studies), MOST_STUDIES)]
    return [
        Message(EXPORT, Action.READ, who, _subjects(part), process_role=SOURCE) for part in parts
    ]


def instances_sent(person: Person, study: StudyOf) -> Message:
    """Say that somebody has instances of a study now, as DICOM."""
    who = (_participant(person, DESTINATION),)
    return Message(INSTANCES_TRANSFERRED, Action.READ, who, _subjects([study]), process_role=SOURCE)


def instances_received(person: Person, study: StudyOf) -> Message:
    """Say that somebody sent instances of a study, which are stored."""
    who = (_participant(person, SOURCE),)
    return Message(
        INSTANCES_TRANSFERRED, Action.CREATE, who, _subjects([study]), process_role=DESTINATION
    )


def user_changed(person: Person, name: str, what: str) -> Message:
    """Say that a user was added, disabled or enabled, or that a password or token changed."""
    return _alert(_participant(person), USER_CHANGED, _user(name, what), Outcome.SUCCESS)


def role_changed(person: Person, name: str, what: str) -> Message:
    """Say that a user has another role."""
    return _alert(_participant(person), ROLES_CHANGED, _user(name, what), Outcome.SUCCESS)


def model_changed(person: Person, what: str) -> Message:
    """Say that another model answers, or is tried, or is tried no more.

    Parameters
    ----------
    person
        Who.
    what
        In words: the step, the model with its version and digest, and the reason.
    """
    node = AuditObject(
        socket.gethostname(), NODE, ObjectType.SYSTEM, ObjectRole.SECURITY_RESOURCE,
        details=((ALERT, what),),
    )  # fmt: skip
    return _alert(_participant(person), SOFTWARE_CONFIGURATION, node, Outcome.SUCCESS)


def access_refused(person: Person, path: str) -> Message:
    """Say that somebody asked for what their role does not allow."""
    page = AuditObject(
        path, URI, ObjectType.SYSTEM, ObjectRole.SECURITY_RESOURCE,
        details=((ALERT, "refused: the role does not allow it"),),
    )  # fmt: skip
    # Who performs what is reported is not who reports it (A.5.3.11).
    performing = replace(_participant(person), is_requestor=False)
    return _alert(performing, RESTRICTED_FUNCTION, page, Outcome.SERIOUS_FAILURE)


ALERT = "Alert Description"  # A.5.3.11


def _activity(kind: Code, by: Person | None) -> Message:
    launchers = () if by is None else (_participant(by, LAUNCHER),)
    return Message(
        APPLICATION_ACTIVITY, Action.EXECUTE, launchers, kind=kind, process_role=APPLICATION
    )


def _authentication(kind: Code, person: Person, outcome: Outcome) -> Message:
    return Message(
        USER_AUTHENTICATION, Action.EXECUTE, (_participant(person),), kind=kind, outcome=outcome
    )


def _accessed(person: Person, study: StudyOf, action: Action, what: str) -> Message:
    return Message(INSTANCES_ACCESSED, action, (_participant(person),), _subjects([study], what))


def _alert(who: Participant, kind: Code, subject: AuditObject, outcome: Outcome) -> Message:
    return Message(SECURITY_ALERT, Action.EXECUTE, (who,), (subject,), kind, outcome)


def _participant(person: Person, role: Code | None = None) -> Participant:
    """Give a person as the requestor, named as A.5.2.1 has it: login name @ domain."""
    here = socket.gethostname()
    return Participant(
        f"{person.name}@{here}", is_requestor=True, role=role, name=person.name,
        address=person.address or here,
        address_type=AccessPoint.IP_ADDRESS if person.address else AccessPoint.MACHINE_NAME,
    )  # fmt: skip


def _subjects(studies: Iterable[StudyOf], what: str = "") -> tuple[AuditObject, ...]:
    """Give the studies, and then each patient once."""
    known = tuple(studies)
    patients = dict.fromkeys(each.patient_id for each in known)
    return (
        *(
            AuditObject(
                each.study_instance_uid, STUDY_UID, ObjectType.SYSTEM, ObjectRole.REPORT,
                details=(("Action", what),),
            )
            for each in known
        ),
        *(
            AuditObject(each, PATIENT_NUMBER, ObjectType.PERSON, ObjectRole.PATIENT)
            for each in patients
        ),
    )  # fmt: skip


def _user(name: str, what: str) -> AuditObject:
    return AuditObject(
        name, USER_IDENTIFIER, ObjectType.SYSTEM, ObjectRole.SECURITY_RESOURCE,
        details=((ALERT, what),),
    )  # fmt: skip
