"""Blocks of version 1 stay as they are, those after an upgrade are of version 2, and the audit reads both."""

from aitbc.audit.database import audit
from aitbc.coordinator.chain import proofs, sealer
from aitbc.coordinator.database import Database
from aitbc.core.clock import ManualClock
from aitbc.core.log.block import VERSION, VERSION_2
from aitbc.core.log.leaf import KINDS
from tests.support.flows import (
    CHAIN,
    KEY,
    Market,
    database_url,
    found,
    ids_of_this_time,
    market,
    memory_folder,
    open_market,
)

__all__ = ["database_url", "ids_of_this_time", "market", "memory_folder"]


def sealed(market: Market, version: str) -> sealer.BlockRow:
    """Seals what waits as the program of that version does."""
    made = market.db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None
    if version == VERSION:
        block = made.block._replace(contents="")
        header = block.header(CHAIN)
        made = made._replace(block=block._replace(hash=header.hash, signature=header.sign(KEY)))
    assert market.db.write_sync(sealer.seal, made)
    return made.block


def test_a_chain_of_both_versions_is_sound(db: Database, clock: ManualClock) -> None:
    db.write_sync(open_market)
    market = Market(db, clock, fee_bps=None)  # version 1 knows no leaves of parameters
    db.write_sync(found)
    client, miner = market.client(), market.miner()
    for version in (VERSION, VERSION, VERSION_2, VERSION_2):
        market.complete(miner, market.claim(miner, market.submit(client).id).id)
        block = sealed(market, version)
        assert block.header(CHAIN).version == version
        assert db.read_sync(proofs.block_at, block.height) == block
        report = db.read_sync(audit, CHAIN)
        assert report.ok, report.problems
    assert report.counts["blocks"] == 5
    market.complete(miner, market.claim(miner, market.submit(client).id).id)
    sealed(market, VERSION)
    wrong = db.read_sync(audit, CHAIN).wrong
    assert wrong is not None and (wrong.kind, wrong.id) == ("block", "5") and "version" in wrong.what


def test_names_and_numbers_of_kinds_are_given_once() -> None:
    assert [kind.number for kind in KINDS.values()] == list(KINDS)
    for member in ("name", "type"):
        assert len({getattr(kind, member) for kind in KINDS.values()}) == len(KINDS)
