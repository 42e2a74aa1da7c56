"""Top-ups with Bitcoin: what was asked for, what arrived, what was credited, and how far the chain was looked at.

Satoshi and base units of AIT are integers; a rate is base units for one bitcoin. Hashes are as explorers show them.
"""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, listed, small, text
from aitbc.coordinator.exchange.states import EXCEPTIONS, STATES
from aitbc.core.bitcoin import CREDITED, REVERSED

LOCKED = "lock_over = 0"
RESERVED = "told_by_sat > 0"
OPEN = "final = 0"
FLAGGED = "reversed = 1 AND credited_units > 0 AND forgiven = 0"


class Topup(SQLModel, table=True):
    """A request to be paid, and where it stands.

    number        counts all top-ups in the order in which they can be seen: what the watch has not met is above
    sat           what was asked for, worth at least `ait_units` at `rate_units`
    script        the output script of `address`, hex; with one address for all, `told_by_sat` tells whose an output is
    told_by_sat   0: the address is this top-up's alone; NULL: its amount may be another's by now
    key_id        the extended key that the address is from, at `key_index` ('' and -1: the operator's own address)
    lock_over     1 once a look at the chain after `expires_at_ms` had nothing new: what comes later is late
    looked_height from which block its address is to be looked at next, by itself
    """

    __tablename__ = "topups"
    __table_args__ = (
        listed("state", "state", STATES),
        listed("exception", "exception", EXCEPTIONS),
        CheckConstraint("ait_units >= 0 AND sat > 0 AND rate_units > 0", name="amounts"),
        Index("ux_topups_number", "number", unique=True),
        Index("ux_topups_paid_by", "script", "told_by_sat", unique=True),
        Index("ix_topups_account", "account_id", "created_at_ms"),
        Index("ix_topups_locked", "expires_at_ms", sqlite_where=sql(LOCKED), postgresql_where=sql(LOCKED)),
        Index(
            "ix_topups_reserved", "expires_at_ms", sqlite_where=sql(RESERVED), postgresql_where=sql(RESERVED)
        ),
        Index("ix_topups_asked", "asked_ms"),
    )

    id: str = text(primary_key=True)
    number: int = big()
    account_id: str = text(foreign_key="accounts.id")
    state: str = text()
    exception: str = text("none")
    ait_units: int = big()
    sat: int = big()
    rate_units: int = big()
    address: str = text()
    script: str = text()
    told_by_sat: int | None = big(0, nullable=True)
    key_id: str = text("")
    key_index: int = big(-1)
    lock_over: int = small(0)
    expires_at_ms: int = big()
    looked_height: int = big()
    asked_ms: int = big(0)
    created_at_ms: int = big()
    updated_at_ms: int = big()


class BitcoinOutput(SQLModel, table=True):
    """An output that pays an address of ours, once seen. Its id is its outpoint, txid:vout.

    topup_id       '' where its amount tells no top-up: nobody is credited until an operator says whose it is
    height, hash   its block; -1 and '' while it is in none
    lost_height    the last block that the chain before and after had in common, when its own block left it; else -1
    gone           neither in a block nor in the mempool when it was last looked for: replaced, or reorganised away
    late           first seen after the top-up's lock was over
    events         credits and reversals of it so far, in turn: credited while odd
    rate_units     at which it was first credited
    credited_units what of its credit is with the account now; after a reversal, what could not be taken back
    reversed       1 from a reversal until it is credited again; forgiven: an operator lets the rest be
    final          1 once nothing about it can change any more, but by a miracle
    """

    __tablename__ = "bitcoin_outputs"
    __table_args__ = (
        CheckConstraint("sat > 0 AND credited_units >= 0 AND events >= 0", name="amounts"),
        CheckConstraint("(height >= 0) = (hash <> '')", name="in_a_block"),
        CheckConstraint("gone = 0 OR height = -1", name="gone_from_the_chain"),
        Index("ix_bitcoin_outputs_topup", "topup_id"),
        Index("ix_bitcoin_outputs_open", "id", sqlite_where=sql(OPEN), postgresql_where=sql(OPEN)),
        Index(
            "ix_bitcoin_outputs_flagged", "topup_id", sqlite_where=sql(FLAGGED), postgresql_where=sql(FLAGGED)
        ),
    )

    id: str = text(primary_key=True)
    topup_id: str = text("")
    script: str = text()
    sat: int = big()
    coinbase: int = small(0)
    height: int = big(-1)
    hash: str = text("")
    lost_height: int = big(-1)
    gone: int = small(0)
    late: int = small(0)
    events: int = small(0)
    rate_units: int = big(0)
    credited_units: int = big(0)
    reversed: int = small(0)
    forgiven: int = small(0)
    final: int = small(0)
    seen_at_ms: int = big()


class BitcoinCredit(SQLModel, table=True):
    """A credit of an output, or its reversal; a leaf of the log. Its id is that of its transfer behind `entry:`.

    block_height, block_hash: the block that the credit went by; a reversal repeats those of the credit it takes back.
    short_units: what a reversal could not take, for it was spent.
    """

    __tablename__ = "bitcoin_credits"
    __table_args__ = (
        listed("kind", "kind", (CREDITED, REVERSED)),
        CheckConstraint("sat > 0 AND rate_units > 0 AND units >= 0 AND short_units >= 0", name="amounts"),
    )

    id: str = text(primary_key=True)
    kind: str = text()
    outpoint: str = text()
    topup_id: str = text()
    account_id: str = text()
    sat: int = big()
    rate_units: int = big()
    units: int = big()
    short_units: int = big(0)
    block_height: int = big()
    block_hash: str = text()
    created_at_ms: int = big()


append_only(BitcoinCredit)


class BitcoinBlock(SQLModel, table=True):
    """One of the last blocks that were looked at: where two chains part is found by them."""

    __tablename__ = "bitcoin_blocks"

    height: int = big(primary_key=True)
    hash: str = text()


class BitcoinWatch(SQLModel, table=True):
    """How far the chain was looked at: one row, which each round moves by a guarded update of `version`.

    genesis         of the chain that is watched, for good
    scanned_height  up to which every block was read for the addresses of all top-ups up to `scanned_number`
    whole_ms        when the tip and the mempool were last looked at
    """

    __tablename__ = "bitcoin_watch"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: int = small(primary_key=True)
    version: int = big(0)
    genesis: str = text()
    height: int = big()
    hash: str = text()
    scanned_height: int = big()
    scanned_number: int = big(0)
    whole_ms: int = big()


class BitcoinKey(SQLModel, table=True):
    """The next index of an extended key, never given twice; under '' the number of the next top-up."""

    __tablename__ = "bitcoin_keys"

    id: str = text(primary_key=True)
    next_index: int = big()
