"""Retention: what is kept no longer is marked before its file goes, and its removal is recorded.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

FILES = ("instances", "reports", "companions")
# Indexes of what is kept, in the order of its age.
KEPT = {
    "ix_instances_kept": ("instances", ["received_at", "id"]),
    "ix_reports_kept": ("reports", ["created_at", "id"]),
}


def upgrade() -> None:
    for table in FILES:
        op.add_column(table, sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    for name, (table, columns) in KEPT.items():
        index_some(name, table, columns, "removed_at IS NULL AND path != ''")
    op.create_table(
        "removals",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(length=8), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('IMAGES', 'REPORTS', 'RESULTS', 'FILES')", name=op.f("ck_removals_kind")
        ),
        sa.CheckConstraint(
            "cause IN ('AGE', 'SPACE', 'ERASED', 'UNNAMED')", name=op.f("ck_removals_cause")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removals")),
    )
    op.create_index("ix_removals_study_instance_uid", "removals", ["study_instance_uid"])
    op.create_index("ix_removals_begun_at", "removals", ["begun_at"])
    index_some("ix_removals_unfinished", "removals", ["id"], "finished_at IS NULL")


def downgrade() -> None:
    op.drop_table("removals")
    for name, (table, _) in KEPT.items():
        op.drop_index(name, table_name=table)
    for table in FILES:
        with op.batch_alter_table(table) as batch:
            batch.drop_column("removed_at")


def index_some(name: str, table: str, columns: list[str], rows: str) -> None:
    where = sa.text(rows)
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
