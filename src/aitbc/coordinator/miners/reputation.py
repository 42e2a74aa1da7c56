"""A miner's reputation: one number from what it did, each part of it with how much it stands on.

Facts alone: answers that were paid and tries that failed, how quick it was, how long it was here, and how much of the
time that was booked of it it kept. No part is anybody's word. All in integers; a part begins at its prior.
"""

from typing import NamedTuple, Protocol

from aitbc.core.money import BPS

HOUR_MS = 3_600_000

PRIOR_TRIES = 8
PRIOR_UP_MS = 24 * HOUR_MS
PRIOR_PROMISED_MS = 10 * HOUR_MS
PRIOR_BPS = 9_000
"""What a miner of which nothing is known is taken to have done, and how much of it well."""

PRIOR_TOKENS = 1_000
PRIOR_RUN_MS = 20_000
"""How quick it is taken to have been; who needs so long for so many tokens has half of that part."""

WEIGHTS = {"answers": 5, "uptime": 2, "bookings": 2, "speed": 1}
FORMULA = "(5 x answers + 2 x uptime + 2 x bookings + speed) / 10"
FORMULAE = {
    "answers": "(answers paid + 7.2) / (tries + 8)",
    "uptime": "(hours here + 21.6) / (hours here or silent + 24)",
    "bookings": "(hours kept + 9) / (hours promised + 10)",
    "speed": "20 / (20 + seconds for 1000 tokens)",
}

NEWCOMER_TRIES = 16
FLOOR_BPS = 7_000
TOP_BPS = 9_500
"""In dispatch all miners from TOP_BPS on are alike, and all below FLOOR_BPS; who has had fewer than NEWCOMER_TRIES
tries stands with the best: it can show what it does only by work."""


class Facts(Protocol):
    """What is known of a miner. Tries and tokens are those lately (`standing.MEMORY`), times in ms."""

    @property
    def delivered(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def run_ms(self) -> int: ...
    @property
    def units(self) -> int: ...
    @property
    def up_ms(self) -> int: ...
    @property
    def away_ms(self) -> int: ...
    @property
    def promised_ms(self) -> int: ...
    @property
    def served_ms(self) -> int: ...


class Part(NamedTuple):
    """One part: its value in basis points, and how many `of` it stands on."""

    bps: int
    samples: float
    of: str


def _share_bps(good: int, of: int, prior: int) -> int:
    return (good * BPS + prior * PRIOR_BPS) // (of + prior)


def ms_per_1000(facts: Facts) -> int:
    """How long it takes for 1000 tokens, with the prior."""
    return (facts.run_ms + PRIOR_RUN_MS) * 1000 // (facts.units + PRIOR_TOKENS)


def answers_bps(facts: Facts) -> int:
    return _share_bps(facts.delivered, facts.delivered + facts.failed, PRIOR_TRIES)


def uptime_bps(facts: Facts) -> int:
    return _share_bps(facts.up_ms, facts.up_ms + facts.away_ms, PRIOR_UP_MS)


def bookings_bps(facts: Facts) -> int:
    return _share_bps(facts.served_ms, facts.promised_ms, PRIOR_PROMISED_MS)


def speed_bps(facts: Facts) -> int:
    return BPS * PRIOR_RUN_MS // (PRIOR_RUN_MS + ms_per_1000(facts))


def score_bps(facts: Facts) -> int:
    """The number, 0 to BPS: FORMULA over the parts, rounded down."""
    return (5 * answers_bps(facts) + 2 * uptime_bps(facts) + 2 * bookings_bps(facts) + speed_bps(facts)) // 10


def in_dispatch_bps(facts: Facts) -> int:
    """What dispatch goes by among miners that cost the same: the number, within its bounds."""
    if facts.delivered + facts.failed < NEWCOMER_TRIES:
        return TOP_BPS
    return min(TOP_BPS, max(FLOOR_BPS, score_bps(facts)))


def parts(facts: Facts) -> dict[str, Part]:
    """The parts by name, as they are shown."""
    tries = facts.delivered + facts.failed
    known_h = round((facts.up_ms + facts.away_ms) / HOUR_MS, 2)
    return {
        "answers": Part(answers_bps(facts), tries, "tries lately"),
        "uptime": Part(uptime_bps(facts), known_h, "hours here or silent"),
        "bookings": Part(bookings_bps(facts), round(facts.promised_ms / HOUR_MS, 2), "hours promised"),
        "speed": Part(speed_bps(facts), facts.units, "tokens lately"),
    }
