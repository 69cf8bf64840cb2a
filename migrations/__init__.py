"""Alembic migrations of the results database; they import worker.tables only."""
