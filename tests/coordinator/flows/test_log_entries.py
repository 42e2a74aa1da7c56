"""The log's entries are the bytes that its leaves were made of, each at its place."""

import hashlib

import pytest

from aitbc.coordinator.errors import NotFound
from aitbc.coordinator.flows.views import log_entries
from tests.coordinator.chain.logs import rows
from tests.coordinator.flows.test_activity import seal
from tests.support.flows import Market


def test_every_entry_hashes_to_its_leaf(market: Market) -> None:
    client, miner = market.client(), market.miner()
    for _ in range(3):
        job = market.submit(client)
        market.take(miner)
        market.complete(miner, job.id)
        seal(market)
    market.submit(client)  # its hold waits for a block
    hashes = [
        bytes(row.hash)
        for row in market.db.read_sync(
            rows, "SELECT hash FROM leaves WHERE leaf_index IS NOT NULL ORDER BY leaf_index"
        )
    ]
    size = len(hashes)
    assert size > 9
    for first in range(size):
        for end in (first, first + 1, size):
            entries = market.db.read_sync(log_entries.leaves, first, end)
            assert [hashlib.sha256(b"\x00" + entry).digest() for entry in entries] == hashes[first:end]
    with pytest.raises(NotFound):
        market.db.read_sync(log_entries.leaves, 0, size + 1)
