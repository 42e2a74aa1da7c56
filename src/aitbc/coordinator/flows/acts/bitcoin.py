"""What a look at the Bitcoin chain changes: outputs, states, credits and reversals, all in one transaction.

Whose look moved the watch first counts; another's, of the same moment, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from aitbc.coordinator.bitcoin.source import BlockRef, Look, Seen, SourceError
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import InsufficientFunds
from aitbc.coordinator.exchange import outputs, topups, watch
from aitbc.coordinator.exchange.looking import Plan
from aitbc.coordinator.exchange.outputs import Credit, OutputRow
from aitbc.coordinator.exchange.states import FINAL_DEPTH, Decision, Output, decide
from aitbc.coordinator.exchange.terms import Terms
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import MINT
from aitbc.core.bitcoin import CREDITED, REVERSED, outpoint, units_of
from aitbc.core.money import MAX_UNITS
from aitbc.core.transfer_ids import TOPUP

log = structlog.get_logger(__name__)

MOST_BOOKED = 200
"""Credits and reversals of one transaction: others wait while it runs."""
TRIES = 3


class Recorded(NamedTuple):
    """What a look came to. `moved` False: another coordinator was first. `more`: another round has work at once."""

    moved: bool
    more: bool = False
    credits: int = 0
    reversals: int = 0


def record(tx: Tx, terms: Terms, plan: Plan, look: Look) -> Recorded:
    """Takes over a look that `looking.check` has found sound. Raises SourceError where it contradicts what is known."""
    head = plan.head(look)
    if not watch.move(tx, plan.watch, _moved(terms, plan, look, head)):
        return Recorded(False)
    if plan.reorganised:
        outputs.unplace_above(tx, plan.common.height)
        topups.look_again(tx, plan.common.height)
    watch.forget(tx, plan.common.height, head.height)
    watch.remember(tx, [block for block in look.blocks if block.height > plan.common.height])
    seen = _take(tx, look)
    crowded = {script.hex() for script in look.crowded}
    if look.whole:
        topups.end_locks(tx, plan.began_ms, None if plan.scripts is None else sorted(plan.scripts - crowded))
        topups.free_amounts(tx)
        if plan.scripts is not None:
            topups.looked_at(tx, sorted(plan.scripts), look.upto.height)
    found = outputs.still_open(tx)
    if look.whole:
        found = _gone(tx, plan, found, seen, crowded)
    return _settle(tx, terms, plan, head.height, found)


def _moved(terms: Terms, plan: Plan, look: Look, head: BlockRef) -> watch.WatchRow:
    before = plan.watch
    everything = plan.scripts is None
    # Of the address for all, what is new has to be seen: on others only those who crowd them lose by it.
    clear = look.whole and (terms.named is None or terms.named.script not in look.crowded)
    return before._replace(
        height=head.height,
        hash=head.hash,
        scanned_height=look.upto.height if everything else min(before.scanned_height, plan.common.height),
        scanned_number=plan.number if everything else before.scanned_number,
        whole_ms=plan.began_ms if clear else before.whole_ms,
    )


def _take(tx: Tx, look: Look) -> set[str]:
    """Writes what is seen and was not known, or is elsewhere now; the outpoints of all that is seen."""
    seen = {outpoint(one.txid, one.vout): one for one in look.seen if one.sat > 0}
    known = outputs.many(tx, seen)
    new = [one for name, one in seen.items() if name not in known]
    for one, topup in zip(new, _whose(tx, new), strict=True):
        outputs.add(tx, one, "" if topup is None else topup.id, topup is not None and topup.lock_over == 1)
    for name, row in known.items():
        one = seen[name]
        if (row.script, row.sat) != (one.script.hex(), one.sat):
            raise SourceError("an output is not what it was when it was first seen")
        place = (-1, "") if one.block is None else (one.block.height, one.block.hash)
        if place == (row.height, row.hash) and not row.gone:
            continue
        if row.height >= 0:
            raise SourceError("an output is in another block than before, and both are in the chain")
        outputs.place(tx, name, one)
    return set(seen)


def _whose(tx: Tx, new: list[Seen]) -> list[TopupRow | None]:
    """The top-up that each output pays: on the common address by its amount, else by its address.

    In this order, for the address that an operator named first may be one of the key that he gave later.
    """
    own = topups.with_scripts(tx, {one.script.hex() for one in new}) if new else {}
    return [topups.told_by(tx, one.script.hex(), one.sat) or own.get(one.script.hex()) for one in new]


def _gone(tx: Tx, plan: Plan, found: list[OutputRow], seen: set[str], crowded: set[str]) -> list[OutputRow]:
    """What is in no block, was looked for and was not there."""
    gone = {
        row.id
        for row in found
        if row.height < 0
        and not row.gone
        and row.id not in seen
        and plan.asked_for(row.script)
        and row.script not in crowded
    }
    outputs.are_gone(tx, gone)
    return [row._replace(gone=1) if row.id in gone else row for row in found]


class _Case(NamedTuple):
    """A top-up, all its outputs, and what is decided about them."""

    topup: TopupRow
    own: dict[str, OutputRow]
    decision: Decision


def _settle(tx: Tx, terms: Terms, plan: Plan, tip_height: int, found: list[OutputRow]) -> Recorded:
    """Decides about every top-up of which an output is open, and books it: as many as one transaction may.

    Credits come first, so that reversals find all that is there.
    """
    cases, more = _booked_now(_cases(tx, terms, plan, tip_height, found))
    cases = [case for case in cases if _credit_all(tx, terms, case)]
    final = [row.id for row in found if not row.topup_id and (row.gone or _deep(row, tip_height))]
    for topup, own, decision in cases:
        for name in decision.reverse:
            _reverse(tx, topup, own[name])
        if (decision.state, decision.exception) != (topup.state, topup.exception):
            topups.move(tx, topup, decision.state, decision.exception)
        final += [name for name in decision.final if not own[name].final]
    outputs.are_final(tx, final)
    credited = sum(len(case.decision.credit) for case in cases)
    return Recorded(True, more, credited, sum(len(case.decision.reverse) for case in cases))


def _cases(tx: Tx, terms: Terms, plan: Plan, tip_height: int, found: list[OutputRow]) -> list[_Case]:
    by_topup = _whole(tx, found)
    rows = topups.many(tx, by_topup)
    needed = terms.needed
    cases = []
    for topup_id, own in by_topup.items():
        topup = rows[topup_id]
        facts = [_fact(terms, plan, topup, row) for row in own]
        decision = decide(topup.sat, topup.lock_over == 1, facts, tip_height, needed)
        cases.append(_Case(topup, {row.id: row for row in own}, decision))
    return cases


def _booked_now(cases: list[_Case]) -> tuple[list[_Case], bool]:
    """Those that move no money, and of the others as many as one transaction takes; whether some are left."""
    now, booked, more = [], 0, False
    for case in cases:
        moves = len(case.decision.credit) + len(case.decision.reverse)
        if moves and booked >= MOST_BOOKED:
            more = True
            continue
        booked += moves
        now.append(case)
    return now, more


def _whole(tx: Tx, found: Iterable[OutputRow]) -> dict[str, list[OutputRow]]:
    """By top-up, all its outputs, those included about which nothing is open any more."""
    now = {row.id: row for row in found if row.topup_id}
    by_topup: dict[str, list[OutputRow]] = defaultdict(list)
    for row in outputs.of_topups(tx, {row.topup_id for row in now.values()}) if now else ():
        by_topup[row.topup_id].append(now.get(row.id, row))
    return by_topup


def _fact(terms: Terms, plan: Plan, topup: TopupRow, row: OutputRow) -> Output:
    too_large = not terms.is_creditable(row.sat, _rate(terms, topup, row))
    return row.fact(too_large, plan.asked_for(row.script))


def _rate(terms: Terms, topup: TopupRow, row: OutputRow) -> int:
    """What an output is credited at: as before, as was locked, or, where it came late, as it is now."""
    return row.rate_units or (terms.rate_units if row.late else topup.rate_units)


def _deep(row: OutputRow, tip_height: int) -> bool:
    return row.height >= 0 and tip_height - row.height + 1 >= FINAL_DEPTH


def _credit_all(tx: Tx, terms: Terms, case: _Case) -> bool:
    """Credits what is deep enough. False, with nothing changed, where the account would have more than can be said."""
    topup, own, decision = case
    rates = {name: _rate(terms, topup, own[name]) for name in decision.credit}
    total = sum(units_of(own[name].sat, rate) - own[name].credited_units for name, rate in rates.items())
    if total and ledger.balance(tx, topup.account_id).balance_units + total > MAX_UNITS:
        log.error("bitcoin_not_credited", topup=topup.id, reason="the account would have too much to say")
        return False
    for name, rate in rates.items():
        _credit(tx, topup, own[name], rate)
    return True


def _credit(tx: Tx, topup: TopupRow, row: OutputRow, rate_units: int) -> None:
    """What the output is worth, less what is still with the account from a credit that was taken back in part."""
    whole = units_of(row.sat, rate_units)
    units = whole - row.credited_units
    made = _entry(tx, CREDITED, topup, row, rate_units, units, 0, BlockRef(row.height, row.hash))
    ledger.mint(tx, outputs.credit_id(row.id, row.events), topup.account_id, units, ref=TOPUP.of(topup.id))
    if not outputs.book(tx, row, made, whole, False):
        raise RuntimeError("an output was credited twice at once")
    log.info("bitcoin_credited", topup=topup.id, outpoint=row.id, units=units)


def _reverse(tx: Tx, topup: TopupRow, row: OutputRow) -> None:
    """Takes back what of the credit the account still has; what is missing stays written at the output."""
    last = outputs.entry(tx, row.id, row.events - 1)
    if last is None:
        raise RuntimeError("an output is credited, and has no credit")
    units = _taken(tx, topup, row)
    short = row.credited_units - units
    block = BlockRef(last.block_height, last.block_hash)
    made = _entry(tx, REVERSED, topup, row, last.rate_units, units, short, block)
    if not outputs.book(tx, row, made, short, True):
        raise RuntimeError("an output was taken back twice at once")
    log.error("bitcoin_reversed", topup=topup.id, outpoint=row.id, units=units, short_units=short)


def _taken(tx: Tx, topup: TopupRow, row: OutputRow) -> int:
    """Moves back to the mint what is available, up to the credit; how much. Spending may run beside it."""
    transfer_id = outputs.credit_id(row.id, row.events)
    for _try in range(TRIES):
        units = min(max(0, ledger.balance(tx, topup.account_id).available_units), row.credited_units)
        try:
            with tx.savepoint():
                ledger.transfer(tx, transfer_id, topup.account_id, MINT, units, ref=TOPUP.of(topup.id))
        except InsufficientFunds:
            continue
        return units
    raise SourceError(
        "an account spends what is to be taken back, faster than it can be taken; the round is tried again"
    )


def _entry(
    tx: Tx,
    kind: str,
    topup: TopupRow,
    row: OutputRow,
    rate_units: int,
    units: int,
    short_units: int,
    block: BlockRef,
) -> Credit:
    return Credit(
        id=outputs.entry_id(row.id, row.events),
        kind=kind,
        outpoint=row.id,
        topup_id=topup.id,
        account_id=topup.account_id,
        sat=row.sat,
        rate_units=rate_units,
        units=units,
        short_units=short_units,
        block_height=block.height,
        block_hash=block.hash,
        created_at_ms=tx.booked_ms,
    )
