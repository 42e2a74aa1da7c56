"""The network, leaves, blocks, tiles and cosignatures."""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, LargeBinary
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, small, text

UNSEALED = "leaf_index IS NULL"
SEALED = "leaf_index IS NOT NULL"
SHELF_BITS = 14
SHELF = f"leaf_index >> {SHELF_BITS}"
"""Hashes are indexed shelf by shelf (16,384 leaves). In one index over all of them each new leaf would change
a page of its own: at a million leaves that made a seal six times as slow. `chain.search` looks through shelves.
"""
TRANSFERS = "kind = 0"
MARK_EVERY = 500
"""Transfers of an account after which its balance is marked."""
UNMARKED = f"transfers - marked >= {MARK_EVERY}"


class Leaf(SQLModel, table=True):
    """One leaf of the log, appended in the transaction that makes what it is of.

    seq        order of appending; gaps are possible (rolled-back transactions on PostgreSQL)
    kind       what it is of (`core.log.leaf.KINDS`: 0 transfer, 1 receipt, ...); ref_id is its id
    hash       RFC 6962 leaf hash of its bytes (`core.leaf`), 32 bytes
    hash_head  the first 8 bytes of `hash` as a signed integer, for searches by prefix
    leaf_index its place in the tree, given when it is sealed
    """

    __tablename__ = "leaves"
    __table_args__ = (
        CheckConstraint("kind >= 0", name="kind"),
        Index("ux_leaves_ref", "ref_id", unique=True),
        Index("ix_leaves_unsealed", "seq", sqlite_where=sql(UNSEALED), postgresql_where=sql(UNSEALED)),
        Index(
            "ux_leaves_index",
            "leaf_index",
            unique=True,
            sqlite_where=sql(SEALED),
            postgresql_where=sql(SEALED),
        ),
        Index("ix_leaves_transfers", "seq", sqlite_where=sql(TRANSFERS), postgresql_where=sql(TRANSFERS)),
        Index(
            "ix_leaves_hash",
            sql(f"({SHELF})"),
            "hash_head",
            sqlite_where=sql(SEALED),
            postgresql_where=sql(SEALED),
        ),
    )

    # SQLite counts rowids only for INTEGER, PostgreSQL needs the wider type for the sequence.
    seq: int | None = Field(
        default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer, "sqlite")
    )
    kind: int = small()
    ref_id: str = text()
    hash: bytes = Field(sa_type=LargeBinary)
    hash_head: int = big()
    leaf_index: int | None = big(None, nullable=True)


class Block(SQLModel, table=True):
    """One block. Leaves first_leaf .. tree_size - 1 are new in it. `checkpoint` is the log's own signed note.

    A height exists once: that is what keeps two coordinators from forking. Totals count from genesis.
    contents  how many of its leaves are of which kind, RFC 8785; '' in blocks of version 1, which know two kinds
    """

    __tablename__ = "blocks"
    __table_args__ = (
        CheckConstraint("tree_size >= first_leaf", name="leaves"),
        CheckConstraint("transactions + receipts <= tree_size - first_leaf", name="counts"),
        CheckConstraint("total_transactions + total_receipts <= tree_size", name="totals"),
        Index("ux_blocks_hash", "hash", unique=True),
        Index("ix_blocks_tree_size", "tree_size"),
    )

    height: int = big(primary_key=True)
    hash: str = text()
    previous_hash: str = text()
    time_ms: int = big()
    first_leaf: int = big()
    tree_size: int = big()
    root: str = text()
    transactions: int = big()
    receipts: int = big()
    total_transactions: int = big()
    total_receipts: int = big()
    proposer: str = text()
    signature: str = text()
    checkpoint: str = text()
    contents: str = text("", sa_column_kwargs={"server_default": sql("''")})


class Network(SQLModel, table=True):
    """The one network that this database is, as it was founded.

    network_id  hash of its genesis block, hex; of networks from before foundings see `core.network`
    origin      the log's origin line, and the name of its keys
    founding    RFC 8785 text of `core.network.Founding`; '' where the network is older
    """

    __tablename__ = "network"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: int = small(1, primary_key=True)
    network_id: str = text()
    chain_id: str = text()
    origin: str = text()
    founding: str = text("")


class Tile(SQLModel, table=True):
    """A C2SP tile: up to 256 hashes of 32 bytes. Only those on the right edge ever grow."""

    __tablename__ = "tiles"
    __table_args__ = ({"sqlite_with_rowid": False},)

    level: int = big(primary_key=True)
    idx: int = big(primary_key=True)
    hashes: bytes = Field(sa_type=LargeBinary)


class Cosignature(SQLModel, table=True):
    """A witness's signature line on a block's checkpoint."""

    __tablename__ = "cosignatures"

    height: int = big(primary_key=True)
    witness: str = text(primary_key=True)
    line: str = text()
    at_ms: int = big()


class Counter(SQLModel, table=True):
    """A number that is kept rather than counted again. `mark` says up to where it has counted.

    accounts  accounts (but the system's) that have a sealed transfer
    activity  leaves that account_activity has taken in
    final     the newest final block, by the quorum in `mark` and as of the cosigned block named there
    jobs      jobs with an id of at most `mark`
    """

    __tablename__ = "counters"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: str = text(primary_key=True)
    value: int = big()
    mark: str = text("")


class AccountActivity(SQLModel, table=True):
    """How many sealed transfers name an account, and the places in the tree of the first and the last one.

    Derived from the log, and behind its head by a moment (see the counter `activity`).
    marked  how many of its transfers had been counted when marks of its balance were last written (`ledger.marks`)
    """

    __tablename__ = "account_activity"
    __table_args__ = (
        CheckConstraint("first_leaf >= 0 AND last_leaf >= first_leaf AND transfers > 0", name="counted"),
        Index("ix_account_activity_first", "first_leaf", "account_id"),
        Index(
            "ix_account_activity_unmarked",
            "account_id",
            sqlite_where=sql(UNMARKED),
            postgresql_where=sql(UNMARKED),
        ),
        {"sqlite_with_rowid": False},
    )

    account_id: str = text(primary_key=True)
    transfers: int = big()
    first_leaf: int = big()
    last_leaf: int = big()
    marked: int = big(0, sa_column_kwargs={"server_default": "0"})


append_only(Block)
append_only(Network)
append_only(Cosignature)
