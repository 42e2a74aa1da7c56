"""A booker says how a booked GPU was: once for each booking that has ended and was used."""

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    BookingNotFound,
    BookingNotSettled,
    BookingUnused,
    ReviewFinal,
    ReviewNeedsBooking,
)
from aitbc.coordinator.flows.shared import rights
from aitbc.coordinator.marketplace import bookings, gpus, reviews
from aitbc.coordinator.marketplace.rows import BookingRow, ReviewRow
from aitbc.core.clock import rfc3339


def review(
    tx: Tx, principal: Principal, gpu_id: str, booking_id: str | None, stars: int, text: str
) -> ReviewRow:
    """Writes the review of a booking, or for a week changes it. Without a booking: of the caller's newest that has
    ended and was used.

    Raises GpuNotFound, BookingNotFound (also for another's), BookingNotSettled, BookingUnused, ReviewFinal, and
    ReviewNeedsBooking for who never booked the GPU.
    """
    rights.require(tx, principal)
    gpu = gpus.locked(tx, gpu_id)
    booking = _to_review(tx, principal, gpu_id, booking_id)
    known = reviews.of_booking(tx, booking.id)
    if known is None:
        return reviews.add(tx, gpu, booking.id, principal.account_id, stars, text)
    until_ms = known.created_at_ms + reviews.EDITABLE_MS
    if tx.now_ms >= until_ms:
        raise ReviewFinal(until=rfc3339(until_ms), review_id=known.id)
    return reviews.change(tx, gpu, known, stars, text)


def _to_review(tx: Tx, principal: Principal, gpu_id: str, booking_id: str | None) -> BookingRow:
    if booking_id is None:
        newest = bookings.newest_used(tx, gpu_id, principal.account_id)
        if newest is not None:
            return newest
        if bookings.ever_booked(tx, gpu_id, principal.account_id):
            raise BookingNotSettled()
        raise ReviewNeedsBooking()
    named = bookings.get(tx, booking_id)
    if named is None or named.gpu_id != gpu_id or named.booker_id != principal.account_id:
        raise BookingNotFound(booking_id=booking_id)
    if named.state == "active":
        raise BookingNotSettled()
    if named.state != "completed" or not named.used_ms:
        raise BookingUnused()
    return named
