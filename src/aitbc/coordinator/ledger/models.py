"""The ledger's two tables. Money is in base units; the sum of all balances is zero (the mint goes negative)."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, listed, one_of, text

MINT = "system:mint"
TREASURY = "system:treasury"
ESCROW = "system:escrow"  # the counter-side of holds and voids; its balance is always zero
SYSTEM_ACCOUNTS = {MINT: "mint", TREASURY: "treasury", ESCROW: "escrow"}

ACCOUNT_KINDS = ("user", "mint", "treasury", "escrow")
TRANSFER_KINDS = ("mint", "transfer", "hold", "post", "fee", "void")
MOVING_KINDS = ("mint", "transfer", "post", "fee")  # these move balance; holds and voids reserve it
SETTLING_KINDS = ("post", "fee", "void")  # these name the hold that they settle
ENDING_KINDS = ("post", "void")  # a hold has exactly one of these in the end


class Account(SQLModel, table=True):
    """What an account has. `balance_units` includes `held_units`; available is the difference."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("held_units >= 0", name="held_not_negative"),
        CheckConstraint("kind = 'mint' OR balance_units >= held_units", name="no_overdraft"),
        listed("kind", "kind", ACCOUNT_KINDS),
        {"sqlite_with_rowid": False},
    )

    id: str = text(primary_key=True)
    kind: str = text()
    balance_units: int = big(0)
    held_units: int = big(0)
    created_at_ms: int = big()


class Transfer(SQLModel, table=True):
    """One immutable line of the ledger.

    kind    mint | transfer | post | fee move `amount_units` from debit to credit;
            hold reserves it on debit, void gives back what its hold reserved.
    hold_id the hold that a post, fee or void settles. A hold is settled once: one post or one void.
    id      and what it was for, `ref`: one of the forms that `core.transfer_ids` declares.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        CheckConstraint("amount_units >= 0", name="amount_not_negative"),
        listed("kind", "kind", TRANSFER_KINDS),
        listed("settles_a_hold", "kind", SETTLING_KINDS, "{} = (hold_id IS NOT NULL)"),
        Index(
            "ux_transfers_settled",
            "hold_id",
            unique=True,
            sqlite_where=sql(one_of("kind", ENDING_KINDS)),
            postgresql_where=sql(one_of("kind", ENDING_KINDS)),
        ),
        Index("ix_transfers_debit_time", "debit_id", "created_at_ms", "id"),
        Index("ix_transfers_credit_time", "credit_id", "created_at_ms", "id"),
        {"sqlite_with_rowid": False},
    )

    id: str = text(primary_key=True)
    kind: str = text()
    debit_id: str = text(foreign_key="accounts.id")
    credit_id: str = text(foreign_key="accounts.id")
    amount_units: int = big()
    hold_id: str | None = text(None, nullable=True)
    ref: str = text("")
    created_at_ms: int = big()


class BalanceMark(SQLModel, table=True):
    """What an account had received and paid by a moment: all its movements before `at_ms`, added up.

    Of a time for which the books are closed, so it never changes. Derived from the transfers (`ledger.marks`).
    low_units  the least that it had since the mark before (`ledger.lows`); NULL where that was not kept yet
    """

    __tablename__ = "balance_marks"
    __table_args__ = (
        CheckConstraint("in_units >= 0 AND out_units >= 0 AND movements >= 0", name="counted"),
        {"sqlite_with_rowid": False},
    )

    account_id: str = text(primary_key=True, foreign_key="accounts.id")
    at_ms: int = big(primary_key=True)
    in_units: int = big()
    out_units: int = big()
    movements: int = big()
    low_units: int | None = big(None, nullable=True)


append_only(Transfer)
