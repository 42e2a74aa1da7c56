"""From a request and its constraints to the one form of a submission that the flows take."""

from aitbc.coordinator.jobs.lifecycle import DEFAULT_PRIORITY, DEFAULT_TTL_S
from aitbc.coordinator.jobs.rows import JobSpec
from aitbc.core import canonical
from aitbc.core.jobspec import Request, encoded, job_type_named


def make_spec(
    request: Request,
    *,
    max_price_units: int | None = None,
    min_memory_gb: float | None = None,
    region: str = "",
    miner_id: str = "",
    priority: int | None = None,
    ttl_s: int | None = None,
    max_run_s: int | None = None,
    manual_payment: bool = False,
) -> JobSpec:
    """The submission of a canonical request (`core.jobspec`) with its constraints.

    All are within their bounds by now: a request is read once (`jobspec.build_request`), and so is a submission,
    by its body's schema. What follows from them is worked out here. `max_price_units` per 1000 tokens.
    """
    kind = job_type_named(request["type"])
    text, input_text = encoded(request)
    return JobSpec(
        job_type=kind.name,
        model=request["model"],
        request_text=text.decode(),
        prompt_hash=canonical.sha256_hex(text),
        prompt_bound=kind.prompt_bound(request, input_text),
        completion_bound=kind.completion_bound(request),
        max_price_units=max_price_units,
        min_memory_mb=int((min_memory_gb or 0) * 1024),
        region=region,
        required_miner_id=miner_id,
        priority=DEFAULT_PRIORITY if priority is None else priority,
        ttl_s=DEFAULT_TTL_S if ttl_s is None else ttl_s,
        manual_payment=manual_payment,
        max_run_s=max_run_s,
        min_context=kind.context_floor(request),
    )
