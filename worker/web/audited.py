"""What goes from the pages into the audit trail, before it is shown or done."""

from __future__ import annotations

from fastapi import Request

from worker.access.roles import Identity
from worker.access.vouched import Arrival
from worker.audit import messages
from worker.audit.messages import Person, StudyOf
from worker.audit.schema import Outcome
from worker.chart import Chart
from worker.given_up import WriteDown
from worker.results import Found
from worker.tables import Study
from worker.web.services import Services


def searched(services: Services, request: Request, who: Identity, criteria: dict[str, str]) -> None:
    """Write down that somebody looked through the worklist, which names patients."""
    services.trail.record(messages.studies_searched(_person(request, who.name), criteria))


def viewed(services: Services, request: Request, who: Identity, study: Chart | Found) -> None:
    """Write down that somebody sees a study, or an image of it."""
    services.trail.record(messages.study_viewed(_person(request, who.name), _study_of(study)))


def accessed(services: Services, request: Request, who: Identity, study: StudyOf) -> None:
    """Write down that a program of somebody's shows a study, or part of it."""
    services.trail.record(messages.study_viewed(_person(request, who.name), study))


def sent(services: Services, request: Request, who: Identity, study: StudyOf) -> None:
    """Write down that somebody takes instances of a study away."""
    services.trail.record(messages.instances_sent(_person(request, who.name), study))


def received(services: Services, request: Request, who: Identity, study: StudyOf) -> None:
    """Write down that somebody brings instances of a study."""
    services.trail.record(messages.instances_received(_person(request, who.name), study))


def exported(services: Services, request: Request, who: Identity, study: Found) -> None:
    """Write down that somebody takes a report of a study away."""
    person = _person(request, who.name)
    services.trail.record(*messages.exported(person, [_study_of(study)], request.url.path))


def acted(
    services: Services, request: Request, who: Identity, study: Chart | Found, what: str
) -> None:
    """Write down that somebody does something about a study."""
    person = _person(request, who.name)
    services.trail.record(messages.study_changed(person, _study_of(study), what))


def acting(services: Services, request: Request, who: Identity, what: str) -> WriteDown:
    """Give what writes down, once it is done and before it is committed, what somebody does."""
    person = _person(request, who.name)

    def write_down(study: Study) -> None:
        subject = StudyOf(study.study_instance_uid, study.patient_id)
        services.trail.record(messages.study_changed(person, subject, what))

    return write_down


def refused(services: Services, request: Request, who: Identity) -> None:
    """Write down that somebody asked for what their role does not allow."""
    person = _person(request, who.name)
    services.trail.record(messages.access_refused(person, request.url.path))


def signed_in(services: Services, request: Request, name: str, outcome: Outcome) -> None:
    """Write down that somebody signs in, or tries to."""
    services.trail.record(messages.signed_in(_person(request, name), outcome))


def arrived(services: Services, request: Request, arrival: Arrival) -> None:
    """Write down that somebody came from the provider, and what that changes about the user."""
    person = _person(request, arrival.name)
    role = arrival.identity and arrival.identity.role
    if arrival.added:
        what = f"added as {role} by the provider"
        services.trail.record(messages.user_changed(person, arrival.name, what))
    elif arrival.role_before is not None:
        what = f"is {role} now, was {arrival.role_before}, by the provider"
        services.trail.record(messages.role_changed(person, arrival.name, what))
    outcome = Outcome.MINOR_FAILURE if arrival.identity is None else Outcome.SUCCESS
    services.trail.record(messages.signed_in(person, outcome))


def signed_out(services: Services, request: Request, who: Identity) -> None:
    """Write down that somebody signs out."""
    services.trail.record(messages.signed_out(_person(request, who.name)))


def _person(request: Request, name: str) -> Person:
    return Person(name, request.client.host if request.client else "")


def _study_of(study: Chart | Found) -> StudyOf:
    row = (study.line.found if isinstance(study, Chart) else study).study
    return StudyOf(row.study_instance_uid, row.patient_id)
