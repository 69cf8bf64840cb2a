"""Notices: what is told of positive studies, to whom, and what became of it.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATES = "'PENDING', 'SENT', 'SUPERSEDED', 'FAILED', 'DISCARDED'"


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("report_id", ID, nullable=False),
        sa.Column("target", sa.String(length=16), nullable=False),
        sa.Column("message_id", sa.String(length=20), nullable=False),
        sa.Column("reference", sa.String(length=20), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("corrects", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_answer", sa.Text(), nullable=True),
        sa.Column("owed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("ck_notices_state")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_notices_study_id_studies")
        ),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name=op.f("fk_notices_report_id_reports")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("message_id", name=op.f("uq_notices_message_id")),
    )
    op.create_index("ix_notices_study_id_id", "notices", ["study_id", "id"], unique=False)
    op.create_index("ix_notices_report_id", "notices", ["report_id"], unique=False)


def downgrade() -> None:
    # An older version has no word for this work: a row of it would be owed for ever.
    op.execute("DELETE FROM jobs WHERE kind = 'NOTIFY'")
    op.execute("DELETE FROM outages WHERE destination IN ('webhook', 'hl7')")
    op.drop_table("notices")
