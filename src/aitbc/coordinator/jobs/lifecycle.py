"""A job's states, the moves between them, and why and by whom they are made.

MOVES is the only table of them: the guarded UPDATEs take their `WHERE status` and their new state from it, the
history its entries, the CHECKs in the database their lists, and docs/api.md its diagram.
"""

from typing import NamedTuple

from aitbc.core.causes import Cause


class Move(NamedTuple):
    """What one kind of event makes of a job: the states that it may be in before, and the one it is in then."""

    before: tuple[str, ...]
    after: str


STATUSES = ("pending", "running", "completed", "failed", "cancelled")

MOVES: dict[str, Move] = {
    "claimed": Move(("pending",), "running"),
    "requeued": Move(("running",), "pending"),
    "completed": Move(("running",), "completed"),
    "failed": Move(("pending", "running"), "failed"),
    "cancelled": Move(("pending", "running"), "cancelled"),
    "expired": Move(("pending",), "failed"),
}
"""By the event that is written down of it."""

FIRST = "pending"
"""The state of a job that was created."""

EVENT_TYPES = ("created", *MOVES)
TRANSITIONS: dict[str, frozenset[str]] = {
    status: frozenset(move.after for move in MOVES.values() if status in move.before) for status in STATUSES
}
TERMINAL = tuple(status for status in STATUSES if not TRANSITIONS[status])

ACTORS = ("client", "miner", "coordinator", "admin")

MINER_CAUSES = tuple(cause.value for cause in Cause)
CAUSES = (
    *MINER_CAUSES,
    "COMPLETED",
    "CANCELLED_BY_CLIENT",
    "CANCELLED_BY_ADMIN",
    "EXPIRED",
    "LEASE_EXPIRED",
    "MINER_LEFT",
    "BOOKING_ENDED",
)

MAX_PRIORITY = 9
DEFAULT_PRIORITY = 5
DEFAULT_TTL_S = 3600
MAX_TTL_S = 7 * 86_400
MAX_RUN_S = 7 * 86_400


def moves(event: str, before: str) -> bool:
    """Whether the event may happen to a job in this state."""
    return before in MOVES[event].before


def status_after(event: str) -> str:
    """The state of a job once the event has happened to it."""
    return MOVES[event].after if event in MOVES else FIRST
