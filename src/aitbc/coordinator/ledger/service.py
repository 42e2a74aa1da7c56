"""Double entry: accounts, immutable transfers, and holds that are posted or voided exactly once.

Every function changes balances, writes the transfer that explains the change and appends it to the log, all
in the caller's transaction.
Updates are guarded and checked by row count, so that no race can spend the same unit twice.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import bindparam, exists, literal_column, select, update
from sqlalchemy import text as sql

from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import one_of, table_of
from aitbc.coordinator.errors import AccountNotFound, InsufficientFunds, TransferConflict
from aitbc.coordinator.ledger.models import ENDING_KINDS, ESCROW, MINT, SYSTEM_ACCOUNTS, Account, Transfer
from aitbc.core.log.leaf import TRANSFER, transfer_leaf
from aitbc.core.money import MAX_UNITS
from aitbc.core.transfer_ids import Reference, TransferId, new_transfer_id

_accounts = table_of(Account)
_transfers = table_of(Transfer)
_units: Any = bindparam("units")
_own = _accounts.c.id == bindparam("key")

INSERT_ACCOUNT = insert_into(Account, on_conflict_ignore=True)
INSERT_TRANSFER = insert_into(
    Transfer,
    "id",
    "kind",
    "debit_id",
    "credit_id",
    "amount_units",
    "hold_id",
    "ref",
    "created_at_ms",
    on_conflict_ignore=True,
)
SELECT_ACCOUNT = statement(
    select(_accounts.c.id, _accounts.c.kind, _accounts.c.balance_units, _accounts.c.held_units).where(_own)
)
SELECT_TRANSFER = statement(select(_transfers).where(_transfers.c.id == bindparam("id")))
# The predicate is written out as the partial index has it, or the index would not be used.
SELECT_END = statement(
    select(_transfers).where(_transfers.c.hold_id == bindparam("hold"), sql(one_of("kind", ENDING_KINDS)))
)
SELECT_FEES = statement(
    select(_transfers)
    .where(
        _transfers.c.debit_id == bindparam("debit"),
        _transfers.c.created_at_ms == bindparam("at"),
        _transfers.c.id > bindparam("after"),
        _transfers.c.hold_id == bindparam("hold"),
    )
    .order_by(_transfers.c.id)
    .limit(1)
)
_hold = _transfers.alias("hold")
NO_SUCH_HOLD = statement(
    select(literal_column("1").label("one")).where(
        ~exists().where(
            _hold.c.id == bindparam("hold"),
            _hold.c.kind == literal_column("'hold'"),
            _hold.c.debit_id == bindparam("account"),
            _hold.c.amount_units == bindparam("amount"),
            _hold.c.ref == bindparam("ref"),
        )
    )
)
_account = _accounts.alias("account")
NO_SUCH_ACCOUNT = statement(
    select(literal_column("1").label("one")).where(~exists().where(_account.c.id == bindparam("account")))
)
ACCOUNTS_AFTER = statement(
    select(_accounts.c.id, _accounts.c.kind, _accounts.c.balance_units, _accounts.c.held_units)
    .where(_accounts.c.id > bindparam("after"))
    .order_by(_accounts.c.id)
    .limit(bindparam("count"))
)
HOLD = statement(
    update(_accounts)
    .where(_own, _accounts.c.balance_units - _accounts.c.held_units >= _units)
    .values(held_units=_accounts.c.held_units + _units)
)
SETTLE = statement(
    update(_accounts)
    .where(_own, _accounts.c.held_units >= bindparam("held"))
    .values(
        balance_units=_accounts.c.balance_units - _units,
        held_units=_accounts.c.held_units - bindparam("held"),
    )
)
DEBIT = statement(
    update(_accounts)
    .where(
        _own,
        (_accounts.c.kind == "mint") | (_accounts.c.balance_units - _accounts.c.held_units >= _units),
    )
    .values(balance_units=_accounts.c.balance_units - _units)
)
CREDIT = statement(update(_accounts).where(_own).values(balance_units=_accounts.c.balance_units + _units))


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has, in base units. available = balance - held."""

    account_id: str
    balance_units: int
    held_units: int

    @property
    def available_units(self) -> int:
        return self.balance_units - self.held_units


class Hold(NamedTuple):
    """Money that an account has reserved, until the hold is posted or voided.

    `id`, `account_id`, `units` and `ref` (what it is for) are those of its line, to which each post and void is held:
    nobody settles a hold that was never made, in another's name or for another amount.
    `key_id` and `period_ms` say against which key's limit it counts, and since when; 0: against none.
    """

    id: TransferId
    account_id: str
    units: int
    ref: Reference
    key_id: str = ""
    period_ms: int = 0


