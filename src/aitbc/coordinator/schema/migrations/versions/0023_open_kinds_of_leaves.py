"""open kinds of leaves"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

CHECKS = (
    ("leaves", "kind", "kind = 0 OR kind = 1", "kind >= 0"),
    (
        "blocks",
        "counts",
        "transactions + receipts = tree_size - first_leaf",
        "transactions + receipts <= tree_size - first_leaf",
    ),
    (
        "blocks",
        "totals",
        "total_transactions + total_receipts = tree_size",
        "total_transactions + total_receipts <= tree_size",
    ),
)


def upgrade() -> None:
    """Leaves may be of other kinds than two, and blocks say of which. Blocks that are there stay as they are."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        for table in ("leaves", "blocks"):
            rebuild(bind, table, [(old, new) for of, _name, old, new in CHECKS if of == table])
    else:
        for table, name, _old, new in CHECKS:
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({new})")
    op.add_column("blocks", sa.Column("contents", sa.Text(), server_default=sa.text("''"), nullable=False))


def rebuild(bind: sa.Connection, table: str, changes: list[tuple[str, str]]) -> None:
    """SQLite changes no CHECK: the rows go into a table with the new ones, then its indexes and triggers are made."""
    found = bind.exec_driver_sql(
        "SELECT type, sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL", (table,)
    ).all()
    made = next(str(row.sql) for row in found if row.type == "table")
    for old, new in changes:
        if made.count(f"CHECK ({old})") != 1:
            raise RuntimeError(f"{table} has another CHECK than {old}")
        made = made.replace(f"CHECK ({old})", f"CHECK ({new})")
    bind.exec_driver_sql(f"ALTER TABLE {table} RENAME TO old_{table}")
    bind.exec_driver_sql(made)
    bind.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM old_{table}")
    bind.exec_driver_sql(f"DROP TABLE old_{table}")
    for row in found:
        if row.type != "table":
            bind.exec_driver_sql(str(row.sql))
