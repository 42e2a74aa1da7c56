"""parameters have a history"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLE = "parameter_changes"
ROWS = "SELECT name, value, updated_at_ms FROM parameters ORDER BY updated_at_ms, name"
INSERT = "INSERT INTO parameter_changes VALUES (:number, :name, NULL, :value, :at_ms, :by, :reason)"
INSERT_LEAF = "INSERT INTO leaves (kind, ref_id, hash, hash_head) VALUES (2, :ref, :hash, :head)"
BY = "operator"
REASON = "as it was set before parameters had a history"


def upgrade() -> None:
    """What was set becomes the first changes, in the order of its times; what it was before, nobody knows."""
    op.create_table(
        TABLE,
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value_before", sa.BigInteger(), nullable=True),
        sa.Column("value_after", sa.BigInteger(), nullable=False),
        sa.Column("effective_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_parameter_changes_name", TABLE, ["name", "number"], unique=False)
    op.create_index(
        "ux_parameter_changes_ref",
        TABLE,
        [sa.text("(CAST('parameter:' || CAST(number AS TEXT) AS TEXT))")],
        unique=True,
    )
    bind = op.get_bind()
    for number, row in enumerate(bind.execute(sa.text(ROWS)).all(), 1):
        keep(bind, number, row.name, row.value, row.updated_at_ms)
    op.drop_table("parameters")
    if bind.dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {TABLE}_append_only BEFORE UPDATE OR DELETE ON {TABLE} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_truncate BEFORE TRUNCATE ON {TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_{change.lower()} BEFORE {change} ON {TABLE} "
            f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
        )


def keep(bind: sa.Connection, number: int, name: str, value: int, at_ms: int) -> None:
    """The row and its leaf, which the next block seals."""

    bind.execute(
        sa.text(INSERT),
        {"number": number, "name": name, "value": value, "at_ms": at_ms, "by": BY, "reason": REASON},
    )
    document = {
        "by": BY,
        "effective_at_ms": at_ms,
        "name": name,
        "number": number,
        "reason": REASON,
        "type": "aitbc/parameter/v1",
        "value_after": str(value),
        "value_before": None,
    }
    data = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    hashed = hashlib.sha256(b"\x00" + data).digest()
    leaf = {
        "ref": f"parameter:{number}",
        "hash": hashed,
        "head": int.from_bytes(hashed[:8], "big", signed=True),
    }
    bind.execute(sa.text(INSERT_LEAF), leaf)
