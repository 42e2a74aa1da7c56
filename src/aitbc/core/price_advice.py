"""What an hour of a GPU might cost: a fixed rule over what others ask and how much of their time was booked.

All in integers: prices in base units an hour, times in ms, shares in basis points.
"""

from aitbc.core.money import BPS

DAY_MS = 86_400_000
PRIOR_MS = DAY_MS
PRIOR_BPS = 5_000
"""Before anything was booked a model is taken to have had one GPU for a day, booked half of the time: so the first
bookings move the advice a little, and many move it far."""

LEAST_BPS = 8_000
MOST_BPS = 12_000
"""The advice is this part of the median where nothing is booked, and where all is."""


def utilisation_bps(booked_ms: int, offered_ms: int) -> int:
    """The part of the offered time that was booked, rounded down, at most all of it; 0 where none was offered."""
    if booked_ms < 0 or offered_ms < 0:
        raise ValueError("a time cannot be negative")
    return min(BPS, booked_ms * BPS // offered_ms) if offered_ms else 0


def demand_bps(booked_ms: int, offered_ms: int) -> int:
    """`utilisation_bps` weighted with the prior: what the advice goes by."""
    booked_ms = min(booked_ms, offered_ms)
    return (booked_ms * BPS + PRIOR_MS * PRIOR_BPS) // (offered_ms + PRIOR_MS)


def suggested_units(median_units: int, booked_ms: int, offered_ms: int) -> int:
    """The median times 0.8 at no demand, 1 at half, 1.2 at full, and in between on a straight line; rounded down, at
    least one unit."""
    if median_units < 0 or booked_ms < 0 or offered_ms < 0:
        raise ValueError("a price and a time cannot be negative")
    demand = demand_bps(booked_ms, offered_ms)
    scale = LEAST_BPS * BPS + (MOST_BPS - LEAST_BPS) * demand
    return max(1, median_units * scale // (BPS * BPS))
