"""The last steps of a worker: to deliver a report, and to have its destination confirm it."""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from dicom_node.errors import AssociationRejected, ConfigurationError, PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.records import Commitment, Reference
from dicom_node.status import describe, is_success
from dicom_node.tls import client_context
from worker import ledger
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held
from worker.destinations import Destination
from worker.ledger import Claim, LeaseLost
from worker.reading import ArchiveAway, FileGone, read_bytes
from worker.states import JobKind

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dicom_node.storage_scu import Delivered
    from worker.tables import Companion

log = logging.getLogger(__name__)

# How many reports a destination is asked to confirm at once.
CONFIRMED_AT_ONCE = 32
# How long to wait for the answer to a request before asking again: at first, and at most. A PACS
# may confirm only what has reached its long-term store.
ANSWER_S, ANSWER_MAX_S = 600, 6 * 3600
# How long to wait before asking again a destination that cannot be reached, or each report alone.
ASK_AGAIN_S, ALONE_S = 60, 1
# How long to wait at first for a file that is gone, or after what nobody foresaw.
GONE_S = 5
# How many limits of one exchange a delivery may take in all; its process ends then, as it hangs
# where no limit reaches.
LIMIT = 100
# Workers that die with a delivery in hand mostly do so for other reasons: it takes long.
MOST_DEATHS = 20
# What may go wrong with a delivery; the text of anything else might quote a patient.
FORESEEN = (PeerError, ReportRefused, ConfigurationError, ArchiveAway, FileGone)


class Deliver(Protocol):
    """Sends a report and its companions; :func:`dicom_node.storage_scu.deliver` is one."""

    def __call__(
        self,
        report: bytes,
        peer: Peer,
        calling_ae_title: str,
        timeout_s: float,
        *,
        companions: Sequence[bytes],
        tls: ssl.SSLContext | None,
    ) -> Delivered:
        """Tell how it was taken, or raise PeerError or ReportRefused."""
        ...


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


def _context(desk: Desk, destination: Destination) -> ssl.SSLContext | None:
    """Read the certificates anew for each association: they may have been renewed.

    Raises
    ------
    ConfigurationError
        When they are not there, or not what they should be.
    """
    if not destination.tls:
        return None
    files = desk.settings.tls_files
    assert files is not None  # Settings sees to it where tls is on
    return client_context(files)


# --- deliver ---------------------------------------------------------------------------------


def deliver(desk: Desk, destination: str, send: Deliver, announce: Callable[[Bell], None]) -> int:
    """Deliver one owed report to a destination; return how many were claimed (0 or 1).

    The next is announced when this one has ended, as a destination gets one at a time.
    """
    with desk.sessions() as session, session.begin():
        claims = ledger.claim(
            session, JobKind.DELIVER, 1, desk.clock(), desk.lease, destination=destination
        )
    for claim in claims:
        if claim.deaths >= MOST_DEATHS:
            with desk.sessions() as session, session.begin():
                words = f"it ended its worker {claim.deaths} times"
                ledger.save_failed_delivery(session, claim, None, words, None)
            continue
        try:
            with held(desk, claims, LIMIT * desk.settings.delivery_timeout_s):
                if _deliver_one(desk, claim, desk.settings.destination(destination), send):
                    announce(Bell(JobKind.COMMIT, destination))
        except LeaseLost:
            log.info("delivery %d is out of date or was taken over", claim.subject_id)
        announce(Bell(JobKind.DELIVER, destination))
    return len(claims)


def _deliver_one(desk: Desk, claim: Claim, destination: Destination, send: Deliver) -> bool:
    """Deliver a report; tell whether the destination is to be asked to keep it."""
    with desk.sessions() as session, session.begin():
        if ledger.withdraw_superseded(session, claim):
            return False
        _, row = ledger.delivery_of(session, claim)
        wanted = ledger.companions_of(session, row.id, destination.companions)
    settings, uid = desk.settings, row.sop_instance_uid
    try:
        companions = {each: data for each in wanted if (data := _read(desk, each)) is not None}
        delivered = send(
            read_bytes(desk.archive, row.path), destination.peer, settings.ae_title,
            settings.delivery_timeout_s,
            companions=list(companions.values()), tls=_context(desk, destination),
        )  # fmt: skip
    except FORESEEN as error:
        _save_failure(desk, claim, destination, uid, error, str(error))
        return False
    except DATABASE_AWAY:
        raise
    except Exception as error:
        log.exception("report %s could not be sent", uid)
        _save_failure(desk, claim, destination, uid, error, type(error).__name__)
        return False
    answer = "; ".join([describe(delivered.status), *_refused(list(companions), delivered)])
    commit = destination.commitment and delivered.offers_commitment
    with desk.sessions() as session, session.begin():
        ledger.save_delivered(session, claim, delivered, answer, desk.clock(), commit=commit)
        ledger.end_outage(session, str(destination.peer))
    log.info("report %s is delivered to %s: %s", uid, destination.peer, answer)
    return commit


