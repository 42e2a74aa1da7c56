"""Top-ups: asked for by their account, and what an operator settles by hand."""

from __future__ import annotations

from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.bitcoin.addresses import Place
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AccountOwes,
    ExchangeBlind,
    ExchangeOff,
    InvalidRequest,
    NoAmountFree,
    TooManyTopups,
)
from aitbc.coordinator.exchange import outputs, topups, watch
from aitbc.coordinator.exchange.terms import MIN_SAT, UNPAID_A_DAY, Terms, spread
from aitbc.coordinator.exchange.topups import NUMBERS, TopupRow
from aitbc.coordinator.exchange.watch import WatchRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.bitcoin import format_btc, sat_for, units_of
from aitbc.core.ids import new_id
from aitbc.core.money import MAX_UNITS, format_ait

DAY_MS = 86_400_000


class Wanted(NamedTuple):
    """What is asked for: base units of AIT, or satoshi; the other is None."""

    units: int | None
    sat: int | None


def create(tx: Tx, terms: Terms, principal: Principal, wanted: Wanted) -> str:
    """A top-up with an address, or an amount, of its own and today's rate, locked; its id.

    Raises InvalidRequest, ExchangeOff, ExchangeBlind, AccountOwes, TooManyTopups, NoAmountFree.
    """
    seen = _watched(tx, terms)
    sat = _sat(terms, wanted)
    if owed := outputs.owed_by(tx, principal.account_id):
        has = ledger.balance(tx, principal.account_id)
        raise AccountOwes(owed_units=owed, available_units=has.available_units)
    number = topups.take_index(tx, NUMBERS)  # from here on one after the other
    _check_room(tx, terms, principal.account_id)
    place, key_id = _place(tx, terms)
    told_by = 0
    if place.index < 0:
        script = place.script.hex()
        free = topups.free_amount(tx, script, sat, min(terms.max_sat, sat + spread(sat)))
        if free is None:
            raise NoAmountFree()
        sat = told_by = free
    row = TopupRow(
        id=new_id(tx.now_ms),
        number=number,
        account_id=principal.account_id,
        state="pending",
        exception="none",
        ait_units=units_of(sat, terms.rate_units) if wanted.units is None else wanted.units,
        sat=sat,
        rate_units=terms.rate_units,
        address=place.address,
        script=place.script.hex(),
        told_by_sat=told_by,
        key_id=key_id,
        key_index=place.index,
        lock_over=0,
        expires_at_ms=tx.now_ms + terms.lock_ms,
        looked_height=seen.height,
        asked_ms=0,
        created_at_ms=tx.now_ms,
        updated_at_ms=tx.now_ms,
    )
    if not topups.add(tx, row):
        raise NoAmountFree()
    return row.id


def assign(tx: Tx, output: str, topup_id: str) -> None:
    """An operator says whose an output is that told no top-up; it is credited like one that came late.

    Raises InvalidRequest where it is not such an output, or there is no such top-up.
    """
    row, topup = outputs.get(tx, output), topups.get(tx, topup_id)
    if row is None or row.topup_id or row.gone:
        raise InvalidRequest("There is no output of this name that waits to be assigned.", field="outpoint")
    if topup is None:
        raise InvalidRequest("There is no such top-up.", field="topup")
    if topup.script != row.script:
        raise InvalidRequest("That top-up has another address than the output pays.", field="topup")
    if not outputs.assign(tx, output, topup_id):
        raise InvalidRequest("Somebody else has just assigned it.", field="outpoint")


def forgive(tx: Tx, output: str) -> None:
    """An operator lets be what a reversal could not take back. Raises InvalidRequest where nothing is owed."""
    if not outputs.forgive(tx, output):
        raise InvalidRequest("Nothing is owed for an output of this name.", field="outpoint")


def _watched(tx: Tx, terms: Terms) -> WatchRow:
    """The watch, if what is paid now would be seen. Raises ExchangeOff, ExchangeBlind."""
    if not terms.pays_to:
        raise ExchangeOff(reason="it has no address to be paid at.")
    if not terms.watched:
        raise ExchangeOff(reason="nothing watches the Bitcoin chain for it.")
    found = watch.get(tx)
    if found is None:
        raise ExchangeOff(reason="it has not seen the Bitcoin chain yet.")
    age_ms = tx.now_ms - found.whole_ms
    if age_ms > terms.stale_ms:
        raise ExchangeBlind(age_s=age_ms // 1000)
    return found


def _sat(terms: Terms, wanted: Wanted) -> int:
    if wanted.units is not None:
        sat = sat_for(wanted.units, terms.rate_units)
        least = format_ait(units_of(MIN_SAT, terms.rate_units))
        most = format_ait(units_of(terms.max_sat, terms.rate_units))
        field, allowed = "amount", f"{least} to {most} AIT"
        fits = 0 < wanted.units <= MAX_UNITS
    else:
        sat = wanted.sat or 0
        field, allowed = "btc_amount", f"{format_btc(MIN_SAT)} to {format_btc(terms.max_sat)} BTC"
        fits = True
    if not fits or not MIN_SAT <= sat <= terms.max_sat:
        raise InvalidRequest(
            f"A Bitcoin payment is of {allowed} now.",
            fields=[{"field": field, "message": f"must be {allowed}"}],
        )
    return sat


def _check_room(tx: Tx, terms: Terms, account_id: str) -> None:
    """Raises TooManyTopups: what was never paid is watched for good, so there is a bound to it."""
    waiting, unpaid = topups.waiting(tx, account_id, tx.now_ms - max(DAY_MS, terms.lock_ms))
    if waiting >= terms.max_open or unpaid >= UNPAID_A_DAY * terms.max_open:
        raise TooManyTopups(
            open=waiting, max_open=terms.max_open, unpaid=unpaid, max_unpaid=UNPAID_A_DAY * terms.max_open
        )


def _place(tx: Tx, terms: Terms) -> tuple[Place, str]:
    """Where to pay, and the key that it is from ('' for the one address)."""
    if terms.receiving is not None:
        key_id = terms.receiving.key_id
        return terms.receiving.place(topups.take_index(tx, key_id)), key_id
    if terms.named is None:
        raise ExchangeOff(reason="it has no address to be paid at.")
    return terms.named, ""
