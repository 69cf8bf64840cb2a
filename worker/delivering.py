"""A step of a worker: to deliver reports to a destination, several by one association."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from dicom_node.correlation import about, also_about
from dicom_node.errors import AssociationRejected, ConfigurationError, PeerError, ReportRefused
from dicom_node.peer import Peer
from dicom_node.status import describe, is_success
from dicom_node.tls import client_context
from worker import ledger, metrics, tracing
from worker.database import DATABASE_AWAY
from worker.desk import Bell, Desk, held, release
from worker.destinations import Destination
from worker.ledger import Claim, LeaseLost
from worker.metrics import Outcome, Stage, timed
from worker.reading import ArchiveAway, FileGone, read_bytes
from worker.states import CompanionKind, JobKind

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dicom_node import storage_scu
    from dicom_node.storage_scu import Delivered
    from worker.tables import Companion

log = logging.getLogger(__name__)

# How many reports are claimed at once. Nothing waits for others to come: what is owed goes.
AT_ONCE = 16
# No other report is begun by an association that is this old, so that a worker stops soon, and
# another may have its turn.
TURN_S = 10.0
# How long to wait at most before trying a destination again that cannot be reached.
ASK_AGAIN_S = 60
# How long to wait at first for a file that is gone, or after what nobody foresaw.
GONE_S = 5
# How many limits of one exchange a step may take in all; its process ends then, as it hangs where
# no limit reaches.
LIMIT = 100
# Workers that die with a delivery in hand mostly do so for other reasons: it takes long.
MOST_DEATHS = 20
# What may go wrong with a delivery; the text of anything else might quote a patient.
FORESEEN = (PeerError, ReportRefused, ConfigurationError, ArchiveAway, FileGone)
SOP_CLASSES = {
    CompanionKind.PICTURE: str(SecondaryCaptureImageStorage),
    CompanionKind.KEY_OBJECT: str(KeyObjectSelectionDocumentStorage),
}


class Associate(Protocol):
    """Opens an association; :func:`dicom_node.storage_scu.delivering` is one."""

    def __call__(
        self,
        peer: Peer,
        calling_ae_title: str,
        timeout_s: float,
        *,
        companions: Collection[str],
        tls: ssl.SSLContext | None,
    ) -> AbstractContextManager[storage_scu.Deliver]:
        """Give what delivers by it, or raise PeerError."""
        ...


def tls_context(desk: Desk, destination: Destination) -> ssl.SSLContext | None:
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


class _Line:
    """An association with a destination, opened for the first report and kept for those after it.

    Attributes
    ----------
    is_over : bool
        Whether it is of no more use: it was lost, the destination has no room now, or it is old.
    has_answered : bool
        Whether the destination has taken anything by it.
    """

    def __init__(self, desk: Desk, destination: Destination, associate: Associate) -> None:
        self._desk, self._destination, self._associate = desk, destination, associate
        self._opened = ExitStack()
        self._deliver: storage_scu.Deliver | None = None
        self._began_at = time.monotonic()
        self._failed = False
        self.has_answered = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def is_over(self) -> bool:
        return self._failed or time.monotonic() - self._began_at >= TURN_S

    def deliver(self, report: bytes, companions: Sequence[bytes]) -> Delivered:
        """Send a report with its companions; raises as `storage_scu.delivering` and its `Deliver`.

        Of a report that is refused the next ones know nothing; any other failure ends the line.
        One that was of use before and is lost is opened once more: some destinations, and proxies
        before them, take one report by each association, or end it when it is idle.
        """
        was_of_use = self._deliver is not None and self.has_answered
        try:
            return self._send(report, companions)
        except ReportRefused:
            raise
        except PeerError as error:
            if not was_of_use or error.status is not None:
                self._failed = True
                raise
        except BaseException:
            self._failed = True
            raise
        self._hang_up()
        return self.deliver(report, companions)

    def _send(self, report: bytes, companions: Sequence[bytes]) -> Delivered:
        with timed(Stage.DELIVER):
            if self._deliver is None:
                self._deliver = self._opened.enter_context(self._association())
            return self._deliver(report, companions)

    def _hang_up(self) -> None:
        self._deliver = None
        self._opened.close()

    def _association(self) -> AbstractContextManager[storage_scu.Deliver]:
        settings, there = self._desk.settings, self._destination
        return self._associate(
            there.peer, settings.ae_title, settings.delivery_timeout_s,
            companions=[SOP_CLASSES[kind] for kind in there.companions],
            tls=tls_context(self._desk, there),
        )  # fmt: skip


def deliver(
    desk: Desk, destination: str, associate: Associate, announce: Callable[[Bell], None]
) -> int:
    """Deliver what is owed to a destination, one report after the other; tell how many claims.

    What comes meanwhile goes as well, until it is time for another turn; that is announced.
    """
    count, there = 0, desk.settings.destination(destination)
    with _Line(desk, there, associate) as line:
        while not line.is_over and (claims := _claim(desk, destination)):
            count += len(claims)
            with held(desk, claims, LIMIT * desk.settings.delivery_timeout_s):
                if _deliver_claimed(desk, claims, there, line):
                    announce(Bell(JobKind.COMMIT, destination))
        is_over = line.is_over
    if is_over:
        announce(Bell(JobKind.DELIVER, destination))
    return count


def _claim(desk: Desk, destination: str) -> list[Claim]:
    with desk.sessions() as session, session.begin():
        return ledger.claim(
            session, JobKind.DELIVER, AT_ONCE, desk.clock(), desk.lease, destination=destination
        )


def _deliver_claimed(
    desk: Desk, claims: Sequence[Claim], destination: Destination, line: _Line
) -> bool:
    """Deliver claimed reports; tell whether the destination is to be asked to keep any."""
    asked = False
    for number, claim in enumerate(claims):
        if line.is_over:
            release(desk, claims[number:])
            break
        if claim.deaths >= MOST_DEATHS:
            with desk.sessions() as session, session.begin():
                words = f"it ended its worker {claim.deaths} times"
                ledger.save_failed_delivery(session, claim, None, words, None)
            _count(destination, Outcome.GIVEN_UP)
            continue
        try:
            name = str(destination.peer)
            with about(destination=name), tracing.working(desk, [claim], destination=name):
                asked |= _deliver_one(desk, claim, destination, line)
        except LeaseLost:
            log.info("delivery %d is out of date or was taken over", claim.subject_id)
    return asked


def _deliver_one(desk: Desk, claim: Claim, destination: Destination, line: _Line) -> bool:
    """Deliver a report; tell whether the destination is to be asked to keep it."""
    wanted: Sequence[Companion] = []
    with desk.sessions() as session, session.begin():
        row = ledger.report_to_send(session, claim)
        if row is None:
            tracing.note(outcome="SUPERSEDED")
            return False
        if destination.companions:
            wanted = ledger.companions_of(session, row.id, destination.companions)
    uid = row.sop_instance_uid
    also_about(study_instance_uid=row.study.study_instance_uid, report_uid=uid)
    try:
        companions = {each: data for each in wanted if (data := _read(desk, each)) is not None}
        delivered = line.deliver(read_bytes(desk.archive, row.path), list(companions.values()))
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
        if not line.has_answered:  # there can be no outage after that: it would end the line
            ledger.end_outage(session, str(destination.peer))
    line.has_answered = True
    status = f"0x{delivered.status:04X}"
    tracing.note(outcome=Outcome.DELIVERED.upper(), revision=row.revision, status=status)
    _count(destination, Outcome.DELIVERED)
    log.info("report %s is delivered to %s: %s", uid, destination.peer, answer)
    return commit


def _count(destination: Destination, outcome: Outcome) -> None:
    metrics.count(metrics.DELIVERIES, destination=str(destination.peer), outcome=outcome)


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
    tracing.failed(error)
    status = getattr(error, "status", None)
    elsewhere = isinstance(error, ArchiveAway | ConfigurationError | PeerError) and status is None
    with desk.sessions() as session, session.begin():
        if not ledger.is_held(session, claim):
            return  # what a sender says that was overtaken may not be true any more
        due_at = _next_try(desk, session, claim, destination, error)
        ledger.save_failed_delivery(session, claim, status, words, due_at, counts=not elsewhere)
    outcome = Outcome.TRIED_AGAIN if due_at else Outcome.GIVEN_UP
    tracing.note(outcome=outcome.upper())
    _count(destination, outcome)
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
