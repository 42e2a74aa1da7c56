"""The explorer's lists and look-ups against the rows themselves: newest first, in pages, each by its own name."""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.chain import queries
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import AccountNotFound, TransactionNotFound
from aitbc.coordinator.flows.views import activity, explorer
from aitbc.coordinator.flows.views.explorer import Page
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.transfer_ids import JOB, new_transfer_id
from tests.coordinator.chain.logs import rows
from tests.coordinator.flows.test_activity import seal
from tests.support.flows import Market, set_parameter
from tests.support.transfers import signed_of

NAMES = ("alice", "carol", "dora")
LEAVES = """SELECT seq, leaf_index, id, debit_id, credit_id, amount_units
FROM leaves JOIN transfers ON id = ref_id ORDER BY seq"""


def pay(tx: Tx, debit: str, credit: str, units: int) -> str:
    transfer_id = new_transfer_id(tx.now_ms)
    ledger.transfer(tx, transfer_id, debit, credit, units, ref=signed_of())
    return transfer_id


@pytest.fixture
def paid(market: Market) -> list[Any]:
    """Every transfer there is, oldest first: three blocks, and two that wait for theirs."""
    for name in NAMES:
        market.client(name)
    for debit, credit, count in (("alice", "carol", 3), ("carol", "dora", 1), ("dora", "alice", 2)):
        seal(market)
        for number in range(count):
            market.clock.advance(1)
            market.db.write_sync(pay, debit, credit, number + 1)
    while (made := market.db.read_sync(activity.draft_activity)) is not None:
        assert market.db.write_sync(activity.write_activity, made)
    return list(market.db.read_sync(rows, LEAVES))


def pages(market: Market, listed: Callable[..., Page], *of: Any, limit: int) -> list[Any]:
    """The whole list by its cursors; and by offsets it is the same."""
    found: list[Any] = []
    cursor, more = None, True
    while more:
        page = market.db.read_sync(listed, *of, cursor, limit, 0)
        by_offset = market.db.read_sync(listed, *of, None, limit, len(found))
        assert page.items == by_offset.items
        found += page.items
        cursor, more = page.cursor, page.cursor is not None
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_lists_of_transfers(market: Market, paid: list[Any], limit: int) -> None:
    newest = [row.id for row in reversed(paid)]
    shown = pages(market, explorer.transactions, limit=limit)
    assert [one.row.id for one in shown] == newest
    for block in market.db.read_sync(queries.blocks, None, 100):
        span = market.db.read_sync(lambda tx, at=block.first_leaf: queries.Spans(tx).of(at))
        sealed = [one.row.id for one in shown if one.block is not None and one.block.height == block.height]
        expected = [
            row.id
            for row in reversed(paid)
            if row.leaf_index is not None and block.first_leaf <= row.leaf_index < block.tree_size
        ]
        assert sealed == expected
        if span is not None and span.height == block.height:
            of_block = pages(market, explorer.transactions_of_block, span, limit=limit)
            assert [one.row.id for one in of_block] == expected
    assert sum(one.block is None for one in shown) == 2
    for name in NAMES:
        own = [row for row in reversed(paid) if name in (row.debit_id, row.credit_id)]
        assert [one.row.id for one in pages(market, explorer.transactions_of_address, name, limit=limit)] == [
            row.id for row in own
        ]


