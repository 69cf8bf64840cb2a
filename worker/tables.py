"""The results database as typed SQLAlchemy tables; ``docs/database.md`` describes them for readers.

What is owed stands in `jobs`, committed together with the row that owes it (transactional outbox):
a job exists exactly as long as its work is not done.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from worker.access.roles import Role
from worker.states import (
    CompanionKind,
    DecisionAction,
    DeliveryState,
    JobState,
    ModelAction,
    NoticeState,
    RemovalCause,
    RemovalKind,
    StudyState,
    Verdict,
)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC; SQLite has no time zones, so there it is stored naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; convert others to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the database are aware")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the time back as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own class attribute)
        datetime: UTCDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer, "sqlite")
UID = String(64)


def _one_of(column: str, words: type) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)  # type: ignore[attr-defined]
    return CheckConstraint(f"{column} IN ({listed})", name=column)


# Terms of partial indexes. A query that is to use one holds the very text, and no parameter.
OWED = f"state != '{JobState.DEAD}'"
LEASED = f"state = '{JobState.LEASED}'"
DEAD = f"state = '{JobState.DEAD}'"
DOTTED = "study_date LIKE '%.%'"
# What is kept has a path. It is said so that whoever asks for one study does not go by its age.
KEPT = "removed_at IS NULL AND path != ''"
UNFINISHED = "finished_at IS NULL"


def _index_of(name: str, *columns: str, where: str) -> Index:
    """Index some rows only: to find the few among many costs nothing for the many."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class Study(Base):
    """One study, identified by its Study Instance UID (0020,000D)."""

    __tablename__ = "studies"
    __table_args__ = (
        _one_of("state", StudyState),
        # What is asked for, and then the order of the answers: of all that match, a page is read.
        Index(None, "received_at", "id"),
        Index(None, "patient_id", "received_at", "id"),
        Index(None, "accession_number", "received_at", "id"),
        Index(None, "state", "received_at", "id"),
        Index(None, "study_date", "id"),
        _index_of("ix_studies_dotted", "study_date", "id", where=DOTTED),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    patient_id: Mapped[str] = mapped_column(String(256))
    accession_number: Mapped[str] = mapped_column(String(64))
    study_date: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(16))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    received_at: Mapped[datetime]
    last_received_at: Mapped[datetime]

    instances: Mapped[list[Instance]] = relationship(
        back_populates="study", order_by="Instance.id", lazy="raise"
    )
    reports: Mapped[list[Report]] = relationship(
        back_populates="study", order_by="Report.revision", lazy="raise"
    )


