"""The last step of a worker: to have a destination confirm the reports that it has taken."""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from dicom_node.correlation import about
from dicom_node.errors import AssociationRejected, ConfigurationError, PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.records import Commitment, Reference
from dicom_node.status import describe
from worker import ledger, tracing
from worker.delivering import ASK_AGAIN_S, LIMIT, tls_context
from worker.desk import Bell, Desk, held
from worker.destinations import Destination
from worker.ledger import Claim
from worker.metrics import Stage, timed
from worker.states import JobKind

log = logging.getLogger(__name__)

# How many reports a destination is asked to confirm at once.
CONFIRMED_AT_ONCE = 32
# How long to wait for the answer to a request before asking again: at first, and at most. A PACS
# may confirm only what has reached its long-term store.
ANSWER_S, ANSWER_MAX_S = 600, 6 * 3600
# How long to wait before asking about each report alone.
ALONE_S = 1


class Request(Protocol):
    """Asks for commitment; :func:`dicom_node.commitment.request_commitment` is one."""

    def __call__(
        self,
        references: Sequence[Reference],
        peer: Peer,
        calling_ae_title: str,
        transaction_uid: str,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None,
    ) -> Commitment | None:
        """Give the answer, or None when it is to come; or raise PeerError or ReportRefused."""
        ...


def commit(desk: Desk, destination: str, ask: Request, announce: Callable[[Bell], None]) -> int:
    """Ask a destination to commit itself to the reports it has taken (PS3.4 J).

    What it does not answer at once it answers to the node, or it is asked again; after several
    requests without an answer a person is told.

    Returns
    -------
    int
        How many deliveries were claimed.
    """
    with desk.sessions() as session, session.begin():
        claims = ledger.claim(
            session, JobKind.COMMIT, CONFIRMED_AT_ONCE, desk.clock(), desk.lease,
            destination=destination,
        )  # fmt: skip
    if not claims:
        return 0
    limit_s = LIMIT * desk.settings.delivery_timeout_s
    with (
        held(desk, claims, limit_s),
        about(destination=destination),
        tracing.working(desk, claims, destination=destination),
    ):
        _ask(desk, claims, desk.settings.destination(destination), ask)
    announce(Bell(JobKind.COMMIT, destination))
    return len(claims)


def _ask(desk: Desk, claims: Sequence[Claim], destination: Destination, ask: Request) -> None:
    """Ask about claimed deliveries, unless it is time to give up."""
    most = desk.settings.max_attempts
    if not destination.commitment:  # switched off meanwhile
        with desk.sessions() as session, session.begin():
            ledger.drop(session, claims)
    elif claims[0].tries > most:  # claimed alone, as it is not the first try
        words = f"{destination.peer} did not answer {most} requests to commit itself"
        tracing.failed("NOT_ANSWERED")
        _give_up(desk, claims, words)
    else:
        transaction_uid = f"2.25.{uuid.uuid4().int}"  # PS3.5 B.2
        with desk.sessions() as session, session.begin():
            references = ledger.save_request(session, claims, transaction_uid, desk.clock())
        if references:
            _request(desk, claims, destination, partial(ask, references), transaction_uid)


def _request(
    desk: Desk,
    claims: Sequence[Claim],
    destination: Destination,
    ask: Callable[..., Commitment | None],
    transaction_uid: str,
) -> None:
    settings, peer = desk.settings, destination.peer
    try:
        with timed(Stage.COMMIT):
            result = ask(
                peer, settings.ae_title, transaction_uid,
                timeout_s=settings.delivery_timeout_s, tls=tls_context(desk, destination),
            )  # fmt: skip
    except (ReportRefused, AssociationRejected) as error:
        tracing.failed(error)
        if len(claims) > 1:  # one of them may be why: what has failed is claimed alone
            _ask_again(desk, claims, str(error), ALONE_S)
        else:
            _give_up(desk, claims, str(error))
    except (PeerError, ConfigurationError) as error:
        tracing.failed(error)
        log.warning("%d reports are not confirmed yet: %s", len(claims), error)
        _ask_again(desk, claims, str(error), ASK_AGAIN_S, counts=False)
    else:
        tracing.note(outcome="ASKED" if result is None else "ANSWERED")
        _ask_again(desk, claims, "not answered yet", ANSWER_S)
        if result is not None:
            _save(desk, peer, result)


def _save(desk: Desk, peer: Peer, result: Commitment) -> None:
    with desk.sessions() as session, session.begin():
        ledger.save_commitment(session, result, desk.clock())
    log.info("%s keeps %d reports", peer, len(result.committed))
    for uid, reason in result.failed:
        log.warning("%s does not keep report %s: %s", peer, uid, describe(reason))


def _ask_again(
    desk: Desk, claims: Sequence[Claim], why: str, first_s: float, *, counts: bool = True
) -> None:
    most_s = ANSWER_MAX_S if counts else ASK_AGAIN_S
    for claim in claims:
        due_at = desk.back_off(claim.tries, first_s, most_s)
        with desk.sessions() as session, session.begin():
            ledger.put_back(session, claim, due_at, why, counts=counts)


def _give_up(desk: Desk, claims: Sequence[Claim], why: str) -> None:
    log.warning("%d reports stay unconfirmed: %s", len(claims), why)
    for claim in claims:
        with desk.sessions() as session, session.begin():
            ledger.bury(session, claim, why)
