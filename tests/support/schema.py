"""What a database's own catalogue says its schema is, as comparable text."""

import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection

COLUMNS = """
SELECT table_name || '.' || column_name, ordinal_position || ' ' || data_type || ' nullable ' || is_nullable
       || ' default ' || coalesce(column_default, 'none')
FROM information_schema.columns WHERE table_schema = 'public'
"""
CONSTRAINTS = """
SELECT conrelid::regclass || ' constraint ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
"""
INDEXES = "SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
TRIGGERS = """
SELECT 'trigger ' || tgname, pg_get_triggerdef(pg_trigger.oid) || pg_get_functiondef(tgfoid) FROM pg_trigger
WHERE NOT tgisinternal
"""
SQLITE = "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"


CONSTRAINT = re.compile(r"(CONSTRAINT|CHECK|PRIMARY KEY|FOREIGN KEY|UNIQUE)\b")


def schema(connection: Connection) -> dict[str, str]:
    """Every table, column, constraint, index (with its predicate) and trigger by name, as SQL text.

    Alembic's own table is left out.
    """
    queries = [SQLITE] if connection.dialect.name == "sqlite" else [COLUMNS, CONSTRAINTS, INDEXES, TRIGGERS]
    found = {name: text for query in queries for name, text in connection.execute(sa.text(query)).all()}
    return {name: _comparable(text) for name, text in found.items() if "alembic_version" not in name}


def _comparable(text: str) -> str:
    """On one line, with the constraints of a CREATE TABLE in alphabetical order after its columns."""
    text = re.sub(r"\s+", " ", text).strip()
    if not text.startswith("CREATE TABLE"):
        return text
    start, end = text.index("("), text.rindex(")")
    parts = _split(text[start + 1 : end])
    columns = [part for part in parts if not CONSTRAINT.match(part)]
    constraints = sorted(part for part in parts if CONSTRAINT.match(part))
    return f"{text[:start].strip()} ({', '.join(columns + constraints)}){text[end + 1 :]}"


def _split(text: str) -> list[str]:
    """At the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
