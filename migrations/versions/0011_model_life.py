"""Candidates that are tried on live studies, what they say, and the steps in a model's life.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "candidates",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.String(length=255), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("seen_id", sa.BigInteger(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
        sa.UniqueConstraint("digest", name=op.f("uq_candidates_digest")),
    )
    op.create_table(
        "shadow_findings",
        sa.Column("id", ID, nullable=False),
        sa.Column("candidate_id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("assessed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("finding", sa.String(length=16), nullable=True),
        sa.Column("pneumonia", sa.Double(), nullable=True),
        sa.Column("bacterial", sa.Double(), nullable=True),
        sa.Column("viral", sa.Double(), nullable=True),
        sa.Column("live_model_id", ID, nullable=False),
        sa.Column("live_reason", sa.String(length=64), nullable=True),
        sa.Column("live_finding", sa.String(length=16), nullable=True),
        sa.Column("live_pneumonia", sa.Double(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "(assessed AND reason IS NULL AND finding IS NOT NULL AND pneumonia IS NOT NULL) OR "
            "(NOT assessed AND reason IS NOT NULL AND finding IS NULL AND pneumonia IS NULL)",
            name=op.f("ck_shadow_findings_assessed_or_reason"),
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidates.id"],
            name=op.f("fk_shadow_findings_candidate_id_candidates"),
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_shadow_findings_instance_id_instances")
        ),
        sa.ForeignKeyConstraint(
            ["live_model_id"], ["models.id"], name=op.f("fk_shadow_findings_live_model_id_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_findings")),
        sa.UniqueConstraint(
            "instance_id", "sha256", "candidate_id",
            name=op.f("uq_shadow_findings_instance_id_sha256_candidate_id"),
        ),
    )  # fmt: skip
    op.create_index(
        "ix_shadow_findings_candidate_id_created_at_id",
        "shadow_findings",
        ["candidate_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "model_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("folder", sa.String(length=255), nullable=False),
        sa.Column("former", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint(
            "action IN ('USED', 'SHADOWED', 'WITHDRAWN', 'PROMOTED', 'ROLLED_BACK', 'STOPPED')",
            name=op.f("ck_model_events_action"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_events")),
    )


def downgrade() -> None:
    op.drop_table("model_events")
    op.drop_table("shadow_findings")
    op.drop_table("candidates")
