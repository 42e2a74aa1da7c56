"""The database's history, Alembic revisions from the first table on; run by `aitbc.coordinator.schema.migrate`."""
