"""Receipts by any filters: every page costs a bounded look, and the pages together are the whole list."""

import itertools
from typing import Any

import pytest

from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.receipts.service import ReceiptRow
from tests.support.flows import Market


@pytest.fixture
def made(market: Market) -> list[ReceiptRow]:
    """Of two clients, two miners of two accounts and two models, in a mixed order; newest first."""
    clients = [market.client(name) for name in ("alice", "bob")]
    miners = [market.miner(name, models={"a": 1, "b": 1}, concurrency=64) for name in ("m1", "m2")]
    for number, (client, miner, model) in enumerate(itertools.product(clients, miners, "ab")):
        for _ in range(1 + number % 3):
            market.clock.advance(0.01)
            job = market.submit(client, model=model)
            market.claim(miner, job.id)
            market.complete(miner, job.id)
    return market.receipts()


def walk(market: Market, limit: int, **filters: Any) -> list[ReceiptRow]:
    rows: list[ReceiptRow] = []
    before: str | None = None
    for _ in range(200):
        page = market.db.read_sync(receipts.find, limit=limit, before_id=before, **filters)
        assert len(page.rows) <= limit
        rows += page.rows
        before = page.next_before
        if before is None:
            return rows
    raise AssertionError("it does not end")


@pytest.mark.parametrize("looked_at", [3, 2_000])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_are_the_whole_list_for_every_filter(
    market: Market, made: list[ReceiptRow], limit: int, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "LOOKED_AT", looked_at)
    values = {
        "client": (None, "alice", "nobody"),
        "provider": (None, "owner-m2"),
        "miner_id": (None, "m1", "m2"),
        "model": (None, "b"),
        "job_id": (None, made[3].job_id),
    }
    columns = {"client": "client_id", "provider": "provider_id"}
    for chosen in itertools.product(*values.values()):
        filters = {name: value for name, value in zip(values, chosen, strict=True) if value is not None}
        wanted = [
            row
            for row in made
            if all(getattr(row, columns.get(name, name)) == value for name, value in filters.items())
        ]
        assert walk(market, limit, **filters) == wanted, filters


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["client", "provider", "miner_id", "model", "job_id"])
def test_one_filter_is_one_walk_along_an_index(market: Market, name: str) -> None:
    """No table is read through and nothing is sorted, so that a page costs the same among millions."""
    asked: list[str] = []

    def explained(tx: Any) -> list[str]:
        tx._cursor.connection.set_trace_callback(asked.append)
        receipts.find(tx, **{name: "x"}, before_id="y")
        tx._cursor.connection.set_trace_callback(None)
        (sql,) = [text for text in asked if text.startswith("SELECT")]
        return [row[3] for row in tx._cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]

    steps = market.db.read_sync(explained)
    assert len(steps) == 1
    assert "USING INDEX" in steps[0] and "SEARCH" in steps[0], steps
