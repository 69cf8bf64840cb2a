"""Verdicts: what readers think of the answers, and what they see.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "verdicts",
        sa.Column("id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=True),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("label", sa.String(length=16), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('AGREE', 'DISAGREE', 'UNSURE', 'STATED')", name=op.f("ck_verdicts_verdict")
        ),
        sa.CheckConstraint(
            "label IS NULL OR label IN ('NORMAL', 'PNEUMONIA', 'BACTERIAL', 'VIRAL')",
            name=op.f("ck_verdicts_label"),
        ),
        sa.CheckConstraint(
            "(verdict = 'UNSURE') = (label IS NULL)", name=op.f("ck_verdicts_label_unless_unsure")
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_verdicts_instance_id_instances")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_verdicts_model_id_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
    )
    op.create_index(
        "ix_verdicts_instance_id_model_id_person_id",
        "verdicts",
        ["instance_id", "model_id", "person", "id"],
        unique=False,
    )
    op.create_index("ix_verdicts_decided_at", "verdicts", ["decided_at"], unique=False)


def downgrade() -> None:
    op.drop_table("verdicts")
