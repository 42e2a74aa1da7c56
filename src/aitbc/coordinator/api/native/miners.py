"""How both documented interfaces answer for miners."""

from functools import partial

import orjson
from starlette.responses import Response

from aitbc.coordinator.api.acts import miners as acts
from aitbc.coordinator.api.acts.miners import OwnMiner
from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.render import listed_miner_json, miner_json, room_json
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.miners import MinerRegistration
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.flows.views.miners import MinerState
from aitbc.core.clock import rfc3339

MAX_HELD = 100  # jobs that a miner's state names


async def register(
    request: ApiRequest, principal: Principal, body: MinerRegistration, status: int
) -> Response:
    """The miner as its owner sees it."""
    ctx = request.runtime.context
    act = partial(acts.register, ctx=ctx, principal=principal, spec=body.to_spec())

    def shown(miner: OwnMiner) -> bytes:
        return orjson.dumps(miner_json(miner, ctx))

    return await perform(request, principal, act, Form(status, shown))


def state_json(state: MinerState) -> replies.MinerState:
    """How a miner stands, for its owner."""
    miner = state.listed.row
    return {
        **listed_miner_json(state.listed),
        "held": [
            {"job_id": job.id, "model": job.model, "lease_expires_at": rfc3339(job.lease_expires_at_ms or 0)}
            for job in state.held[:MAX_HELD]
        ],
        "standing": {
            "approval": miner.approval,
            "delivered": miner.delivered,
            "failed": miner.failed,
            "failures_in_a_row": miner.strikes,
            "leases_earned": miner.allowance,
            **room_json(state.room, state.now_ms),
        },
        "default_max_price_per_1k": ait(state.cap_units),
    }
