"""Which network a database is"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the row. A database with a genesis block keeps its origin, and gets an id that is its own."""
    op.create_table(
        "network",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("network_id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("founding", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER network_append_only BEFORE UPDATE OR DELETE ON network "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER network_no_truncate BEFORE TRUNCATE ON network "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    else:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER network_no_{change.lower()} BEFORE {change} ON network "
                "BEGIN SELECT RAISE(ABORT, 'network is append-only'); END"
            )
    keep_old_network(bind)


def keep_old_network(bind: sa.Connection) -> None:
    """The name of an old network stands in its keys' names: `aitbc/` and the chain id.

    Where no key has the genesis block's own (it was never started with one), the next start writes the row.
    """
    genesis_hash = bind.execute(sa.text("SELECT hash FROM blocks WHERE height = 0")).scalar()
    keys = bind.execute(sa.text("SELECT vkey, public_key FROM signing_keys ORDER BY valid_from_ms, id")).all()
    names = {str(key.vkey).partition("+")[0] for key in keys}
    for chain_id in sorted(name.removeprefix("aitbc/") for name in names):
        if old_genesis_hash(chain_id) != genesis_hash:
            continue
        stated = {
            "genesis_hash": genesis_hash,
            "log_key": keys[0].public_key,
            "version": "aitbc/old-network/v1",
        }
        bind.execute(
            sa.text("INSERT INTO network VALUES (1, :network_id, :chain_id, :origin, '')"),
            {"network_id": canonical_hash(stated), "chain_id": chain_id, "origin": f"aitbc/{chain_id}"},
        )


def old_genesis_hash(chain_id: str) -> str:
    return canonical_hash(
        {
            "chain_id": chain_id,
            "first_leaf": 0,
            "height": 0,
            "last_leaf": -1,
            "previous_hash": "0" * 64,
            "proposer": "",
            "receipts": 0,
            "root": hashlib.sha256(b"").hexdigest(),
            "time": "2026-01-01T00:00:00.000Z",
            "transactions": 0,
            "tree_size": 0,
            "version": "aitbc/block/v1",
        }
    )


def canonical_hash(document: dict[str, object]) -> str:
    """SHA-256 of the RFC 8785 form; all that is in it is ASCII, and the members stand in order."""
    return hashlib.sha256(json.dumps(document, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
