"""Indexes by which no question reads a table that grows: neither people's, nor the machinery's.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE: dict[str, tuple[str, list[str]]] = {
    "ix_studies_received_at": ("studies", ["received_at"]),
    "ix_studies_patient_id": ("studies", ["patient_id"]),
    "ix_studies_accession_number": ("studies", ["accession_number"]),
    "ix_studies_state_received_at": ("studies", ["state", "received_at"]),
    "ix_jobs_kind_due_at": ("jobs", ["kind", "due_at"]),
}
AFTER: dict[str, tuple[str, list[str]]] = {
    "ix_studies_received_at_id": ("studies", ["received_at", "id"]),
    "ix_studies_patient_id_received_at_id": ("studies", ["patient_id", "received_at", "id"]),
    "ix_studies_accession_number_received_at_id": (
        "studies", ["accession_number", "received_at", "id"],
    ),
    "ix_studies_state_received_at_id": ("studies", ["state", "received_at", "id"]),
    "ix_studies_study_date_id": ("studies", ["study_date", "id"]),
    "ix_studies_dotted": ("studies", ["study_date", "id"]),
    "ix_jobs_owed": ("jobs", ["kind", "destination", "due_at", "id"]),
    "ix_jobs_leased": ("jobs", ["kind", "destination", "due_at"]),
    "ix_jobs_dead": ("jobs", ["id"]),
}  # fmt: skip
# Which rows an index holds, where that is not all.
ROWS = {
    "ix_studies_dotted": "study_date LIKE '%.%'",
    "ix_jobs_owed": "state != 'DEAD'",
    "ix_jobs_leased": "state = 'LEASED'",
    "ix_jobs_dead": "state = 'DEAD'",
}


def upgrade() -> None:
    replace(BEFORE, AFTER)


def downgrade() -> None:
    replace(AFTER, BEFORE)


def replace(old: dict[str, tuple[str, list[str]]], new: dict[str, tuple[str, list[str]]]) -> None:
    for name, (table, _) in old.items():
        op.drop_index(name, table_name=table)
    for name, (table, columns) in new.items():
        rows = sa.text(ROWS[name]) if name in ROWS else None
        op.create_index(
            name, table, columns, unique=False, sqlite_where=rows, postgresql_where=rows
        )