def test_one_transfer_by_its_names(market: Market, paid: list[Any]) -> None:
    for row in paid:
        shown = market.db.read_sync(explorer.transaction, row.id)
        assert (shown.row.id, shown.row.seq, shown.row.amount_units) == (row.id, row.seq, row.amount_units)
        if row.leaf_index is not None:
            assert market.db.read_sync(explorer.transaction, shown.row.hash.hex()) == shown
    for unknown in ("nobody", "0" * 64):
        with pytest.raises(TransactionNotFound):
            market.db.read_sync(explorer.transaction, unknown)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_addresses_are_those_of_sealed_transfers_last_come_first(
    market: Market, paid: list[Any], limit: int
) -> None:
    sealed = [row for row in paid if row.leaf_index is not None]
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for row in sealed:
        for name in {row.debit_id, row.credit_id}:
            first.setdefault(name, row.leaf_index)
            count[name] = count.get(name, 0) + 1
    expected = sorted(first, key=lambda name: (first[name], name), reverse=True)
    shown = pages(market, explorer.addresses, limit=limit)
    assert [one.id for one in shown] == expected
    for one in shown:
        assert market.db.read_sync(explorer.address, one.id) == one
        assert (one.transactions, one.balance_units) == (count[one.id], market.balance(one.id).balance_units)
    with pytest.raises(AccountNotFound):
        market.db.read_sync(explorer.address, "nobody")


def found_by(market: Market, text: str) -> set[tuple[str, str]]:
    found = market.db.read_sync(explorer.search, text)
    assert len(found) == len(set(found))
    return {(one.type, one.id) for one in found}


def test_a_search_finds_what_a_name_is_of(market: Market, paid: list[Any]) -> None:
    seal(market)
    alice, miner = market.client("alice"), market.miner(account="carol")
    job = market.submit(alice)
    market.take(miner)
    receipt = market.complete(miner, job.id)
    seal(market)
    newest = market.db.read_sync(queries.blocks, None, 1)[0]
    assert found_by(market, "0") == {("block", "0")}
    assert found_by(market, str(newest.height)) == {("block", str(newest.height))}
    assert found_by(market, str(newest.height + 1)) == set()
    assert found_by(market, f"  {newest.hash.upper()} ") == {("block", str(newest.height))}
    assert ("block", str(newest.height)) in found_by(market, newest.hash[:8])
    for row in paid[:3]:
        shown = market.db.read_sync(explorer.transaction, row.id)
        for name in (row.id, shown.row.hash.hex(), shown.row.hash.hex()[:12].upper()):
            assert found_by(market, name) == {("transaction", row.id)}
    assert found_by(market, "alice") == {("address", "alice")}
    assert found_by(market, receipt.id) == {("receipt", receipt.id)}
    of_job = found_by(market, job.id)
    assert ("receipt", receipt.id) in of_job
    moved = {row.id for row in market.db.read_sync(rows, LEAVES) if row.id not in {one.id for one in paid}}
    assert {("transaction", one) for one in moved} >= of_job - {("receipt", receipt.id)} != set()
    leaf = market.db.read_sync(queries.leaf_of, "parameter:1")
    assert leaf is not None and leaf.leaf_index == 0
    for name in ("parameter:1", leaf.hash.hex(), leaf.hash.hex()[:12]):
        assert found_by(market, name) == {("block", "1")}, "which sealed the change"
    market.db.write_sync(set_parameter, "fee_bps", 7)
    for nothing in ("", "nobody", "abc", "9" * 30, "parameter:3"):
        assert found_by(market, nothing) == set()


def test_what_is_shown_of_a_reference(market: Market) -> None:
    """A job's, and what an operator said for everybody; a grant needs no reason, the rest is the parties'."""
    alice, miner = market.client("alice"), market.miner(account="carol")
    job = market.submit(alice)
    market.take(miner)
    market.complete(miner, job.id)
    market.db.write_sync(ledger.open_account, "dora")
    market.db.write_sync(pay, "alice", "dora", 1)
    shown = market.db.read_sync(explorer.transactions, None, 100, 0).items
    by_kind: dict[str, set[tuple[str | None, str | None]]] = {}
    for one in shown:
        by_kind.setdefault(one.row.kind, set()).add((one.job_id, one.reason))
    assert by_kind.pop("mint") == {(None, None)}
    assert by_kind.pop("transfer") == {(None, None)}
    assert set(by_kind) >= {"hold", "post"}
    assert set(by_kind) <= JOB.kinds
    assert all(pairs == {(job.id, None)} for pairs in by_kind.values())
