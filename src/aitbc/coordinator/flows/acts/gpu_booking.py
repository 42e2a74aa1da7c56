"""GPUs by the hour: listed by their owners, booked by others, released by either."""

from typing import NamedTuple

from aitbc.coordinator.api_keys import service as api_keys
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import NewKey
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    BookingEnded,
    BookingNotFound,
    BookingTimeInvalid,
    Forbidden,
    GpuBooked,
    GpuInUse,
    GpuNotBooked,
    GpuNotFound,
    GpuOffline,
    MinerListed,
    OwnGpu,
    RentAboveCap,
    TooManyBookings,
    TooManyGpus,
)
from aitbc.coordinator.flows.shared import escrow, holds, rentals, rights
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.marketplace import bookings, gpus
from aitbc.coordinator.marketplace.rows import BookingRow, GpuRow, GpuSpec
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.clock import rfc3339
from aitbc.core.ids import new_id
from aitbc.core.rental import rent_units
from aitbc.core.transfer_ids import BOOKED, new_transfer_id

MAX_AHEAD_MS = 90 * 86_400_000
"""How far ahead a booking may begin."""
PAST_MS = 60_000
"""A start that is past by no more than this is now: clocks differ, and requests take time."""


class Wish(NamedTuple):
    """What a booker asks for. `start_ms` None: now; `cap_units`: the most that the whole time may cost."""

    gpu_id: str
    duration_ms: int
    start_ms: int | None = None
    cap_units: int | None = None


class Offer(NamedTuple):
    """What a booking would be: its times, and the price of the whole time."""

    gpu: GpuRow
    start_ms: int
    end_ms: int
    price_units: int


class Booked(NamedTuple):
    """A booking just made, and the key that gives access: the only time its text is seen."""

    booking: BookingRow
    gpu: GpuRow
    key: NewKey


def register(tx: Tx, ctx: FlowContext, principal: Principal, spec: GpuSpec) -> GpuRow:
    """Lists a GPU of the caller's, or changes what is said of one: that of `gpu_id`, else the one of its miner.

    Bookings that were made keep their price. Raises GpuNotFound, Forbidden and MinerNotFound (for what is another's),
    MinerListed, GpuInUse, TooManyGpus.
    """
    if spec.miner_id:
        miners.owned(tx, principal.account_id, spec.miner_id)
    named = gpus.of_miner(tx, spec.miner_id) if spec.miner_id else None
    if spec.gpu_id is None:
        known = named
    else:
        known = gpus.locked(tx, spec.gpu_id)
        if known.owner_id != principal.account_id:
            raise GpuNotFound(gpu_id=spec.gpu_id)
        if named is not None and named.id != known.id:
            raise MinerListed(miner_id=spec.miner_id, gpu_id=named.id)
    if known is None and not gpus.has_room(tx, principal.account_id):
        raise TooManyGpus(limit=gpus.MAX_GPUS)
    if known is not None:
        known = gpus.locked(tx, known.id)
        if known.miner_id != spec.miner_id and bookings.any_not_ended(tx, known.id):
            raise GpuInUse(gpu_id=known.id)
    here = rentals.miner_here(tx, ctx, principal.account_id, spec.miner_id) is not None
    return gpus.register(tx, principal.account_id, known, spec, here=here)


def quote(tx: Tx, ctx: FlowContext, principal: Principal, wish: Wish) -> Offer:
    """What the booking would cost and when it would end, if it can be made. Raises as `book` does, but for money."""
    return _offer(tx, ctx, principal, gpus.get(tx, wish.gpu_id), wish)


def book(tx: Tx, ctx: FlowContext, principal: Principal, wish: Wish) -> Booked:
    """Books the GPU: the price of the whole time is held, and nobody else has it in that time.

    Raises GpuNotFound, OwnGpu, GpuOffline, GpuBooked, BookingTimeInvalid, RentAboveCap, TooManyBookings,
    InsufficientFunds, KeyLimitExceeded.
    """
    rights.require(tx, principal)
    found = gpus.get(tx, wish.gpu_id)
    if found is not None:
        gpus.count_booking(tx, found)  # from here on nobody else books it
    gpu, start_ms, end_ms, price = _offer(tx, ctx, principal, gpus.get(tx, wish.gpu_id), wish)
    booking_id = new_id(tx.now_ms)
    made = api_keys.create_key(
        tx,
        role="client",
        account_id=principal.account_id,
        label=f"booking {booking_id}",
        expires_at_ms=end_ms,
        booking_id=booking_id,
    )
    held = holds.take(tx, principal, new_transfer_id(tx.now_ms), price, BOOKED.of(booking_id))
    bookings.add(
        tx,
        BookingRow(
            id=booking_id,
            gpu_id=gpu.id,
            miner_id=gpu.miner_id,
            booker_id=principal.account_id,
            owner_id=gpu.owner_id,
            state="active",
            detail="waiting",
            start_ms=start_ms,
            end_ms=end_ms,
            hour_units=gpu.price_units,
            fee_bps=parameters.get(tx, "fee_bps"),
            hold_id=held.id,
            held_units=held.units,
            key_id=held.key_id,
            spend_period_ms=held.period_ms,
            grant_key_id=made.key_id,
            opened=0,
            up_ms=0,
            counted_until_ms=0,
            used_ms=0,
            price_units=0,
            fee_units=0,
            transfer_id="",
            ended_by="",
            ended_at_ms=None,
            clearing=0,
            created_at_ms=tx.booked_ms,  # that of its hold
            model_key=gpu.model_key,
        ),
    )
    if start_ms <= tx.now_ms:
        rentals.begin(tx, _again(tx, booking_id))
    return Booked(_again(tx, booking_id), gpus.locked(tx, gpu.id), made)


