"""How far a miner is trusted: leases that grow with its answers, and pauses that grow with its failures.

Leases are counted for an account, over all its miners, so that a stranger gains nothing by many ids; pauses are
a miner's own, until so many of an account's miners fail in a row that all of them pause.
"""

from typing import Any, Protocol

from sqlalchemy import bindparam, case, delete, literal_column, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.miners.models import Miner, MinerFailure, Provider
from aitbc.coordinator.miners.rows import MinerRow

START_LEASES = 8
"""What all miners of a new account hold at most at once."""

MAX_LEASES = 4096
PROVEN_LEASES = 32
"""From this allowance on a miner has proven itself: its word ends a job, and it is no newcomer any more."""

FIRST_PAUSE_MS = 1_000
MAX_PAUSE_MS = 60_000
ACCOUNT_STRIKES = 8
"""Failures in a row, over all its miners, that an account may have before it pauses as a whole."""

MEMORY = 256
"""Answers after which the older half of what a miner did is forgotten."""

MOST_FAILED = 64

_miners: Any = table_of(Miner)
_providers: Any = table_of(Provider)
_m = _miners.c
_p = _providers.c
_count: Any = bindparam("count")
_own = _p.account_id == bindparam("account")

NEW: dict[str, Any] = {
    "strikes": 0,
    "paused_until_ms": 0,
    "delivered": 0,
    "failed": 0,
    "run_ms": 0,
    "units": 0,
    "deposit_hold_id": "",
    "deposit_units": 0,
    "reservation": "",
    "up_ms": 0,
    "away_ms": 0,
    "lapsed_at_ms": 0,
    "promised_ms": 0,
    "served_ms": 0,
}
"""A miner's columns of this module when it registers for the first time."""

OPEN_PROVIDER = insert_into(Provider, on_conflict_ignore=True)
SELECT_PROVIDER = statement(select(_providers).where(_own))
SELECT_PROVIDERS = statement(
    select(_providers)
    .where(_p.account_id > bindparam("after"))
    .order_by(_p.account_id)
    .limit(bindparam("count"))
)
SET_APPROVAL = statement(update(_providers).where(_own).values(approval=bindparam("how")))
ADMITTED = (_p.approval == literal_column("'approved'")) | (
    (_p.approval == literal_column("'none'")) & (bindparam("only_approved") == 0)
)
"""SQL of `admitted`: that an account of `providers` may get work at all."""
SELECT_STRIKES = statement(select(_m.strikes, _m.failed).where(_m.id == bindparam("miner")))
SET_STRIKES = statement(
    update(_miners)
    .where(_m.id == bindparam("miner"))
    .values(strikes=bindparam("count"), failed=bindparam("failures"), paused_until_ms=bindparam("until"))
)
SET_ALLOWANCE = statement(
    update(_providers)
    .where(_own)
    .values(allowance=bindparam("leases"), strikes=bindparam("count"), paused_until_ms=bindparam("until"))
)

KEPT = statement(
    update(_miners)
    .where(_m.id == bindparam("miner"), _m.account_id == bindparam("owner"))
    .values(
        promised_ms=_m.promised_ms + bindparam("promised"),
        served_ms=_m.served_ms + bindparam("served"),
    )
)
_f: Any = table_of(MinerFailure).c
_of_cause = (_f.miner_id == bindparam("miner"), _f.cause == bindparam("why"))
START_FAILURES = insert_into(MinerFailure, on_conflict_ignore=True)
COUNT_FAILURE = statement(update(MinerFailure).where(*_of_cause).values(count=_f.count + 1))
TAKE_BACK_FAILURE = statement(
    update(MinerFailure).where(*_of_cause, _f.count > literal_column("0")).values(count=_f.count - 1)
)
FAILURES = statement(
    select(_f.cause, _f.count)
    .where(_f.miner_id == bindparam("miner"), _f.count > literal_column("0"))
    .order_by(_f.cause)
)
FORGET_FAILURES = statement(delete(MinerFailure).where(_f.miner_id == bindparam("miner")))

KEEP_DEPOSIT = statement(
    update(_miners)
    .where(_m.id == bindparam("miner"))
    .values(deposit_hold_id=bindparam("hold"), deposit_units=bindparam("held"))
)