def _read(desk: Desk, companion: Companion) -> bytes | None:
    """Read a companion; one that is gone does not hold up its report."""
    try:
        return read_bytes(desk.archive, companion.path)
    except FileGone:
        log.error("%s is gone from the archive; its report goes without", companion.path)  # noqa: TRY400
        return None


def _refused(companions: Sequence[Companion], delivered: Delivered) -> list[str]:
    """Say which companions the destination did not take, and why."""
    pairs = zip(companions, delivered.companions, strict=True)
    return [
        f"{row.kind.lower().replace('_', ' ')} {row.sop_instance_uid} not taken: {sent.words}"
        for row, sent in pairs
        if not is_success(sent.status)
    ]


def _save_failure(
    desk: Desk, claim: Claim, destination: Destination, uid: str, error: Exception, words: str
) -> None:
    """Save what went wrong: for a person, or for another try."""
    status = getattr(error, "status", None)
    elsewhere = isinstance(error, ArchiveAway | ConfigurationError | PeerError) and status is None
    with desk.sessions() as session, session.begin():
        if not ledger.is_held(session, claim):
            return  # what a sender says that was overtaken may not be true any more
        due_at = _next_try(desk, session, claim, destination, error)
        ledger.save_failed_delivery(session, claim, status, words, due_at, counts=not elsewhere)
    next_try = f"tried again at {due_at:%H:%M:%S}" if due_at else "given up, see dead-letters"
    log.warning("report %s to %s: %s; %s", uid, destination.peer, words, next_try)


def _next_try(
    desk: Desk, session: Session, claim: Claim, destination: Destination, error: Exception
) -> datetime | None:
    """Say when a delivery is tried again: None is never, not without a person.

    Where the destination is the matter, all that is owed to it waits: one try finds out for all.
    Where the report may be, it waits for itself as well, and lets the others pass.
    """
    name, settings = str(destination.peer), desk.settings
    if isinstance(error, ArchiveAway):
        return desk.shortly()
    if isinstance(error, FileGone) or not isinstance(error, FORESEEN):  # for a moment, or for good
        last = claim.tries >= settings.max_attempts
        return None if last else desk.back_off(claim.tries, GONE_S, ASK_AGAIN_S)
    if isinstance(error, ReportRefused | AssociationRejected):
        ledger.end_outage(session, name)
        return None
    times = settings.delivery_retry_s, settings.delivery_retry_max_s
    next_try_at = desk.back_off(ledger.failures_of(session, name) + 1, *times)
    ledger.save_outage(session, name, desk.clock(), next_try_at, str(error))
    answered = isinstance(error, PeerError) and error.status is not None
    return max(next_try_at, desk.back_off(claim.tries, *times)) if answered else next_try_at


# --- commit ----------------------------------------------------------------------------------


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
    with held(desk, claims, LIMIT * desk.settings.delivery_timeout_s):
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
        result = ask(
            peer, settings.ae_title, transaction_uid,
            timeout_s=settings.delivery_timeout_s, tls=_context(desk, destination),
        )  # fmt: skip
    except (ReportRefused, AssociationRejected) as error:
        if len(claims) > 1:  # one of them may be why: what has failed is claimed alone
            _ask_again(desk, claims, str(error), ALONE_S)
        else:
            _give_up(desk, claims, str(error))
    except (PeerError, ConfigurationError) as error:
        log.warning("%d reports are not confirmed yet: %s", len(claims), error)
        _ask_again(desk, claims, str(error), ASK_AGAIN_S, counts=False)
    else:
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
