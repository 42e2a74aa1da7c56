"""Bookings of GPUs that have ended: what the log says of each, held to itself and to what was paid for it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from aitbc.audit.books import Settlement
from aitbc.audit.findings import Wrong
from aitbc.core.money import fee_units
from aitbc.core.rental import rent_units
from aitbc.core.transfer_ids import BOOKED

ENDED_BY = {
    "ran_out": ("coordinator",),
    "released": ("booker", "owner", "admin"),
    "cancelled": ("booker", "owner", "admin", "coordinator"),
    "no_show": ("coordinator",),
}
"""Who may end a booking how."""
_UNITS = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
UNUSED = ("cancelled", "no_show")


class Ended(NamedTuple):
    """A booking's leaf. Times in ms, money in base units."""

    id: str
    gpu_id: str
    miner_id: str
    booker: str
    owner: str
    start_ms: int
    end_ms: int
    hour_units: int
    fee_bps: int
    hold_id: str
    held_units: int
    used_ms: int
    price_units: int
    fee_units: int
    transfer_id: str
    outcome: str
    ended_by: str
    ended_at_ms: int


class Rented:
    """Pairs bookings that have ended with the transfers that ended their holds: made in one transaction, they stand
    near each other in the log, in either order."""

    def __init__(self) -> None:
        self.bookings = 0
        self._ended: dict[str, Ended] = {}  # by hold
        self._settled: dict[str, Settlement] = {}  # by hold

    def ended(self, booking: Ended) -> None:
        """A booking stands in the log. Raises Wrong."""
        self.bookings += 1
        fault = _fault(booking)
        if fault:
            raise Wrong("booking", booking.id, fault)
        settlement = self._settled.pop(booking.hold_id, None)
        if settlement is not None:
            _compare(booking, settlement)
        elif booking.hold_id in self._ended:
            raise Wrong("booking", booking.id, f"hold {booking.hold_id} is another booking's")
        else:
            self._ended[booking.hold_id] = booking

    def settled(self, settlement: Settlement) -> bool:
        """A hold was settled; whether it was a booking's. Raises Wrong."""
        if not BOOKED.fits(settlement.ref):
            return False
        booking = self._ended.pop(settlement.hold_id, None)
        if booking is None:
            self._settled[settlement.hold_id] = settlement
        else:
            _compare(booking, settlement)
        return True

    def close(self, *, whole: bool) -> int:
        """The log ends here. Raises Wrong where a booking was not settled.

        `whole`: with everything that waits for its block, so that no payment waits for its booking either; else
        how many do.
        """
        for booking in self._ended.values():
            raise Wrong(
                "booking", booking.id, f"it has ended, and its hold {booking.hold_id} was not settled"
            )
        for settlement in self._settled.values() if whole else ():
            what = f"it settled the hold of {settlement.ref}, which has not ended"
            raise Wrong("transfer", settlement.end_id, what)
        return len(self._settled)


def read_booking(document: dict[str, Any]) -> Ended:
    """A leaf as it is served. KeyError, TypeError, ValueError: it is none."""
    return Ended(
        id=document["id"],
        gpu_id=document["gpu_id"],
        miner_id=document["miner_id"],
        booker=document["booker"],
        owner=document["owner"],
        start_ms=_number(document["start_ms"]),
        end_ms=_number(document["end_ms"]),
        hour_units=_units(document["hour_units"]),
        fee_bps=_number(document["fee_bps"]),
        hold_id=document["hold_id"],
        held_units=_units(document["held_units"]),
        used_ms=_number(document["used_ms"]),
        price_units=_units(document["price_units"]),
        fee_units=_units(document["fee_units"]),
        transfer_id=document["transfer_id"],
        outcome=document["outcome"],
        ended_by=document["ended_by"],
        ended_at_ms=_number(document["ended_at_ms"]),
    )


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("not a number of a booking")
    return value


def _units(value: object) -> int:
    if not isinstance(value, str) or _UNITS.fullmatch(value) is None:
        raise ValueError("not an amount")
    return int(value)


def _fault(booking: Ended) -> str:
    """What is wrong with a booking by itself, or ''."""
    length_ms = booking.end_ms - booking.start_ms
    if length_ms <= 0 or not 0 <= booking.used_ms <= length_ms:
        return f"{booking.used_ms} ms of its {length_ms} were used"
    if booking.ended_by not in ENDED_BY.get(booking.outcome, ()):
        return f"it is {booking.outcome} by {booking.ended_by}"
    if booking.outcome in UNUSED and booking.used_ms:
        return f"it is {booking.outcome}, and {booking.used_ms} ms of it were used"
    if booking.booker == booking.owner:
        return f"{booking.owner} booked its own GPU"
    if booking.held_units != rent_units(length_ms, booking.hour_units):
        return f"{booking.held_units} units were held for {length_ms} ms at {booking.hour_units} an hour"
    price = rent_units(booking.used_ms, booking.hour_units)
    if booking.price_units != price:
        return f"its price is {booking.price_units} units, the time that was used costs {price}"
    if booking.fee_units != fee_units(price, booking.fee_bps):
        return f"its fee is {booking.fee_units} units, of its price it is {booking.fee_bps} basis points"
    return ""


def _compare(booking: Ended, settlement: Settlement) -> None:
    said = (
        BOOKED.prefix + booking.id,
        booking.booker,
        booking.transfer_id,
        booking.price_units,
        booking.fee_units,
        "post" if booking.price_units else "void",
    )
    found = (
        settlement.ref,
        settlement.payer,
        settlement.end_id,
        settlement.total_units,
        settlement.fee_units,
        settlement.kind,
    )
    if said != found:
        raise Wrong("booking", booking.id, f"it says {said} of its payment, the ledger has {found}")
    if booking.price_units and settlement.credit != booking.owner:
        raise Wrong("booking", booking.id, f"{settlement.credit} was paid for it, it names {booking.owner}")
