"""What is done with miners, in any dialect. What is read of them is a view (`flows/views/miners.py`)."""

from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import registration
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.miners.rows import MinerRow, MinerSpec, OfferRow
from aitbc.coordinator.parameters import service as parameters


class OwnMiner(NamedTuple):
    """A miner as its owner sees it. `cap_units`: what clients pay at most by default, per 1000 tokens.

    `lease_ms`: how long leases last.
    """

    row: MinerRow
    offers: tuple[OfferRow, ...]
    cap_units: int
    lease_ms: int


def register(tx: Tx, ctx: FlowContext, principal: Principal, spec: MinerSpec) -> OwnMiner:
    """Makes a miner known, or brings it up to date."""
    miner, offers = registration.register(tx, ctx, principal, spec)
    cap_units = parameters.get(tx, "default_max_price_per_1k_tokens")
    return OwnMiner(miner, offers, cap_units, ctx.lease_ms_in(tx))
