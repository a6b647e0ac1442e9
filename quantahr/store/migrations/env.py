"""Alembic's entry point; the engine comes from `quantahr.store.schema`."""

from alembic import context

from quantahr.store.tables import Base

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
