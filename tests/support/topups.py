"""Top-ups with Bitcoin in every state, as looks at a chain leave them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.bitcoin.source import BlockRef, Look, Seen
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Tx
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.exchange import topups, watch
from aitbc.coordinator.exchange.looking import Plan, check
from aitbc.coordinator.exchange.models import Topup
from aitbc.coordinator.exchange.terms import Terms
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.flows.acts import bitcoin, exchange
from aitbc.coordinator.flows.acts.exchange import Wanted
from tests.support.exchange import ADDRESS, REGTEST_GENESIS, account_key
from tests.support.flows import Market

BEGIN = 100


class Topups:
    """Looks at a chain that is written down here, block by block."""

    def __init__(self, market: Market) -> None:
        self.market = market
        where = {
            "database_url": "sqlite:///unused.db",
            "bitcoin_network": "regtest",
            "bitcoin_rpc_url": "http://unused",
        }
        self.own = Terms.of(Settings(bitcoin_xpub=account_key(), **where))  # type: ignore[arg-type]
        self.common = Terms.of(Settings(bitcoin_address=ADDRESS, **where))  # type: ignore[arg-type]
        first = [BlockRef(BEGIN, f"{BEGIN:064x}")]
        market.db.write_sync(watch.begin, REGTEST_GENESIS, first)
        self.blocks = list(reversed(market.db.read_sync(watch.blocks)))

    def make(self, client: Principal, sat: int, terms: Terms | None = None) -> TopupRow:
        made = self.market.db.write_sync(exchange.create, terms or self.own, client, Wanted(None, sat))
        row = self.market.db.read_sync(topups.get, made)
        assert row is not None
        return row

    def paid(self, topup: TopupRow, number: int, sat: int | None = None, height: int | None = None) -> Seen:
        """Of a made-up transaction with this number; in the block of this height of the chain as it is, or in none."""
        block = next((one for one in self.blocks if one.height == height), None)
        return Seen(f"{number:064x}", 0, bytes.fromhex(topup.script), sat or topup.sat, block)

    def mine(self, count: int, lost: int = 0) -> BlockRef:
        """`count` blocks, in place of the last `lost`; the last block that stayed."""
        del self.blocks[len(self.blocks) - lost :]
        common = self.blocks[-1]
        for height in range(common.height + 1, common.height + count + 1):
            self.blocks.append(BlockRef(height, f"{lost + 1}{height:063x}"))
        return common

    def plan(self, common: BlockRef, *seen: Seen) -> tuple[Plan, Look]:
        """A look at the chain as it is, checked and not yet taken over."""
        db = self.market.db
        row = db.read_sync(watch.get)
        assert row is not None
        new = tuple(one for one in self.blocks if one.height > common.height)
        plan = Plan(row, common, common, db.read_sync(topups.last_number), None, self.market.clock.now_ms())
        look = Look(self.blocks[-1], True, new, seen)
        check(plan, look, None)
        return plan, look

    def look(self, common: BlockRef, *seen: Seen) -> None:
        assert self.market.db.write_sync(bitcoin.record, self.own, *self.plan(common, *seen)).moved


def everything(market: Market) -> None:
    """Credited, taken back in part, replaced, expired, on its way, waiting; by own addresses and by amounts."""
    town = Topups(market)
    grace, heidi = market.client("grace", units=0), market.client("heidi", units=0)
    credited, lost = town.make(grace, 50_000), town.make(grace, 50_000)
    replaced, unpaid = town.make(grace, 60_000), town.make(grace, 70_000)
    told, other = town.make(heidi, 50_000, town.common), town.make(heidi, 50_000, town.common)
    common = town.mine(2)
    gone, nobodys = town.paid(replaced, 4), town.paid(other, 5, 51_234)
    in_blocks = (
        town.paid(credited, 1, height=101),
        town.paid(told, 2, height=101),
        town.paid(lost, 3, height=102),
    )
    town.look(common, *in_blocks, gone, nobodys)
    market.submit(grace, model="none", max_tokens=1_000, cap=7 * 10**9)  # holds what is to be taken back
    market.clock.advance(3600)
    town.look(town.mine(3, lost=1), nobodys)
    town.make(heidi, 50_000)
    waiting = town.make(heidi, 80_000)
    town.look(town.mine(1), town.paid(waiting, 6), nobodys, town.paid(unpaid, 7, height=105))
    states = {row.state for row in market.db.read_sync(_all)}
    assert states == {"pending", "seen", "confirmed", "expired", "invalid"}, states


def _all(tx: Tx) -> list[Any]:
    return tx.query(select(topups.COLUMNS[0], table_of(Topup).c.state))