def _sum(column: Any, more: Any) -> Any:
    """The column with `more`, halved where the miner's answers reach MEMORY."""
    return case((_m.delivered + _count >= MEMORY, (column + more) // 2), else_=column + more)


DELIVERED = statement(
    update(_miners)
    .where(_m.id == bindparam("key"))
    .values(
        delivered=_sum(_m.delivered, _count),
        failed=case((_m.delivered + _count >= MEMORY, _m.failed // 2), else_=_m.failed),
        run_ms=_sum(_m.run_ms, bindparam("ran")),
        units=_sum(_m.units, bindparam("tokens")),
        strikes=0,
        paused_until_ms=0,
    )
)
EARNED = statement(
    update(_providers)
    .where(_p.account_id == bindparam("key"))
    .values(
        allowance=case((_p.allowance + _count > MAX_LEASES, MAX_LEASES), else_=_p.allowance + _count),
        delivered=_p.delivered + _count,
        strikes=literal_column("0"),
        paused_until_ms=literal_column("0"),
    )
)


class Approved(Protocol):
    """A miner, as far as its account's approval goes."""

    @property
    def approval(self) -> str: ...


class Trusted(Approved, Protocol):
    """A miner, as far as how much work it may get goes."""

    @property
    def allowance(self) -> int: ...
    @property
    def paused_until_ms(self) -> int: ...
    @property
    def account_paused_until_ms(self) -> int: ...


def open_provider(tx: Tx, account_id: str) -> None:
    """Makes sure that the account's row is there."""
    tx.run(
        OPEN_PROVIDER,
        account_id=account_id,
        approval="none",
        allowance=START_LEASES,
        delivered=0,
        strikes=0,
        paused_until_ms=0,
    )


def provider(tx: Tx, account_id: str) -> Any:
    """The account's row; None for one that never had a miner nor was approved."""
    return tx.one(SELECT_PROVIDER, account=account_id)


def providers(tx: Tx, after: str, count: int) -> list[Any]:
    """Rows of accounts in the order of their names, those after `after`."""
    return tx.all(SELECT_PROVIDERS, after=after, count=count)


def set_approval(tx: Tx, account_id: str, approval: str) -> None:
    """The operator's word on an account, also before its first miner registers."""
    open_provider(tx, account_id)
    tx.run(SET_APPROVAL, account=account_id, how=approval)


def is_proven(miner: Trusted) -> bool:
    """Whether it is known to deliver, or vouched for by the operator."""
    return miner.approval == "approved" or (miner.approval == "none" and miner.allowance >= PROVEN_LEASES)


def admitted(miner: Approved, only_approved: bool) -> bool:
    """Whether its account may get work at all."""
    return miner.approval == "approved" or (miner.approval == "none" and not only_approved)


def paused_until_ms(miner: Trusted, now_ms: int) -> int:
    """When its pause ends; 0 where it does not pause. No pause is longer than MAX_PAUSE_MS, whatever the
    clock did."""
    account_ms = 0 if miner.approval == "approved" else miner.account_paused_until_ms
    until_ms = max(miner.paused_until_ms, account_ms)
    return until_ms if now_ms < until_ms <= now_ms + MAX_PAUSE_MS else 0


def lease_limit(miner: Trusted) -> int:
    """How many leases all miners of its account may hold at once."""
    return MAX_LEASES if miner.approval == "approved" else miner.allowance


def pause_ms(strikes: int) -> int:
    """How long a miner with so many failures in a row gets no work: 1 s, doubled with each, up to a minute."""
    return 0 if strikes < 1 else min(MAX_PAUSE_MS, FIRST_PAUSE_MS << min(strikes - 1, 16))


def keep_deposit(tx: Tx, miner_id: str, hold_id: str, units: int) -> None:
    """Remembers what is held for the miner; '' and 0 once it went back."""
    tx.run(KEEP_DEPOSIT, miner=miner_id, hold=hold_id, held=units)


def delivered(tx: Tx, miner: MinerRow, run_ms: int, units: int, *, for_itself: bool) -> None:
    """An answer was paid. One that the account asked of its own miner earns it no trust, and no reputation."""
    if for_itself:
        return
    tx.tally(DELIVERED, miner.id, count=1, ran=max(0, run_ms), tokens=units)
    if miner.approval == "approved":
        return
    if miner.allowance < MAX_LEASES or miner.account_strikes:
        tx.tally(EARNED, miner.account_id, count=1)


def kept(tx: Tx, miner_id: str, owner_id: str, *, promised_ms: int, served_ms: int) -> None:
    """A booking of the miner ended: so much time was promised, and so much of it kept."""
    tx.run(KEPT, miner=miner_id, owner=owner_id, promised=promised_ms, served=served_ms)


def failures(tx: Tx, miner_id: str) -> dict[str, int]:
    """How often the miner failed, all told, by cause."""
    return {row.cause: row.count for row in tx.all(FAILURES, miner=miner_id)}


def forget_failures(tx: Tx, miner_id: str) -> None:
    """The miner is taken off the books."""
    tx.run(FORGET_FAILURES, miner=miner_id)


def struck(tx: Tx, miner: MinerRow, cause: str) -> None:
    """A failure or an expired lease: the miner pauses, and its account may hold a quarter fewer leases."""
    if not tx.run(COUNT_FAILURE, miner=miner.id, why=cause):
        tx.run(START_FAILURES, miner_id=miner.id, cause=cause, count=0)
        tx.run(COUNT_FAILURE, miner=miner.id, why=cause)
    own = tx.one(SELECT_STRIKES, miner=miner.id)
    strikes = own.strikes + 1
    tx.run(
        SET_STRIKES,
        miner=miner.id,
        count=strikes,
        failures=min(MOST_FAILED, own.failed + 1),
        until=tx.now_ms + pause_ms(strikes),
    )
    row = provider(tx, miner.account_id)
    if row.approval == "approved":
        return
    strikes = row.strikes + 1
    pause = pause_ms(strikes - ACCOUNT_STRIKES)
    tx.run(
        SET_ALLOWANCE,
        account=miner.account_id,
        leases=max(1, row.allowance - max(1, row.allowance // 4)),
        count=strikes,
        until=tx.now_ms + pause if pause else 0,
    )


def forgiven(tx: Tx, miner: MinerRow, cause: str) -> None:
    """A failure of this miner turned out to be the job's: undoes one `struck`, and never more than that."""
    tx.run(TAKE_BACK_FAILURE, miner=miner.id, why=cause)
    own = tx.one(SELECT_STRIKES, miner=miner.id)
    tx.run(
        SET_STRIKES, miner=miner.id, count=max(0, own.strikes - 1), failures=max(0, own.failed - 1), until=0
    )
    row = provider(tx, miner.account_id)
    if row.approval == "approved":
        return
    known = row.allowance >= START_LEASES
    leases = row.allowance + row.allowance // 4 if known else row.allowance + 1
    tx.run(
        SET_ALLOWANCE,
        account=miner.account_id,
        leases=min(MAX_LEASES, leases),
        count=max(0, row.strikes - 1),
        until=0,
    )
