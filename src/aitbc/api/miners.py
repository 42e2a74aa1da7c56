"""What both dialects do with miners."""

import orjson

from aitbc.accounts.principal import Principal
from aitbc.api.render import json_bytes, listed_miner_json, miner_json
from aitbc.api.schemas.queries import MinerList
from aitbc.database import Tx
from aitbc.flows import registration
from aitbc.flows.context import FlowContext
from aitbc.idempotency.service import Answer
from aitbc.jobs import queries as job_queries
from aitbc.miners import queries
from aitbc.miners import service as miners
from aitbc.miners.rows import MinerSpec
from aitbc.parameters import service as parameters


def register(ctx: FlowContext, principal: Principal, spec: MinerSpec, status: int, tx: Tx) -> Answer:
    """The miner as its owner sees it."""
    miner, offers = registration.register(tx, ctx, principal, spec)
    shown = miner_json(
        miner,
        offers,
        chain_id=ctx.chain_id,
        lease_s=ctx.lease_ms / 1000,
        heartbeat_s=ctx.heartbeat_ms / 1000,
        cap_units=parameters.get(tx, "default_max_price_per_1k_tokens"),
    )
    return Answer(status, orjson.dumps(shown))


def listed(tx: Tx, query: MinerList) -> bytes:
    """Miners as everybody sees them, with how many jobs each runs."""
    rows = queries.page(tx, status=query.status, limit=query.limit, offset=query.offset)
    running = job_queries.running_by_miner(tx)
    return json_bytes(
        [listed_miner_json(row, miners.offers(tx, row), running.get(row.id, 0)) for row in rows]
    )