class Instance(Base):
    """One stored SOP instance, entered only when its bytes are durable in the archive.

    Once `removed_at` is set its file is promised no longer; `path` is empty when it is gone.
    """

    __tablename__ = "instances"
    __table_args__ = (
        Index(None, "study_id"),
        _index_of("ix_instances_kept", "received_at", "id", where=KEPT),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    series_instance_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    modality: Mapped[str] = mapped_column(String(16))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship(back_populates="instances", lazy="raise")
    findings: Mapped[list[FindingRow]] = relationship(
        back_populates="instance", order_by="FindingRow.id", lazy="raise"
    )


class Model(Base):
    """A model artifact that has answered at least once, by the digest over all its parts."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    details: Mapped[dict[str, Any]]
    first_used_at: Mapped[datetime]


class FindingRow(Base):
    """What one model says of one instance, or the stated reason why it says nothing."""

    __tablename__ = "findings"
    __table_args__ = (
        UniqueConstraint("instance_id", "model_id"),
        CheckConstraint(
            "(assessed AND reason IS NULL AND finding IS NOT NULL AND pneumonia IS NOT NULL) OR "
            "(NOT assessed AND reason IS NOT NULL AND finding IS NULL AND pneumonia IS NULL)",
            name="assessed_or_reason",
        ),
        Index(None, "model_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    assessed: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(String(64))
    finding: Mapped[str | None] = mapped_column(String(16))
    pneumonia: Mapped[float | None]
    bacterial: Mapped[float | None]
    viral: Mapped[float | None]
    flags: Mapped[list[str]]
    created_at: Mapped[datetime]
    # Seldom wanted and not small: fetched by whoever asks for it.
    heatmap: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)

    instance: Mapped[Instance] = relationship(back_populates="findings", lazy="raise")
    model: Mapped[Model] = relationship(lazy="raise")


class Candidate(Base):
    """A model that is tried on live studies, and is not `models`': nobody was told its answers.

    It has looked at what was answered up to `seen_id`. One worker at a time tries it: `token` grows
    with each claim, and `deaths` counts the workers that ended while they had it in hand.
    """

    __tablename__ = "candidates"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    folder: Mapped[str] = mapped_column(String(255))
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    seen_id: Mapped[int] = mapped_column(BigInteger)
    next_at: Mapped[datetime]
    held: Mapped[bool]
    token: Mapped[int]
    deaths: Mapped[int]
    last_error: Mapped[str | None] = mapped_column(Text)


class ShadowFinding(Base):
    """What a candidate says of one instance, beside what was answered; nobody is told.

    It holds the answer that counted, as the row of `findings` is replaced when a study is done
    again.
    """

    __tablename__ = "shadow_findings"
    __table_args__ = (
        UniqueConstraint("instance_id", "sha256", "candidate_id"),
        CheckConstraint(
            "(assessed AND reason IS NULL AND finding IS NOT NULL AND pneumonia IS NOT NULL) OR "
            "(NOT assessed AND reason IS NOT NULL AND finding IS NULL AND pneumonia IS NULL)",
            name="assessed_or_reason",
        ),
        Index(None, "candidate_id", "created_at", "id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"))
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    assessed: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(String(64))
    finding: Mapped[str | None] = mapped_column(String(16))
    pneumonia: Mapped[float | None]
    bacterial: Mapped[float | None]
    viral: Mapped[float | None]
    live_model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    live_reason: Mapped[str | None] = mapped_column(String(64))
    live_finding: Mapped[str | None] = mapped_column(String(16))
    live_pneumonia: Mapped[float | None]
    created_at: Mapped[datetime]


class ModelEvent(Base):
    """A step in the life of a model: who took it, when, and why; rows are only added.

    `former` is the folder of the model that was in use until then; empty where that did not change.
    """

    __tablename__ = "model_events"
    __table_args__ = (_one_of("action", ModelAction),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    action: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64))
    folder: Mapped[str] = mapped_column(String(255))
    former: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(Text)
    person: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class Report(Base):
    """One Structured Report; a later revision replaces an earlier one."""

    __tablename__ = "reports"
    __table_args__ = (
        UniqueConstraint("study_id", "revision"),
        _index_of("ix_reports_kept", "created_at", "id", where=KEPT),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    revision: Mapped[int]
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    sop_class_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship(back_populates="reports", lazy="raise")
    model: Mapped[Model] = relationship(lazy="raise")
    deliveries: Mapped[list[Delivery]] = relationship(
        back_populates="report", order_by="Delivery.destination", lazy="raise"
    )


class Companion(Base):
    """An object of ours that goes with a report to the destinations that want it.

    A later revision of the report takes over what it does not change: the same object, in a row of
    its own.
    """

    __tablename__ = "companions"
    __table_args__ = (
        UniqueConstraint("report_id", "sop_instance_uid"),
        _one_of("kind", CompanionKind),
        Index(None, "sop_instance_uid"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    removed_at: Mapped[datetime | None]


class Delivery(Base):
    """One report on its way to one destination, and what that destination answered last."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("report_id", "destination"),
        _one_of("state", DeliveryState),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    destination: Mapped[str] = mapped_column(String(300))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    last_status: Mapped[int | None]
    last_answer: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[datetime | None]
    sop_class_uid: Mapped[str | None] = mapped_column(UID)
    sop_instance_uid: Mapped[str | None] = mapped_column(UID)
    committed_at: Mapped[datetime | None]

    report: Mapped[Report] = relationship(back_populates="deliveries", lazy="raise")


class Notice(Base):
    """What one target is told of a study that is positive, or is so no more.

    `message_id` and `reference` are of chance and name nobody: by the first a receiver drops what
    comes twice, by the second it puts together what is told of one study.
    """

    __tablename__ = "notices"
    __table_args__ = (
        _one_of("state", NoticeState),
        Index(None, "study_id", "id"),
        Index(None, "report_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    target: Mapped[str] = mapped_column(String(16))
    message_id: Mapped[str] = mapped_column(String(20), unique=True)
    reference: Mapped[str] = mapped_column(String(20))
    finding: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]]
    corrects: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    last_status: Mapped[int | None]
    last_answer: Mapped[str | None] = mapped_column(Text)
    owed_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class CommitmentRequest(Base):
    """A delivery that a destination was asked to commit itself to (PS3.4 J.3.2).

    Each request has a Transaction UID of its own, and may ask about several deliveries. A
    destination that is asked again, as it was silent, may still answer the first: that counts too.
    """

    __tablename__ = "commitment_requests"
    __table_args__ = (
        UniqueConstraint("transaction_uid", "delivery_id"),
        Index(None, "delivery_id"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"))
    transaction_uid: Mapped[str] = mapped_column(UID)
    asked_at: Mapped[datetime]
    failure_reason: Mapped[int | None]


class Job(Base):
    """Owed work. `token` grows with each claim, so that a late write of a lost lease is refused.

    `deaths` counts the leases that ran out: whoever held the work died, or hung. No id is used
    twice, also by SQLite: a lost lease must not be taken for one on later work.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("kind", "subject_id"),
        _one_of("state", JobState),
        # By destination, as one that is away must not be in the way of others.
        _index_of("ix_jobs_owed", "kind", "destination", "due_at", "id", where=OWED),
        _index_of("ix_jobs_leased", "kind", "destination", "due_at", where=LEASED),
        _index_of("ix_jobs_dead", "id", where=DEAD),
        Index(None, "study_id", "kind"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[int] = mapped_column(BigInteger)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    destination: Mapped[str] = mapped_column(String(300), default="")
    state: Mapped[str] = mapped_column(String(8), default=JobState.DUE)
    due_at: Mapped[datetime]
    token: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)


class Outage(Base):
    """A destination that is away; the row goes when it answers again.

    Nothing is sent to it before `next_try_at`, however much is owed to it.
    """

    __tablename__ = "outages"

    destination: Mapped[str] = mapped_column(String(300), primary_key=True)
    since: Mapped[datetime]
    failures: Mapped[int]
    next_try_at: Mapped[datetime]
    last_error: Mapped[str] = mapped_column(Text)


class Decision(Base):
    """What a person decided about given-up work of a study, and why."""

    __tablename__ = "decisions"
    __table_args__ = (_one_of("action", DecisionAction), Index(None, "study_id"))

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    action: Mapped[str] = mapped_column(String(16))
    given_up: Mapped[list[str]]
    reason: Mapped[str] = mapped_column(Text)
    person: Mapped[str] = mapped_column(String(64))
    decided_at: Mapped[datetime]


class VerdictRow(Base):
    """What a reader thinks of what a model says of an instance; of several, the last one counts.

    It holds what the model said (`finding`; null when it was not assessed), and does not refer to
    the row of `findings`: that is replaced when a study is done again.
    """

    __tablename__ = "verdicts"
    __table_args__ = (
        _one_of("verdict", Verdict),
        CheckConstraint(
            "label IS NULL OR label IN ('NORMAL', 'PNEUMONIA', 'BACTERIAL', 'VIRAL')", name="label"
        ),
        CheckConstraint("(verdict = 'UNSURE') = (label IS NULL)", name="label_unless_unsure"),
        # By reader, to tell whether a row is the last of theirs about an answer.
        Index(None, "instance_id", "model_id", "person", "id"),
        Index(None, "decided_at"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    finding: Mapped[str | None] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(8))
    label: Mapped[str | None] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(Text)
    person: Mapped[str] = mapped_column(String(64))
    decided_at: Mapped[datetime]


class Reception(Base):
    """An association that is still open and has sent instances of a study."""

    __tablename__ = "receptions"
    __table_args__ = (Index(None, "study_id"),)

    association_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True)
    last_at: Mapped[datetime]


class User(Base):
    """Who may use the web pages. Rows stay: a disabled user's name is not given to anybody else.

    `password_hash` is null, and `subject` is set, for a user whom somebody else vouches for.
    """

    __tablename__ = "users"
    __table_args__ = (_one_of("role", Role),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(255))
    subject: Mapped[str | None] = mapped_column(String(512), unique=True)
    enabled: Mapped[bool]
    created_at: Mapped[datetime]
    last_sign_in_at: Mapped[datetime | None]


class WebSession(Base):
    """A session of the web pages, by the SHA-256 of its token.

    Without a user it is that of whoever is at the machine before there is an administrator.
    """

    __tablename__ = "web_sessions"
    __table_args__ = (Index(None, "user_id"),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class ApiToken(Base):
    """A token by which a program asks in the name of a user, by its SHA-256.

    No number is given twice, so that whoever revokes by an old list revokes no other.
    """

    __tablename__ = "api_tokens"
    __table_args__ = (Index(None, "user_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    label: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


class Removal(Base):
    """Something that was removed, or is about to be: the row is committed before a file goes.

    It names no patient, and refers to no row: it stays when those are gone.
    """

    __tablename__ = "removals"
    __table_args__ = (
        _one_of("kind", RemovalKind),
        _one_of("cause", RemovalCause),
        Index(None, "study_instance_uid"),
        Index(None, "begun_at"),
        _index_of("ix_removals_unfinished", "id", where=UNFINISHED),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID)
    kind: Mapped[str] = mapped_column(String(8))
    count: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    cause: Mapped[str] = mapped_column(String(8))
    person: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
