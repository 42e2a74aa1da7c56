"""What both dialects do with miners."""

import orjson

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.render import json_bytes, listed_miner_json, miner_json, room_json
from aitbc.coordinator.api.schemas.queries import MinerList
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import registration
from aitbc.coordinator.flows.shared import trust
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.idempotency.service import Answer
from aitbc.coordinator.jobs import queries as job_queries
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.miners import queries
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners.rows import MinerSpec
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.clock import rfc3339

MAX_HELD = 100  # jobs that a miner's state names


def register(ctx: FlowContext, principal: Principal, spec: MinerSpec, status: int, tx: Tx) -> Answer:
    """The miner as its owner sees it."""
    miner, offers = registration.register(tx, ctx, principal, spec)
    shown = miner_json(
        miner,
        offers,
        chain_id=ctx.chain_id,
        network_id=ctx.network_id,
        lease_s=ctx.lease_ms / 1000,
        heartbeat_s=ctx.heartbeat_ms / 1000,
        cap_units=parameters.get(tx, "default_max_price_per_1k_tokens"),
    )
    return Answer(status, orjson.dumps(shown))


def state(tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str | None) -> bytes:
    """How one's own miner stands: what it offers and holds, and what clients pay by default."""
    miner = miners.owned(tx, principal.account_id, miner_id)
    held = jobs.held_by(tx, miner.id)
    shown = listed_miner_json(miner, miners.offers(tx, miner), len(held))
    shown["held"] = [
        {"job_id": job.id, "model": job.model, "lease_expires_at": rfc3339(job.lease_expires_at_ms or 0)}
        for job in held[:MAX_HELD]
    ]
    shown["standing"] = {
        "approval": miner.approval,
        "delivered": miner.delivered,
        "failed": miner.failed,
        "failures_in_a_row": miner.strikes,
        "leases_earned": miner.allowance,
        **room_json(trust.room(tx, ctx, miner, len(held)), tx.now_ms),
    }
    shown["default_max_price_per_1k"] = ait(parameters.get(tx, "default_max_price_per_1k_tokens"))
    return json_bytes(shown)


def listed(tx: Tx, query: MinerList) -> tuple[bytes, str | None]:
    """Miners as everybody sees them, with how many jobs each runs; and the cursor of the next page."""
    rows = queries.page(
        tx, status=query.status, limit=query.limit, offset=query.offset, after_id=query.cursor
    )
    running = job_queries.running_by_miner(tx)
    shown = [listed_miner_json(row, miners.offers(tx, row), running.get(row.id, 0)) for row in rows]
    return json_bytes(shown), rows[-1].id if len(rows) == query.limit else None
