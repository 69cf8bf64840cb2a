"""Destinations that are away, deaths of workers, and what people decide about given-up work.

Revision ID: 0004
Revises: 0003
"""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STUDIES = "'RECEIVING', 'READY', 'REPORTED', 'DELIVERED', 'COMMITTED', 'FAILED'"
DELIVERIES = "'PENDING', 'DELIVERED', 'COMMITTED', 'SUPERSEDED', 'FAILED'"


def upgrade() -> None:
    with numbering_jobs(once=True) as jobs:
        # The default is for workers of the older version that still run while this is done.
        jobs.add_column(sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))
    for table, states in (("studies", STUDIES), ("deliveries", DELIVERIES)):
        restate(table, f"{states}, 'DISCARDED'")
    op.create_table(
        "outages",
        sa.Column("destination", sa.String(length=300), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_outages")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("given_up", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('REQUEUED', 'DISCARDED')", name=op.f("ck_decisions_action")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_decisions_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_index("ix_decisions_study_id", "decisions", ["study_id"], unique=False)


def downgrade() -> None:
    op.drop_table("decisions")
    op.drop_table("outages")
    # What the older version has no word for: to it, what was discarded has failed.
    for table, states in (("studies", STUDIES), ("deliveries", DELIVERIES)):
        op.execute(f"UPDATE {table} SET state = 'FAILED' WHERE state = 'DISCARDED'")  # noqa: S608
        restate(table, states)
    with numbering_jobs(once=False) as jobs:
        jobs.drop_column("deaths")


def numbering_jobs(*, once: bool) -> Any:
    """Alter the jobs; SQLite, which copies them for that, is told whether an id is used once."""
    recreate: Literal["always", "never"] = (
        "always" if op.get_bind().dialect.name == "sqlite" else "never"
    )
    options = {"sqlite_autoincrement": once}
    return op.batch_alter_table("jobs", recreate=recreate, table_kwargs=options)


def restate(table: str, states: str) -> None:
    name = op.f(f"ck_{table}_state")
    with op.batch_alter_table(table) as altered:
        altered.drop_constraint(name, type_="check")
        altered.create_check_constraint(name, f"state IN ({states})")
