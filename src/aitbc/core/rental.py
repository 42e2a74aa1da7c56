"""What a GPU costs by the hour: how long a booking is, and what the time that was used comes to.

All in integers. Time is billed by the minute: what was begun of one counts whole. A price is rounded up to a base
unit. So the price of the time used is never above that of the whole time.
"""

from decimal import Decimal

MAX_DECIMALS = 8
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MINUTES = 60


def duration_ms(hours: Decimal) -> int:
    """How long so many hours are, rounded up to a second: 0.33333333 are 20 minutes.

    ValueError: not above 0, more than MAX_DECIMALS decimals, or not finite.
    """
    sign, digits, exponent = hours.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("a duration must be finite")
    if sign or not any(digits):
        raise ValueError("a duration is more than 0 hours")
    if hours.adjusted() > MAX_DECIMALS:
        raise ValueError("a duration has too many hours")
    # The digits are shifted as integers: Decimal arithmetic would round to its context's 28 digits.
    shift = exponent + MAX_DECIMALS
    scaled: int = int("".join(map(str, digits)))
    parts, rest = divmod(scaled * 10 ** max(shift, 0), 10 ** max(-shift, 0))
    if rest:
        raise ValueError(f"a duration has at most {MAX_DECIMALS} decimals")
    seconds: int = -(-parts * (HOUR_MS // SECOND_MS) // 10**MAX_DECIMALS)
    return seconds * SECOND_MS


def rent_units(used_ms: int, hour_units: int) -> int:
    """Base units for the time at `hour_units` an hour: begun minutes count whole, parts of a unit too."""
    if used_ms < 0 or hour_units < 0:
        raise ValueError("a time and a price cannot be negative")
    minutes = -(-used_ms // MINUTE_MS)
    return -(-minutes * hour_units // MINUTES)
