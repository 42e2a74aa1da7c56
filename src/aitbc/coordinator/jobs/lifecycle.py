"""A job's states, the moves between them, and why and by whom they are made.

The database holds the same rules as CHECKs; `TRANSITIONS` is what guards the updates.
"""

STATUSES = ("pending", "running", "completed", "failed", "cancelled")
TERMINAL = ("completed", "failed", "cancelled")

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "pending": ("running", "failed", "cancelled"),
    "running": ("pending", "completed", "failed", "cancelled"),
    "completed": (),
    "failed": (),
    "cancelled": (),
}

EVENT_TYPES = ("created", "claimed", "requeued", "completed", "failed", "cancelled", "expired")
ACTORS = ("client", "miner", "coordinator", "admin")

MINER_CAUSES = (
    "ENGINE_ERROR",
    "ENGINE_UNAVAILABLE",
    "MODEL_NOT_FOUND",
    "OUT_OF_MEMORY",
    "CONTEXT_LENGTH_EXCEEDED",
    "BAD_REQUEST",
    "TIMEOUT",
    "SHUTTING_DOWN",
)
"""What a miner may say when it gives a job back."""

UNKNOWN_CAUSE = "ENGINE_ERROR"
"""What a cause that is none of MINER_CAUSES counts as."""

FINAL_MINER_CAUSES = frozenset({"CONTEXT_LENGTH_EXCEEDED", "BAD_REQUEST"})
"""Causes that another miner would meet as well, if the miner is right: they go to no miner twice."""

CAUSES = (
    *MINER_CAUSES,
    "COMPLETED",
    "CANCELLED_BY_CLIENT",
    "CANCELLED_BY_ADMIN",
    "EXPIRED",
    "LEASE_EXPIRED",
    "MINER_LEFT",
)

MAX_PRIORITY = 9
DEFAULT_PRIORITY = 5
DEFAULT_TTL_S = 3600
MAX_TTL_S = 7 * 86_400
MAX_RUN_S = 7 * 86_400


def may_move(before: str, after: str) -> bool:
    """Whether the lifecycle has this move."""
    return after in TRANSITIONS[before]
