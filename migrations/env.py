"""Alembic's entry: run migrations over the URL that the caller configured."""

from alembic import context
from sqlalchemy import create_engine, pool

from worker.tables import Base


def run() -> None:
    """Run the migrations in one transaction; SQLite alters tables by copying them (batch)."""
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None  # worker.database.alembic_config sets it
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
