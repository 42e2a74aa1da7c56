"""A job as the database holds it, and what a submission says of one."""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, literal_column

from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.lifecycle import MOVES
from aitbc.coordinator.jobs.models import Job


class JobRow(NamedTuple):
    """Every column of `jobs`, in the table's order. Times in ms, money in base units."""

    id: str
    client_id: str
    key_id: str
    spend_period_ms: int
    job_type: str
    model: str
    status: str
    queued: int
    rank: int
    max_price_units: int
    min_memory_mb: int
    region: str
    required_miner_id: str
    excluded: str
    review_at_ms: int
    hold_id: str
    held_units: int
    prompt_bound: int
    completion_bound: int
    prompt_hash: str
    attempts: int
    event_count: int
    miner_id: str
    lease_id: str
    lease_expires_at_ms: int
    unit_price_units: int
    price_units: int
    cause: str
    actor: str
    message: str
    receipt_id: str
    created_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    expires_at_ms: int
    manual_payment: int
    max_run_ms: int
    run_ends_at_ms: int
    miner_session: str
    progress_tokens: int
    progress_ms: int
    paid_run_ms: int
    min_context: int
    fee_bps: int | None
    reservation: str
    lease_ms: int | None

    @property
    def max_units(self) -> int:
        """The most units (tokens) that can be billed."""
        return self.prompt_bound + self.completion_bound


_status: Any = table_of(Job).c.status
COLUMNS = list(table_of(Job).columns)
if JobRow._fields != tuple(column.name for column in COLUMNS):
    raise RuntimeError("JobRow and the jobs table have drifted apart")


def in_state_for(event: str) -> ColumnElement[bool]:
    """SQL: that a job is in a state in which the event may happen to it."""
    states: list[Any] = [literal_column(f"'{status}'") for status in MOVES[event].before]
    found: ColumnElement[bool] = _status == states[0] if len(states) == 1 else _status.in_(states)
    return found


def state_after(event: str) -> ColumnElement[Any]:
    """SQL: the state in which the event leaves a job."""
    return literal_column(f"'{MOVES[event].after}'")


class JobSpec(NamedTuple):
    """A validated submission, whichever dialect it came in.

    request_text     canonical JSON of the request as the miner gets it; prompt_hash is its SHA-256
    prompt_bound     tokens; completion_bound tokens: the most that can be billed
    max_price_units  per 1000 tokens, base units; None for the network's default cap
    min_memory_mb, region '', required_miner_id '', min_context tokens: what the miner must have
    manual_payment   not dispatched before its payer opens the escrow
    ttl_s            how long it may wait; max_run_s how long a run of it may take, None for the default
    """

    job_type: str
    model: str
    request_text: str
    prompt_hash: str
    prompt_bound: int
    completion_bound: int
    max_price_units: int | None
    min_memory_mb: int
    region: str
    required_miner_id: str
    priority: int
    ttl_s: int
    manual_payment: bool = False
    max_run_s: int | None = None
    min_context: int = 0
