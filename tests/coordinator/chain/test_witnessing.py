"""Cosignatures by height: counted, listed and built into proofs, each at its own block."""

import pytest

from aitbc.coordinator.chain import counters, proofs, queries, witnessing
from aitbc.coordinator.chain.counters import Activity, Count
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import NotFound
from aitbc.core.log.note import parse_note
from tests.coordinator.chain.logs import append, check, seal
from tests.support.flows import CHAIN, KEY, found

LINES = {  # by height; never of one witness alone, and in no order
    1: {"w1": 1},
    2: {"w2": 2, "w1": 3},
    4: {"w3": 4, "w1": 5, "w2": 6},
    5: {"w2": 7, "w1": 8},
}


def line(name: str, number: int) -> str:
    """A line of the right form; who has signed it is not for the database to say."""
    return f"— {name} {'AAAA' * 32}{number:04d}\n"


@pytest.fixture
def cosigned(db: Database) -> Database:
    """Six blocks of two leaves each, block 3 and 6 without a cosignature."""
    db.write_sync(found, CHAIN, KEY)
    for _ in range(6):
        db.write_sync(append, 2)
        assert seal(db)
    for height, names in LINES.items():
        for name, number in names.items():
            assert db.write_sync(witnessing.record, height, name, line(name, number))
    return db


def test_a_line_is_kept_once_and_counted_at_its_height(cosigned: Database) -> None:
    assert not cosigned.write_sync(witnessing.record, 4, "w1", line("w1", 99))
    for height in range(8):
        names = LINES.get(height, {})
        assert cosigned.read_sync(witnessing.count, height) == len(names)
        assert cosigned.read_sync(witnessing.witnesses_of, height) == set(names)
    for low in range(7):
        for high in range(7):
            expected = {height: len(names) for height, names in LINES.items() if low <= height <= high}
            assert cosigned.read_sync(queries.cosignature_counts, low, high) == expected


def test_the_final_block_is_the_newest_that_enough_have_cosigned(cosigned: Database) -> None:
    def final(tx: Tx) -> list[int | None]:
        return [witnessing.final_height(tx, quorum) for quorum in (0, 1, 2, 3, 4)]

    assert cosigned.read_sync(final) == [None, 5, 5, 4, None]
    made = cosigned.read_sync(witnessing.draft_finality, 3)
    assert made is not None
    assert (made.height, made.looked_to) == (4, 5)
    assert cosigned.write_sync(witnessing.keep_finality, 3, made)
    assert cosigned.read_sync(final) == [None, 5, 5, 4, None]


def test_a_checkpoint_bears_the_lines_of_its_own_block(cosigned: Database) -> None:
    blocks = check(cosigned).blocks
    for block in blocks[1:]:
        stored = cosigned.read_sync(proofs.block_at, block.height)
        assert stored is not None
        assert (stored.height, stored.hash) == (block.height, block.hash)
        note = parse_note(cosigned.read_sync(proofs.checkpoint_of, stored))
        names = LINES.get(block.height, {})
        assert [one.name for one in note.signatures[1:]] == sorted(names)
        assert note.text == parse_note(block.checkpoint).text
    assert cosigned.read_sync(proofs.block_at, 99) is None


def test_a_leaf_is_proven_by_the_block_that_most_vouch_for(cosigned: Database) -> None:
    best = [cosigned.read_sync(proofs.best_block_for, leaf).height for leaf in range(12)]
    assert best == [4] * 8 + [5, 5] + [6, 6], "else its own"
    own = [cosigned.read_sync(proofs.block_of_leaf, leaf).height for leaf in range(12)]
    assert own == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    with pytest.raises(NotFound):
        cosigned.read_sync(proofs.block_of_leaf, 12)


def test_what_an_account_did_grows_alone(db: Database) -> None:
    for seen in ([Activity("alice", 2, 3, 5), Activity("bob", 1, 4, 4)], [Activity("alice", 3, 7, 9)]):
        db.write_sync(counters.grow_activity, seen)
    assert db.read_sync(counters.activity_of, "alice") == Activity("alice", 5, 3, 9)
    assert db.read_sync(counters.activity_of, "bob") == Activity("bob", 1, 4, 4)
    assert db.read_sync(counters.activity_of, "carol") is None
    assert db.read_sync(counters.read, "never counted") == Count(0, "")