def release(
    tx: Tx, ctx: FlowContext, principal: Principal, gpu_id: str, booking_id: str | None = None
) -> BookingRow:
    """Ends a booking of the GPU now: the one that is named, else the caller's next, or for its owner the one that has
    it now.

    Raises GpuNotFound, BookingNotFound, GpuNotBooked, BookingEnded, and Forbidden for who has nothing to do with it.
    """
    gpu = gpus.locked(tx, gpu_id)
    booking = _to_release(tx, principal, gpu, booking_id)
    if booking.booker_id == principal.account_id:
        by = "booker"
    elif booking.owner_id == principal.account_id:
        by = "owner"
    elif principal.is_admin:
        by = "admin"
    else:
        raise Forbidden("Only its booker or the GPU's owner may release it.")
    return rentals.settle(tx, ctx, booking.id, by)


def new_access(tx: Tx, principal: Principal, booking_id: str) -> tuple[NewKey, BookingRow]:
    """A new key in the place of the booking's, which ends: for a booker who lost it.

    Raises BookingNotFound, BookingEnded.
    """
    booking = bookings.lock(tx, booking_id)
    if booking is None or booking.booker_id != principal.account_id:
        raise BookingNotFound(booking_id=booking_id)
    if booking.state != "active" or booking.end_ms <= tx.now_ms:
        raise BookingEnded()
    api_keys.forget_keys(tx, [booking.grant_key_id])  # else each would leave a row
    made = api_keys.create_key(
        tx,
        role="client",
        account_id=booking.booker_id,
        label=f"booking {booking_id}",
        expires_at_ms=booking.end_ms,
        booking_id=booking_id,
    )
    if not bookings.set_grant(tx, booking_id, made.key_id):
        raise BookingEnded()
    return made, booking


def _offer(tx: Tx, ctx: FlowContext, principal: Principal, gpu: GpuRow | None, wish: Wish) -> Offer:
    if gpu is None:
        raise GpuNotFound(gpu_id=wish.gpu_id)
    start_ms = _start_ms(tx, wish)
    _check_duration(ctx, wish.duration_ms)
    end_ms = start_ms + wish.duration_ms
    if gpu.owner_id == principal.account_id:
        raise OwnGpu(gpu_id=gpu.id)
    if not gpu.miner_id:
        raise GpuOffline(gpu_id=gpu.id, reason="no miner is registered for it.")
    if rentals.miner_here(tx, ctx, gpu.owner_id, gpu.miner_id) is None:
        raise GpuOffline(gpu_id=gpu.id, reason="its miner is not here.")
    other = bookings.overlapping(tx, gpu.id, start_ms, end_ms)
    if other is not None:
        times = {"busy_from": rfc3339(other.start_ms), "busy_until": rfc3339(other.end_ms)}
        raise GpuBooked(gpu_id=gpu.id, **times)
    price = rent_units(wish.duration_ms, gpu.price_units)
    if wish.cap_units is not None and price > wish.cap_units:
        raise RentAboveCap(price_units=price, cap_units=wish.cap_units)
    escrow.check_exact(price)
    if bookings.active_of(tx, principal.account_id) >= bookings.MAX_ACTIVE:
        raise TooManyBookings(limit=bookings.MAX_ACTIVE, of="that have not ended")
    if bookings.made_today(tx, principal.account_id) >= bookings.MAX_A_DAY:
        raise TooManyBookings(limit=bookings.MAX_A_DAY, of="in 24 hours")
    return Offer(gpu, start_ms, end_ms, price)


def _start_ms(tx: Tx, wish: Wish) -> int:
    if wish.start_ms is None:
        return tx.now_ms
    if wish.start_ms < tx.now_ms - PAST_MS:
        raise _invalid("start_time", "is in the past")
    if wish.start_ms > tx.now_ms + MAX_AHEAD_MS:
        raise _invalid("start_time", f"is more than {MAX_AHEAD_MS // 86_400_000} days ahead")
    return max(tx.now_ms, wish.start_ms)


def _check_duration(ctx: FlowContext, duration_ms: int) -> None:
    low, high = ctx.min_booking_ms, ctx.max_booking_ms
    if not low <= duration_ms <= high:
        raise _invalid("duration_hours", f"is {low / 3_600_000:g} to {high / 3_600_000:g} here")


def _invalid(field: str, says: str) -> BookingTimeInvalid:
    return BookingTimeInvalid(f"{field} {says}.", fields=[{"field": field, "message": says}])


def _to_release(tx: Tx, principal: Principal, gpu: GpuRow, booking_id: str | None) -> BookingRow:
    if booking_id is not None:
        named = bookings.get(tx, booking_id)
        if named is None or named.gpu_id != gpu.id:
            raise BookingNotFound(booking_id=booking_id)
        return named
    own = bookings.of_booker(tx, gpu.id, principal.account_id)
    if own is not None:
        return own
    if gpu.owner_id == principal.account_id or principal.is_admin:
        current = bookings.get(tx, gpu.booking_id)
        if current is None:
            raise GpuNotBooked(gpu_id=gpu.id)
        return current
    if bookings.ever_booked(tx, gpu.id, principal.account_id):
        raise BookingEnded()
    raise Forbidden("Only its booker or the GPU's owner may release it.")


def _again(tx: Tx, booking_id: str) -> BookingRow:
    booking = bookings.get(tx, booking_id)
    if booking is None:
        raise BookingNotFound(booking_id=booking_id)
    return booking
