"""Tables whose rows the database itself refuses to change or delete, one by one or all at once."""

from typing import Any

from sqlalchemy import DDL, event

POSTGRESQL_FUNCTION = (
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME; END $$"
)


def append_only(model: Any) -> None:
    """Creates the refusing triggers with the model's table. The migrations say the same in their own words."""
    table = model.__table__
    ddl: list[tuple[str, str]] = [
        ("postgresql", POSTGRESQL_FUNCTION),
        (
            "postgresql",
            f"CREATE TRIGGER {table.name}_append_only BEFORE UPDATE OR DELETE ON {table.name} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        ),
        (
            "postgresql",
            f"CREATE TRIGGER {table.name}_no_truncate BEFORE TRUNCATE ON {table.name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
        ),
    ]
    for change in ("UPDATE", "DELETE"):
        ddl.append(
            (
                "sqlite",
                f"CREATE TRIGGER {table.name}_no_{change.lower()} BEFORE {change} ON {table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only'); END",
            )
        )
    for dialect, text in ddl:
        event.listen(table, "after_create", DDL(text).execute_if(dialect=dialect))
