"""The fee in force, held to the receipts that were issued under it."""

from __future__ import annotations

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.parameters import service as parameters
from tests.support.flows import CHAIN, Market


@pytest.mark.parametrize(
    ("sql", "said"), [("DELETE FROM parameters", "250 always"), ("value = 0", "it is 0 since")]
)
def test_the_fee_is_that_of_the_receipts_since(market: Market, sql: str, said: str) -> None:
    alice, miner = market.client("alice"), market.miner("m1", "bob", {"llama": 1_000_000})
    for fee_bps in (1_000, 500):
        market.db.write_sync(parameters.set_value, "fee_bps", fee_bps)
        market.clock.advance(1)
        market.complete(miner, market.claim(miner, market.submit(alice, cap=1_000_000).id).id)
    market.check()
    tamper = sql if sql.startswith("DELETE") else f"UPDATE parameters SET {sql} WHERE name = 'fee_bps'"
    market.db.write_sync(lambda tx: tx._cursor.execute(tamper))
    wrong = market.db.read_sync(audit, CHAIN).wrong
    assert wrong is not None
    assert (wrong.kind, wrong.id, said in wrong.what) == ("parameter", "fee_bps", True), wrong
