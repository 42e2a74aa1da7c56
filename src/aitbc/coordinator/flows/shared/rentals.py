"""How a booking of a GPU begins, is counted and ends: shared by who books and releases, and by the clock.

What is billed is read off the machine's heartbeats alone: the sum of the gaps between heartbeats, one after the other
and both within the booked time, that are no longer than the grace. So an owner that goes offline stops the clock, and
time in which no coordinator ran (that could have heard anybody) costs nobody anything.

Rows are locked in this order: the GPU, its booking, accounts, the miner.
"""

from typing import Any

from sqlalchemy import and_, bindparam, case, literal_column, update
from sqlalchemy import text as sql

from aitbc.coordinator.api_keys import service as api_keys
from aitbc.coordinator.chain import counters
from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import BookingEnded, BookingNotBegun
from aitbc.coordinator.flows.shared import holds
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.marketplace import bookings, gpus
from aitbc.coordinator.marketplace.models import OPEN, Booking
from aitbc.coordinator.marketplace.rows import BookingRow
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.models import Miner, Provider
from aitbc.coordinator.miners.rows import MinerRow
from aitbc.core.log.leaf import BOOKING, booking_leaf
from aitbc.core.money import fee_units
from aitbc.core.rental import rent_units
from aitbc.core.transfer_ids import BOOKED, stored_id

MOMENT_MS = 1
"""What a booker has used at least that releases a machine which was heard of: jobs may have run between two heartbeats,
and so its first minute has begun."""
UPTIME = counters.RAN
"""The counter of the time (ms) in which coordinators ran; its mark is when that was last added to."""

_b: Any = table_of(Booking).c
_m: Any = table_of(Miner).c
_p: Any = table_of(Provider).c
_heard = case((_m.last_heartbeat_ms < _b.end_ms, _m.last_heartbeat_ms), else_=_b.end_ms)
_counts = and_(_b.counted_until_ms > 0, _m.last_heartbeat_ms - _b.counted_until_ms <= bindparam("grace"))


def _counting(*which: Any) -> Any:
    """Takes in what was heard of booked machines since the last look. Who drains, or may have no work, takes none: it
    counts as away."""
    return statement(
        update(Booking)
        .where(
            sql(OPEN),
            *which,
            _m.id == _b.miner_id,
            _m.account_id == _b.owner_id,
            _m.status == literal_column("'active'"),
            _p.account_id == _m.account_id,
            standing.ADMITTED,
            _m.last_heartbeat_ms > _b.start_ms,
            _heard > _b.counted_until_ms,
            # The first that counts is one within the time.
            (_b.counted_until_ms > 0) | (_m.last_heartbeat_ms < _b.end_ms),
        )
        .values(
            used_ms=_b.used_ms + case((_counts, _heard - _b.counted_until_ms), else_=0),
            counted_until_ms=_heard,
            detail=literal_column("'running'"),
        )
    )


COUNT_ALL = _counting()
COUNT_ONE = _counting(_b.id == bindparam("booking"))
RESERVE = statement(
    update(Miner)
    .where(_m.id == bindparam("miner"), _m.account_id == bindparam("owner"))
    .values(reservation=bindparam("booking"))
)
FREE = statement(
    update(Miner)
    .where(_m.id == bindparam("miner"), _m.reservation == bindparam("booking"))
    .values(reservation=literal_column("''"))
)


def hold_of(booking: BookingRow) -> Hold:
    """What is held of the booker."""
    return Hold(
        stored_id(booking.hold_id),
        booking.booker_id,
        booking.held_units,
        BOOKED.of(booking.id),
        booking.key_id,
        booking.spend_period_ms,
    )


def uptime_ms(tx: Tx) -> int:
    """How long coordinators ran on this database, all told, as far as it was counted."""
    return counters.read(tx, UPTIME).value


def count_uptime(tx: Tx, ctx: FlowContext) -> None:
    """Adds the time since it was last counted, unless so much has passed that nobody can have run (or the clock
    jumped). Of several coordinators that count at once one does."""
    before = counters.read(tx, UPTIME)
    passed_ms = tx.now_ms - int(before.mark) if before.mark else 0
    if before.mark and -ctx.grace_ms <= passed_ms <= 0:
        return  # another coordinator's clock is ahead: setting the mark back would count that time again
    ran_ms = passed_ms if 0 < passed_ms <= ctx.grace_ms else 0
    counters.advance(tx, UPTIME, before, ran_ms, str(tx.now_ms))


def count_all(tx: Tx, ctx: FlowContext) -> int:
    """Counts the time of all open bookings; how many moved on."""
    return tx.run(COUNT_ALL, grace=ctx.grace_ms, only_approved=int(ctx.only_approved))


def miner_here(tx: Tx, ctx: FlowContext, owner_id: str, miner_id: str) -> MinerRow | None:
    """The owner's miner, if it is registered, active and may have work."""
    miner = miners.get(tx, miner_id) if miner_id else None
    if miner is None or miner.account_id != owner_id or miner.status != "active":
        return None
    return miner if standing.admitted(miner, ctx.only_approved) else None


