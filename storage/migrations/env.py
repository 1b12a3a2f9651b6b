"""Alembic's entry: runs on the connection and inside the transaction that `storage.schema` gives it."""

from alembic import context

from storage.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
