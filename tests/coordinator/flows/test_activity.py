"""What is counted in the background is counted once, whoever counts and in whatever order jobs commit."""

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.chain import counters, sealer, witnessing
from aitbc.coordinator.chain.counters import Activity
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.views import activity
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.transfer_ids import new_transfer_id
from tests.support.flows import CHAIN, KEY, Market, found
from tests.support.transfers import signed_of


def seal(market: Market) -> None:
    market.db.write_sync(found)
    while (made := market.db.read_sync(sealer.draft, CHAIN, KEY)) is not None:
        assert market.db.write_sync(sealer.seal, made)


def move(tx: Tx, pairs: list[tuple[str, str]]) -> None:
    for debit, credit in pairs:
        ledger.transfer(tx, new_transfer_id(tx.now_ms), debit, credit, 1, ref=signed_of())


def test_two_coordinators_count_each_leaf_once(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "LEAVES", 4)
    for name in ("alice", "carol", "dora"):
        market.client(name)  # a leaf each: the grant; two parameters come before
    market.db.write_sync(move, [("alice", "carol"), ("carol", "carol"), ("carol", "alice")])
    seal(market)
    rounds = 0
    while (made := market.db.read_sync(activity.draft_activity)) is not None:
        late = market.db.read_sync(activity.draft_activity)
        assert late == made
        assert market.db.write_sync(activity.write_activity, made)
        assert not market.db.write_sync(activity.write_activity, late)
        rounds += 1
    assert rounds == 2
    found = {name: market.db.read_sync(counters.activity_of, name) for name in ("alice", "carol", "dora")}
    assert found == {
        "alice": Activity("alice", 3, 2, 7),
        "carol": Activity("carol", 4, 3, 7),
        "dora": Activity("dora", 1, 4, 4),
    }
    assert market.db.read_sync(counters.read, counters.ACCOUNTS).value == 3


def test_a_job_that_commits_late_is_counted_too(market: Market) -> None:
    """Another coordinator may commit a smaller id after a larger one: only settled ids are counted for good."""
    alice: Principal = market.client()
    total = 0
    for _ in range(3):
        for _ in range(2):
            market.submit(alice)
            total += 1
        assert market.db.read_sync(activity.total_jobs) == total
        made = market.db.read_sync(activity.draft_jobs)
        if made is not None:
            assert market.db.write_sync(activity.write_jobs, made)
            assert not market.db.write_sync(activity.write_jobs, made)
        counted = market.db.read_sync(counters.read, counters.JOBS)
        assert counted.value == total - 2
        assert market.db.read_sync(activity.total_jobs) == total
        market.clock.advance(activity.SETTLED_MS / 1000 + 1)


def test_the_final_block_stays_known_through_a_long_outage(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "LATE_BLOCKS", 4)

    def cosign(witness: str, *heights: int) -> None:
        for height in heights:
            market.db.write_sync(witnessing.record, height, witness, "line\n")

    def keep() -> None:
        found = market.db.read_sync(witnessing.draft_finality, 2)
        assert found is None or market.db.write_sync(witnessing.keep_finality, 2, found)

    def final(quorum: int = 2) -> int | None:
        return market.db.read_sync(witnessing.final_height, quorum)

    assert final() is None
    cosign("a", *range(1, 21))
    cosign("b", 1, 2, 3)
    assert final() == 3
    keep()
    assert final() == 3
    assert market.db.read_sync(witnessing.draft_finality, 2) is None
    cosign("b", 19)
    assert final() == 19, "a line that comes a little late"
    assert (final(1), final(3), final(0)) == (20, None, None)
    keep()
    cosign("a", *range(21, 40))
    keep()
    assert final() == 19
    cosign("b", 39)
    assert final() == 39
