"""Companions of reports, heat maps, and Storage Commitment: what was sent, asked and confirmed.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

BEFORE = "state IN ('PENDING', 'DELIVERED', 'SUPERSEDED', 'FAILED')"
AFTER = "state IN ('PENDING', 'DELIVERED', 'COMMITTED', 'SUPERSEDED', 'FAILED')"


def upgrade() -> None:
    op.add_column("findings", sa.Column("heatmap", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("sop_class_uid", sa.String(length=64), nullable=True))
        deliveries.add_column(sa.Column("sop_instance_uid", sa.String(length=64), nullable=True))
        deliveries.add_column(sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True))
        deliveries.drop_constraint(op.f("ck_deliveries_state"), type_="check")
        deliveries.create_check_constraint(op.f("ck_deliveries_state"), AFTER)
    op.create_table(
        "companions",
        sa.Column("id", ID, nullable=False),
        sa.Column("report_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.CheckConstraint("kind IN ('PICTURE', 'KEY_OBJECT')", name=op.f("ck_companions_kind")),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name=op.f("fk_companions_report_id_reports")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companions")),
        sa.UniqueConstraint(
            "report_id", "sop_instance_uid", name=op.f("uq_companions_report_id_sop_instance_uid")
        ),
    )
    op.create_index(
        "ix_companions_sop_instance_uid", "companions", ["sop_instance_uid"], unique=False
    )
    op.create_table(
        "commitment_requests",
        sa.Column("id", ID, nullable=False),
        sa.Column("delivery_id", ID, nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name=op.f("fk_commitment_requests_delivery_id_deliveries"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_requests")),
        sa.UniqueConstraint(
            "transaction_uid",
            "delivery_id",
            name=op.f("uq_commitment_requests_transaction_uid_delivery_id"),
        ),
    )
    op.create_index(
        "ix_commitment_requests_delivery_id", "commitment_requests", ["delivery_id"], unique=False
    )


def downgrade() -> None:
    op.drop_table("commitment_requests")
    op.drop_table("companions")
    # What the older version has no word for: to it, such a report is delivered.
    op.execute("DELETE FROM jobs WHERE kind = 'COMMIT'")
    op.execute("UPDATE studies SET state = 'DELIVERED' WHERE state = 'COMMITTED'")
    op.execute("UPDATE deliveries SET state = 'DELIVERED' WHERE state = 'COMMITTED'")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint(op.f("ck_deliveries_state"), type_="check")
        deliveries.create_check_constraint(op.f("ck_deliveries_state"), BEFORE)
        for column in ("committed_at", "sop_instance_uid", "sop_class_uid"):
            deliveries.drop_column(column)
    op.drop_column("findings", "heatmap")
