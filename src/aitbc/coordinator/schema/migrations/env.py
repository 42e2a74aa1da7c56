"""Alembic's entry: runs revisions on the connection that `aitbc.coordinator.schema.migrate` has opened and locked."""

from alembic import context

from aitbc.coordinator.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    compare_type=True,
    compare_server_default=True,
)
context.run_migrations()
