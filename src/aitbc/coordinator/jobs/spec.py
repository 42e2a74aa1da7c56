"""From either dialect's validated body to the one form that the flows take."""

import re
from decimal import Decimal
from typing import Any

from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.jobs.lifecycle import DEFAULT_PRIORITY, DEFAULT_TTL_S, MAX_PRIORITY, MAX_TTL_S
from aitbc.coordinator.jobs.rows import JobSpec
from aitbc.core import canonical
from aitbc.core.jobspec import Request, job_type_named

MAX_MEMORY_GB = 1_000_000
REGION = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
MINER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def make_spec(
    request: Request,
    *,
    max_price_units: int | None = None,
    min_memory_gb: Decimal | int | None = None,
    region: str | None = None,
    miner_id: str | None = None,
    priority: int | None = None,
    ttl_s: int | None = None,
    max_run_s: int | None = None,
    payment: str | None = None,
) -> JobSpec:
    """The submission of a canonical request (`core.jobspec`) with its constraints.

    `max_price_units` per 1000 tokens. Raises InvalidRequest naming the field.
    """
    kind = job_type_named(request["type"])
    encoded = canonical.encode(request)
    memory_gb = min_memory_gb or 0
    _require(0 <= memory_gb <= MAX_MEMORY_GB, "constraints.min_memory_gb", f"0 to {MAX_MEMORY_GB}")
    _require(not region or REGION.fullmatch(region), "constraints.region", "1 to 64 of A-Z a-z 0-9 . _ -")
    _require(not miner_id or MINER_ID.fullmatch(miner_id), "constraints.miner_id", "a miner's id")
    rank = DEFAULT_PRIORITY if priority is None else priority
    _require(0 <= rank <= MAX_PRIORITY, "priority", f"0 to {MAX_PRIORITY}")
    ttl = DEFAULT_TTL_S if ttl_s is None else ttl_s
    _require(1 <= ttl <= MAX_TTL_S, "ttl_s", f"1 to {MAX_TTL_S} seconds")
    _require(max_run_s is None or max_run_s >= 1, "max_run_s", "at least 1 second")
    _require(payment in (None, "auto", "manual"), "payment", "auto or manual")
    return JobSpec(
        job_type=kind.name,
        model=request["model"],
        request_text=encoded.decode(),
        prompt_hash=canonical.sha256_hex(encoded),
        prompt_bound=kind.prompt_bound(request),
        completion_bound=kind.completion_bound(request),
        max_price_units=max_price_units,
        min_memory_mb=int(memory_gb * 1024),
        region=region or "",
        required_miner_id=miner_id or "",
        priority=rank,
        ttl_s=ttl,
        manual_payment=payment == "manual",
        max_run_s=max_run_s,
        min_context=kind.context_floor(request),
    )


def _require(holds: Any, field: str, allowed: str) -> None:
    if not holds:
        raise InvalidRequest(
            f"{field} must be {allowed}.",
            fields=[{"field": field, "message": f"must be {allowed}"}],
        )
