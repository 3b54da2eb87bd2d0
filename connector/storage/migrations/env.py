"""Alembic's entry: runs the versions on the connection that `migrate` holds."""

from alembic import context

from connector.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
