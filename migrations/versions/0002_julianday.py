"""Give PostgreSQL the function julianday() that SQLite has, so that one query text serves both.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Days since noon of 24 November 4714 BC, Greenwich; PostgreSQL counts them from midnight.
CREATE = """
CREATE FUNCTION julianday(timestamp with time zone) RETURNS double precision
LANGUAGE sql STABLE STRICT
AS $$ SELECT CAST(EXTRACT(JULIAN FROM $1 AT TIME ZONE 'UTC') AS double precision) - 0.5 $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(CREATE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION julianday(timestamp with time zone)")
