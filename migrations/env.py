"""Alembic's entry: run migrations over the engine that the caller configured."""

from alembic import context
from sqlalchemy import Engine

from worker.tables import Base


def run(engine: Engine) -> None:
    """Run the migrations in one transaction; SQLite alters tables by copying them (batch)."""
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:  # a copied table is dropped under the rows that refer to it
            driver = connection.connection.dbapi_connection
            assert driver is not None  # the connection is open
            driver.execute("PRAGMA foreign_keys=OFF")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=sqlite,
            compare_type=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run(context.config.attributes["engine"])
