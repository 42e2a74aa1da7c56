"""A kind of leaf that nothing else knows: sealed, proven, served, counted, and found by nobody as something else."""

import json
from typing import Any

import pytest
from sqlalchemy import literal_column, select

from aitbc.audit import leaf_kinds
from aitbc.audit.database import audit
from aitbc.coordinator.chain import proofs, sealer, service
from aitbc.coordinator.chain.models import Leaf
from aitbc.coordinator.database import Database, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import TransactionNotFound
from aitbc.coordinator.flows.views import explorer, log_entries, transactions
from aitbc.core.log import leaf
from aitbc.core.log.merkle import leaf_hash
from aitbc.core.log.tiles import ENTRIES as BUNDLE
from aitbc.core.log.tiles import tile_path
from tests.support.flows import (
    CHAIN,
    KEY,
    Market,
    database_url,
    found,
    ids_of_this_time,
    market,
    memory_folder,
)

__all__ = ["database_url", "ids_of_this_time", "market", "memory_folder"]

WISH = leaf.LeafKind(77, "wishes", "aitbc/wish/v1")
DATA = b'{"choice":"yes","type":"aitbc/wish/v1"}'
_l: Any = table_of(Leaf).c


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(leaf.KINDS, WISH.number, WISH)
    rows = statement(
        select(_l.leaf_index, literal_column("0")).where(
            _l.kind == literal_column(str(WISH.number)),
            *log_entries._range,
        )
    )
    monkeypatch.setitem(log_entries.ENTRIES, WISH.number, (rows, lambda _nothing: DATA))


def test_it_needs_its_entries_alone(known: None, db: Database, market: Market) -> None:
    db.write_sync(found)
    client, miner = market.client(), market.miner()
    market.complete(miner, market.claim(miner, market.submit(client).id).id)
    db.write_sync(service.append, WISH.number, "wish-1", DATA)
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None and db.write_sync(sealer.seal, made)
    block = made.block
    contents = json.loads(block.contents)
    assert contents["parameters"] == 2, "the fees that tests set"
    assert contents["wishes"] == 1 == block.receipts
    assert contents["transfers"] == block.transactions == block.tree_size - 4
    place = db.read_sync(proofs.place_of, "wish-1")
    assert place is not None and place.hash == leaf_hash(DATA).hex()
    assert db.read_sync(proofs.proof_of, "wish-1", 1.0)
    bundle = db.read_sync(log_entries.tile_bytes, tile_path(BUNDLE, 0, block.tree_size))
    assert DATA in bundle
    assert db.read_sync(explorer.search, place.hash) == [] == db.read_sync(explorer.search, "wish-1")
    with pytest.raises(TransactionNotFound):
        db.read_sync(transactions.find, place.hash)
    wrong = db.read_sync(audit, CHAIN).wrong
    assert wrong is not None and wrong.what == "its kind is 77", "nothing re-derives it"


def test_the_audit_takes_every_kind_that_is_appended() -> None:
    assert {kind.number for kind in leaf_kinds.KINDS} == set(leaf.KINDS) == set(log_entries.ENTRIES)