def begin(tx: Tx, booking: BookingRow) -> bool:
    """The booking's time has come: from now on its miner gets its jobs alone. False where it has to wait for the end
    of the one before it, or has ended."""
    if not gpus.begin(tx, booking.gpu_id, booking.id):
        return False
    if not bookings.open_one(tx, booking.id, uptime_ms(tx)):
        raise BookingEnded()
    tx.run(RESERVE, miner=booking.miner_id, owner=booking.owner_id, booking=booking.id)
    tx.signal(("miner", booking.miner_id))
    return True


def live(tx: Tx, booking_id: str) -> BookingRow:
    """The booking in its time, kept from ending until this transaction has. Raises BookingEnded, BookingNotBegun."""
    booking = bookings.share(tx, booking_id)
    if booking is None or booking.state != "active" or booking.end_ms <= tx.now_ms:
        raise BookingEnded()
    if booking.start_ms > tx.now_ms:
        raise BookingNotBegun(start=booking.start_ms)
    return booking


def settle(tx: Tx, ctx: FlowContext, booking_id: str, by: str) -> BookingRow:
    """Ends the booking now: its price is paid for the time that was used, the rest goes back, and so does the GPU.

    `by`: who ends it (of ENDERS); the coordinator ends only what has run out or was never heard of, and leaves the rest
    as it is. Raises BookingEnded where it has ended.
    """
    found = bookings.get(tx, booking_id)
    if found is None:
        raise BookingEnded()
    gpu = gpus.locked(tx, found.gpu_id)
    tx.run(COUNT_ONE, booking=booking_id, grace=ctx.grace_ms, only_approved=int(ctx.only_approved))
    booking = bookings.lock(tx, booking_id)
    if booking is None or booking.state != "active":
        raise BookingEnded()
    if by == "coordinator" and booking.counted_until_ms and booking.end_ms > tx.now_ms:
        return booking  # it was heard of meanwhile
    if by == "booker" and booking.counted_until_ms and not booking.used_ms:
        booking = booking._replace(used_ms=MOMENT_MS)
    ran_ms = min(uptime_ms(tx) - booking.up_ms, booking.end_ms - booking.start_ms) if booking.opened else 0
    detail = _outcome(ctx, booking, by, ran_ms)
    price = due_units(booking)
    fee = fee_units(price, booking.fee_bps)
    held = hold_of(booking)
    transfer_id = holds.pay(tx, held, booking.owner_id, price, fee) if price else holds.give_back(tx, held)
    if not bookings.end(tx, booking, detail, by, price_units=price, fee_units=fee, transfer_id=transfer_id):
        raise BookingEnded()
    # Not to show up is no cheaper than to say so before.
    all_of_it = by == "owner" or detail == "no_show"
    promised = booking.end_ms - booking.start_ms if all_of_it else ran_ms
    promised = max(promised, booking.used_ms)
    gpus.set_served(tx, gpu, promised, booking.used_ms)
    standing.kept(tx, booking.miner_id, booking.owner_id, promised_ms=promised, served_ms=booking.used_ms)
    here = miner_here(tx, ctx, gpu.owner_id, gpu.miner_id) is not None
    gpus.end(tx, gpu.id, booking.id, here=here)
    if booking.opened:
        tx.run(FREE, miner=booking.miner_id, booking=booking.id)
        tx.signal(("miner", booking.miner_id))
    api_keys.revoke_key(tx, booking.grant_key_id)
    ended = bookings.get(tx, booking_id)
    if ended is None:
        raise BookingEnded()
    chain.append(tx, BOOKING, booking_id, booking_leaf(*leaf_values(ended)))
    return ended


def due_units(booking: BookingRow) -> int:
    """What the time that was used so far costs; never more than is held."""
    return min(rent_units(booking.used_ms, booking.hour_units), booking.held_units)


def _outcome(ctx: FlowContext, booking: BookingRow, by: str, ran_ms: int) -> str:
    """How the booking ends. Whose machine was never there did not show up, if coordinators ran to hear it."""
    if booking.counted_until_ms:
        return "ran_out" if by == "coordinator" else "released"
    patience_ms = min(ctx.no_show_ms, booking.end_ms - booking.start_ms)
    return "no_show" if by == "coordinator" and ran_ms >= patience_ms else "cancelled"


LEAF_COLUMNS = (
    "id",
    "gpu_id",
    "miner_id",
    "booker_id",
    "owner_id",
    "start_ms",
    "end_ms",
    "hour_units",
    "fee_bps",
    "hold_id",
    "held_units",
    "used_ms",
    "price_units",
    "fee_units",
    "transfer_id",
    "detail",
    "ended_by",
    "ended_at_ms",
)
"""What the leaf of a booking that has ended says, in the order of `core.log.leaf.booking_leaf`."""


def leaf_values(booking: BookingRow) -> tuple[Any, ...]:
    return tuple(getattr(booking, name) for name in LEAF_COLUMNS)