class Payout(NamedTuple):
    """A part of a posted hold: who gets how much, as which kind (`post` or `fee`)."""

    account_id: str
    units: int
    kind: str


def open_account(tx: Tx, account_id: str, kind: str = "user") -> bool:
    """Makes sure that the account exists. True when this call made it."""
    return (
        tx.run(
            INSERT_ACCOUNT,
            id=account_id,
            kind=kind,
            balance_units=0,
            held_units=0,
            created_at_ms=tx.now_ms,
        )
        == 1
    )


def open_system_accounts(tx: Tx) -> None:
    for account_id, kind in SYSTEM_ACCOUNTS.items():
        open_account(tx, account_id, kind)


def balance(tx: Tx, account_id: str) -> Balance:
    """The account's balance. Raises AccountNotFound."""
    row = tx.one(SELECT_ACCOUNT, key=account_id)
    if row is None:
        raise AccountNotFound(account_id=account_id)
    return Balance(row.id, row.balance_units, row.held_units)


def accounts(tx: Tx, after: str, count: int) -> list[Balance]:
    """Accounts by name, the system's own among them, from the one behind `after` on."""
    rows = tx.all(ACCOUNTS_AFTER, after=after, count=count)
    return [Balance(row.id, row.balance_units, row.held_units) for row in rows]


def mint(tx: Tx, transfer_id: TransferId, account_id: str, units: int, ref: Reference) -> bool:
    """Creates money: the mint goes negative by as much. Idempotent by `transfer_id`."""
    return transfer(tx, transfer_id, MINT, account_id, units, kind="mint", ref=ref)


def transfer(
    tx: Tx,
    transfer_id: TransferId,
    debit_id: str,
    credit_id: str,
    units: int,
    *,
    ref: Reference,
    kind: str = "transfer",
) -> bool:
    """Moves available money. True when this call did it, False when the same transfer stood already.

    Raises InsufficientFunds, AccountNotFound, and TransferConflict where the id names another transfer.
    """
    # Before the line, whose foreign keys would say it in their own words.
    for account_id in (debit_id, credit_id):
        _check_account(tx, account_id)
    if not _record(tx, transfer_id, kind, debit_id, credit_id, units, None, ref):
        return False
    if tx.run(DEBIT, key=debit_id, units=units) != 1:
        raise _refusal(tx, debit_id, units)
    _credit(tx, credit_id, units)
    return True


def hold(tx: Tx, made: Hold) -> bool:
    """Reserves what is available. Idempotent by the hold's id.

    Raises InsufficientFunds, AccountNotFound; TransferConflict for an amount out of range.
    """
    _check_amount(made.id, made.units)
    if tx.tally(HOLD, made.account_id, units=made.units) != 1:
        if tx.one(SELECT_TRANSFER, id=made.id) is not None:
            return _record(tx, made.id, "hold", made.account_id, ESCROW, made.units, None, made.ref)
        raise _refusal(tx, made.account_id, made.units)
    if not _record(tx, made.id, "hold", made.account_id, ESCROW, made.units, None, made.ref):
        tx.tally(SETTLE, made.account_id, units=0, held=made.units)  # it stood already: reserve it once
        return False
    return True


def post(tx: Tx, held: Hold, payouts: list[Payout]) -> TransferId:
    """Settles a hold: pays `payouts` (their sum at most what is held) and frees the remainder.

    `payouts[0]` is the post itself, the rest are fees; zero fees leave no line. Returns the post's
    transfer id. Raises TransferConflict where the hold was settled before, or is not as `held` has it;
    AccountNotFound for a payee who has no account.
    """
    hold_id, account_id, ref = held.id, held.account_id, held.ref
    total = sum(payout.units for payout in payouts)
    if not 0 <= total <= held.units:
        raise TransferConflict("A post cannot exceed its hold.", hold_id=hold_id)
    _check_hold(tx, held)
    # Its line stands, so that only another settlement can have taken what it held.
    if tx.tally(SETTLE, account_id, units=total, held=held.units) != 1:
        raise TransferConflict("This hold was settled before.", hold_id=hold_id)
    # Before the lines, whose foreign keys would say in their own words that there is no such account.
    for index, payout in enumerate(payouts):
        if payout.units:
            _credit(tx, payout.account_id, payout.units)
        elif not index:
            _check_account(tx, payout.account_id)
    post_id = new_transfer_id(tx.booked_ms)
    for index, payout in enumerate(payouts):
        if index and payout.units == 0:
            continue
        transfer_id = new_transfer_id(tx.booked_ms) if index else post_id
        kind = payout.kind if index else "post"
        if not _record(tx, transfer_id, kind, account_id, payout.account_id, payout.units, hold_id, ref):
            raise TransferConflict("This hold was settled before.", hold_id=hold_id)
    return post_id


