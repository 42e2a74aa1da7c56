"""The chain"""

import sqlalchemy as sa
from alembic import op

from aitbc.core.log.leaf import RECEIPT, TRANSFER, receipt_leaf, transfer_leaf
from aitbc.core.log.merkle import leaf_hash

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APPEND_ONLY = ("blocks", "cosignatures")


# Holds before what settles them, as they were made.
TRANSFERS = """
SELECT id, kind, debit_id, credit_id, amount_units, hold_id, ref, created_at_ms FROM transfers ORDER BY created_at_ms,
CASE kind WHEN 'hold' THEN 1 WHEN 'post' THEN 2 WHEN 'void' THEN 2 WHEN 'fee' THEN 3 ELSE 0 END, id
"""
RECEIPTS = "SELECT id, body, key_id, signature FROM receipts ORDER BY created_at_ms, id"
INSERT_LEAF = "INSERT INTO leaves (kind, ref_id, hash, hash_head) VALUES (:kind, :ref, :hash, :head)"
ROWS = 1000


def upgrade() -> None:
    op.create_table(
        "blocks",
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("first_leaf", sa.BigInteger(), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("transactions", sa.BigInteger(), nullable=False),
        sa.Column("receipts", sa.BigInteger(), nullable=False),
        sa.Column("total_transactions", sa.BigInteger(), nullable=False),
        sa.Column("total_receipts", sa.BigInteger(), nullable=False),
        sa.Column("proposer", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.CheckConstraint("total_transactions + total_receipts = tree_size", name="totals"),
        sa.CheckConstraint("transactions + receipts = tree_size - first_leaf", name="counts"),
        sa.CheckConstraint("tree_size >= first_leaf", name="leaves"),
        sa.PrimaryKeyConstraint("height"),
    )
    op.create_index("ix_blocks_tree_size", "blocks", ["tree_size"], unique=False)
    op.create_index("ux_blocks_hash", "blocks", ["hash"], unique=True)
    op.create_table(
        "cosignatures",
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("witness", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("height", "witness"),
    )
    op.create_table(
        "leaves",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("ref_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash_head", sa.BigInteger(), nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind = 0 OR kind = 1", name="kind"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(
        "ix_leaves_hash",
        "leaves",
        [sa.text("(leaf_index >> 14)"), "hash_head"],
        unique=False,
        sqlite_where=sa.text("leaf_index IS NOT NULL"),
        postgresql_where=sa.text("leaf_index IS NOT NULL"),
    )
    op.create_index(
        "ix_leaves_unsealed",
        "leaves",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("leaf_index IS NULL"),
        postgresql_where=sa.text("leaf_index IS NULL"),
    )
    op.create_index(
        "ux_leaves_index",
        "leaves",
        ["leaf_index"],
        unique=True,
        sqlite_where=sa.text("leaf_index IS NOT NULL"),
        postgresql_where=sa.text("leaf_index IS NOT NULL"),
    )
    op.create_index("ux_leaves_ref", "leaves", ["ref_id"], unique=True)
    op.create_table(
        "tiles",
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "idx"),
        sqlite_with_rowid=False,
    )
    for table in APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            )
            continue
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    _append_what_is_there()


def _append_what_is_there() -> None:
    """Leaves for the transfers and receipts that were made before there was a log; the next blocks seal them."""
    connection = op.get_bind()
    for kind, query in ((TRANSFER, TRANSFERS), (RECEIPT, RECEIPTS)):
        for rows in connection.execute(sa.text(query)).partitions(ROWS):
            leaves = []
            for row in rows:
                hashed = leaf_hash(transfer_leaf(*row) if kind == TRANSFER else receipt_leaf(*row[1:]))
                head = int.from_bytes(hashed[:8], "big", signed=True)
                leaves.append({"kind": kind, "ref": row[0], "hash": hashed, "head": head})
            connection.execute(sa.text(INSERT_LEAF), leaves)
