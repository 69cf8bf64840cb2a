"""How often a notice was tried, also where it cannot have arrived.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The default is for workers of the older version that still run while this is done.
    op.add_column("notices", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    # Of those before it is known only how often they may have arrived.
    op.execute("UPDATE notices SET tries = attempts")


def downgrade() -> None:
    with op.batch_alter_table("notices") as batch:
        batch.drop_column("tries")