def void(tx: Tx, held: Hold) -> TransferId:
    """Gives a hold back whole. Returns the void's transfer id.

    Raises TransferConflict where the hold was settled before, or is not as `held` has it.
    """
    _check_hold(tx, held)
    void_id = new_transfer_id(tx.booked_ms)
    if not _record(tx, void_id, "void", held.account_id, ESCROW, held.units, held.id, held.ref):
        raise TransferConflict("This hold was settled before.", hold_id=held.id)
    if tx.tally(SETTLE, held.account_id, units=0, held=held.units) != 1:
        raise TransferConflict("More would be freed than is held.", hold_id=held.id)
    return void_id


def line(tx: Tx, transfer_id: str) -> Any:
    """One transfer's row; None where there is none of this id."""
    return tx.one(SELECT_TRANSFER, id=transfer_id)


def lines_of_hold(tx: Tx, hold_id: str) -> list[Any]:
    """The transfers that settled a hold: its post and then its fee, or its void; none while it is open."""
    end = tx.one(SELECT_END, hold=hold_id)
    if end is None or end.kind == "void":
        return [] if end is None else [end]
    # The fee's line was written right after the post, by the same account and in the same transaction.
    fee = tx.one(SELECT_FEES, debit=end.debit_id, at=end.created_at_ms, after=end.id, hold=hold_id)
    return [end] if fee is None else [end, fee]


def _record(
    tx: Tx,
    transfer_id: TransferId,
    kind: str,
    debit: str,
    credit: str,
    units: int,
    hold_id: TransferId | None,
    ref: Reference,
) -> bool:
    """Writes the line. False where the same line stands already (or its hold is settled)."""
    _check_amount(transfer_id, units)
    row = (transfer_id, kind, debit, credit, units, hold_id, ref, tx.booked_ms)
    inserted = tx.add(INSERT_TRANSFER, row)
    if inserted == 1:
        leaf = transfer_leaf(transfer_id, kind, debit, credit, units, hold_id, ref, tx.booked_ms)
        chain.append(tx, TRANSFER, transfer_id, leaf)
        return True
    stands = tx.one(SELECT_TRANSFER, id=transfer_id)
    if stands is not None:
        found = (stands.kind, stands.debit_id, stands.credit_id, stands.amount_units, stands.ref)
        if found != (kind, debit, credit, units, ref):
            raise TransferConflict(transfer_id=transfer_id)
    return False


def _check_hold(tx: Tx, held: Hold) -> None:
    """Holds what a caller says of a hold to the hold's own line."""
    found = tx.none(NO_SUCH_HOLD, hold=held.id, account=held.account_id, amount=held.units, ref=held.ref)
    if not found:
        raise TransferConflict("There is no such hold of this account.", hold_id=held.id)


def _check_account(tx: Tx, account_id: str) -> None:
    if not tx.none(NO_SUCH_ACCOUNT, account=account_id):
        raise AccountNotFound(account_id=account_id)


def _check_amount(transfer_id: str, units: int) -> None:
    if not 0 <= units <= MAX_UNITS:
        raise TransferConflict("The amount is out of range.", transfer_id=transfer_id)


def _credit(tx: Tx, account_id: str, units: int) -> None:
    if tx.tally(CREDIT, account_id, units=units) != 1:
        raise AccountNotFound(account_id=account_id)


def _refusal(tx: Tx, account_id: str, units: int) -> InsufficientFunds | AccountNotFound:
    row = tx.one(SELECT_ACCOUNT, key=account_id)
    if row is None:
        return AccountNotFound(account_id=account_id)
    return insufficient(units, Balance(row.id, row.balance_units, row.held_units))


def insufficient(needed_units: int, has: Balance) -> InsufficientFunds:
    """The refusal, with all its numbers."""
    return InsufficientFunds(
        needed_units=needed_units,
        available_units=has.available_units,
        balance_units=has.balance_units,
        held_units=has.held_units,
    )
