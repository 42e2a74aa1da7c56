"""Parameters that differ from their defaults."""

from sqlmodel import SQLModel

from aitbc.coordinator.database.columns import big, text


class Parameter(SQLModel, table=True):
    __tablename__ = "parameters"

    name: str = text(primary_key=True)
    value: int = big()
    updated_at_ms: int = big()
