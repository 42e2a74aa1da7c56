"""What the explorer asks of the chain: blocks by height, hash and leaf, leaves by id, counters by name."""

from aitbc.coordinator.chain import counters, queries
from aitbc.coordinator.chain.counters import Count
from aitbc.coordinator.database import Database
from tests.coordinator.chain.logs import append, rows, seal
from tests.support.flows import CHAIN, KEY, found


def test_blocks_and_leaves_are_found_by_what_they_are(db: Database) -> None:
    db.write_sync(found, CHAIN, KEY)
    for leaves in (3, 1, 4, 2):
        db.write_sync(append, leaves)
        assert seal(db)
    blocks = list(reversed(db.read_sync(queries.blocks, None, 100)))
    assert [block.height for block in blocks] == list(range(blocks[0].height, blocks[0].height + len(blocks)))
    for place, block in enumerate(blocks):
        below = [one.height for one in reversed(blocks[:place])]
        assert [one.height for one in db.read_sync(queries.blocks, block.height, 100)] == below
        for digits in (8, 16, 64):
            assert db.read_sync(queries.blocks_by_hash, block.hash[:digits], 10) == [block]
    sealed = db.read_sync(rows, "SELECT kind, ref_id, leaf_index FROM leaves ORDER BY leaf_index")
    for leaf in sealed:
        got = db.read_sync(queries.leaf_of, leaf.ref_id)
        assert got is not None
        assert (got.kind, got.ref_id, got.leaf_index) == tuple(leaf)
        span = db.read_sync(lambda tx, at=leaf.leaf_index: queries.Spans(tx).of(at))
        assert span is not None
        assert span.first_leaf <= leaf.leaf_index < span.tree_size
    assert db.read_sync(queries.leaf_of, "unknown") is None


def test_a_counter_moves_alone(db: Database) -> None:
    for name, start in (("jobs", 3), ("accounts", 5)):
        assert db.write_sync(counters.advance, name, Count(0, ""), start, "a")
    assert not db.write_sync(counters.advance, "jobs", Count(3, "b"), 1, "c")
    assert not db.write_sync(counters.advance, "jobs", Count(2, "a"), 1, "c")
    assert db.write_sync(counters.advance, "jobs", Count(3, "a"), 4, "b")
    db.write_sync(counters.add, "accounts", 10)
    assert [db.read_sync(counters.read, name) for name in ("jobs", "accounts")] == [
        Count(7, "b"),
        Count(15, "a"),
    ]
