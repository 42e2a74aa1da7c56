"""Every change of a parameter, for good: the newest of a name is its value, and without one its default holds."""

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, text

REF = "CAST('parameter:' || CAST(number AS TEXT) AS TEXT)"
"""What a change's leaf calls it. The outer CAST makes it a text for SQLite, which would not use its index without."""


class ParameterChange(SQLModel, table=True):
    """One change, and one leaf of the log.

    number           1, 2, 3, ... over all names, without gaps; `parameter:<number>` names its leaf
    value_before     NULL where it is not known: changes from before there was a history
    effective_at_ms  when it came into force; never before that of the number before
    by               who: `operator`, or what decided it
    """

    __tablename__ = "parameter_changes"
    __table_args__ = (
        Index("ix_parameter_changes_name", "name", "number"),
        Index("ux_parameter_changes_ref", sql(f"({REF})"), unique=True),
    )

    number: int = big(primary_key=True)
    name: str = text()
    value_before: int | None = big(None, nullable=True)
    value_after: int = big()
    effective_at_ms: int = big()
    by: str = text()
    reason: str = text()


append_only(ParameterChange)
