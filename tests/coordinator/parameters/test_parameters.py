"""The network's parameters: defaults within bounds, and a history of every change."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text

from aitbc.audit.database import audit
from aitbc.audit.leaf_kinds import ParameterKind
from aitbc.coordinator.chain import queries, sealer
from aitbc.coordinator.database import Database, Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.flows.acts import registration
from aitbc.coordinator.flows.views import log_entries
from aitbc.coordinator.miners.rows import MinerSpec, ModelSpec
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.parameters.models import REF, ParameterChange
from aitbc.coordinator.parameters.service import DEFINITIONS, Change
from aitbc.core.clock import ManualClock
from aitbc.core.log.leaf import PARAMETER, parameter_leaf
from tests.support.flows import CHAIN, KEY, Market, found, open_market, set_parameter

_table = table_of(ParameterChange)


def history(tx: Tx) -> list[Change]:
    return [Change(*row) for row in tx.query(select(*_table.columns).order_by(_table.c.number))]


def test_every_default_is_within_its_bounds() -> None:
    for name, definition in DEFINITIONS.items():
        assert definition.name == name
        assert definition.low <= definition.default <= definition.high, name
        assert definition.high < 2**63, f"{name} must fit its column"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_both_bounds_are_taken_and_nothing_beyond_them(db: Database, name: str) -> None:
    low, high = DEFINITIONS[name].low, DEFINITIONS[name].high
    for value in (low, high, DEFINITIONS[name].default):
        db.write_sync(set_parameter, name, value)
        assert db.read_sync(parameters.get, name) == value
        assert db.read_sync(parameters.usual, name) == value
    for value in (low - 1, high + 1, -(2**62), 2**62, True, 0.5, "1", None):
        with pytest.raises(InvalidRequest):
            db.write_sync(set_parameter, name, value)
        assert db.read_sync(parameters.get, name) == DEFINITIONS[name].default


def test_an_unknown_parameter_is_refused(db: Database) -> None:
    with pytest.raises(InvalidRequest):
        db.write_sync(set_parameter, "no_such_parameter", 1)
    assert {name: db.read_sync(parameters.get, name) for name in DEFINITIONS} == {
        name: d.default for name, d in DEFINITIONS.items()
    }
    assert db.read_sync(history) == []


@pytest.mark.parametrize(("by", "reason"), [("", "x"), ("x" * 101, "x"), ("x", " \n "), ("x", "x" * 201)])
def test_who_and_why_are_said(db: Database, by: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match="everybody can read it"):
        db.write_sync(parameters.set_value, "fee_bps", 1, by, reason)
    assert db.read_sync(history) == []


def test_each_change_stands_with_what_it_was_before(db: Database, clock: ManualClock) -> None:
    at_ms = clock.now_ms()
    first = db.write_sync(parameters.set_value, "fee_bps", 300, "operator", "a  try\nof \x1b it")
    clock.jump(-3600)  # a clock that is set back puts no change before the one before
    second = db.write_sync(parameters.set_value, "min_transaction_fee", 0, "operator", "free")
    clock.jump(7200)
    third = db.write_sync(parameters.set_value, "fee_bps", 250, "proposal:7", "as before")
    assert [first, second, third] == db.read_sync(history)
    assert first == Change(1, "fee_bps", 250, 300, at_ms, "operator", "a try of \N{REPLACEMENT CHARACTER} it")
    assert second == Change(
        2, "min_transaction_fee", DEFINITIONS["min_transaction_fee"].default, 0, at_ms, "operator", "free"
    )
    assert third == Change(3, "fee_bps", 300, 250, at_ms + 3_600_000, "proposal:7", "as before")
    assert db.write_sync(parameters.set_value, "fee_bps", 250, "operator", "again") is None
    assert len(db.read_sync(history)) == 3, "nothing changed, so nothing is written"
    assert db.read_sync(parameters.standing)[0] == (DEFINITIONS["fee_bps"], 250, third)


def test_a_change_is_a_leaf_of_the_log(db: Database) -> None:
    db.write_sync(open_market)
    db.write_sync(found)
    change = db.write_sync(parameters.set_value, "fee_bps", 300, "operator", "a try")
    made = db.read_sync(sealer.draft, CHAIN, KEY)
    assert made is not None and db.write_sync(sealer.seal, made)
    assert (made.block.contents, made.block.tree_size) == ('{"parameters":1}', 1)
    leaf = db.read_sync(queries.leaf_of, "parameter:1")
    assert leaf is not None and leaf.kind == PARAMETER
    assert db.read_sync(log_entries.leaves, 0, 1) == [parameter_leaf(*change)]
    report = db.read_sync(audit, CHAIN)
    assert report.ok and report.counts["parameters"] == 1, report.problems


def test_a_change_that_fails_later_leaves_no_leaf(db: Database) -> None:
    def fails(tx: Tx) -> None:
        set_parameter(tx, "fee_bps", 1)
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        db.write_sync(fails)
    assert db.read_sync(history) == []
    assert db.read_sync(queries.leaf_of, "parameter:1") is None


@pytest.mark.parametrize(
    "sql", ["UPDATE parameter_changes SET value_after = 1", "DELETE FROM parameter_changes"]
)
def test_the_history_is_append_only(db: Database, sql: str) -> None:
    db.write_sync(set_parameter, "fee_bps", 300)
    with pytest.raises(Exception, match="append-only"):
        db.write_sync(lambda tx: tx._cursor.execute(sql))
    assert [change.value_after for change in db.read_sync(history)] == [300]


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 FROM leaves LEFT JOIN parameter_changes ON {ref} = ref_id AND kind = 2",
        "SELECT 1 FROM leaves JOIN parameter_changes ON {ref} = ref_id WHERE kind = 2 AND leaf_index < 9",
    ],
)
def test_a_leafs_change_is_looked_up(db: Database, query: str) -> None:
    """Without it the audit would read the whole history at each leaf, and so would who is served an entry."""
    refs = {REF, ParameterKind.ref}
    assert {ref.replace("parameter_changes.", "") for ref in refs} == {REF}
    for ref in refs:
        plan = statement(text(f"EXPLAIN QUERY PLAN {query.format(ref=ref)}"))
        found = "\n".join(str(row.detail) for row in db.read_sync(Tx.all, plan))
        assert "SEARCH parameter_changes USING INDEX ux_parameter_changes_ref" in found


def test_two_coordinators_give_each_number_once(db: Database, database_url: str, clock: ManualClock) -> None:
    """They change parameters at the same time: the numbers have no gap, and each change knows what was before it."""
    other = Database.open(database_url, clock=clock)

    def change_many(one: Database, first: int) -> None:
        for value in range(first, first + 20):
            one.write_sync(set_parameter, "fee_bps", value)

    with ThreadPoolExecutor(4) as threads:
        running = [
            threads.submit(change_many, one, first)
            for one, first in ((db, 1000), (other, 2000), (db, 3000), (other, 4000))
        ]
        for each in running:
            each.result()
    changes = db.read_sync(history)
    assert [change.number for change in changes] == list(range(1, 81))
    assert {change.value_after for change in changes} == {
        first + more for first in (1000, 2000, 3000, 4000) for more in range(20)
    }
    before = 250
    for change in changes:
        assert change.value_before == before
        before = change.value_after
    db.write_sync(open_market)
    db.write_sync(found)
    report = db.read_sync(audit, CHAIN)
    assert report.ok, report.problems
    other.close()


def test_a_change_holds_from_the_next_job_on_for_every_coordinator(
    db: Database, database_url: str, clock: ManualClock
) -> None:
    """The one where it was made, another that runs beside it, and no job that runs already."""
    one = Market(db, clock)
    other_db = Database.open(database_url, clock=clock)
    other = Market(other_db, clock, fee_bps=None)
    client, miner = one.client(), one.miner(models={"llama": 100_000}, concurrency=9)
    price, cap = "default_price_per_1k_tokens", "default_max_price_per_1k_tokens"
    running = [one.submit(client, cap=100_000).id, one.submit(client, cap=100_000).id]
    one.take(miner, 2)
    for market in (one, other):  # each has looked before
        assert market.submit(client, cap=None).max_price_units == DEFINITIONS[cap].default
    for round_, maker in enumerate((one, other, one), 1):
        maker.db.write_sync(set_parameter, "fee_bps", 1000 + round_)
        maker.db.write_sync(set_parameter, price, 5_000 + round_)
        maker.db.write_sync(set_parameter, cap, 200_000 + round_)
        for market in (one, other):
            job = market.submit(client, cap=None)
            assert job.max_price_units == 200_000 + round_
            market.claim(miner, job.id)
            assert market.job(job.id).fee_bps == 1000 + round_
            spec = MinerSpec(f"m{round_}-{market is one}", ("llm_inference",), (ModelSpec("llama", None),))
            _miner, (offer, *_) = market.db.write_sync(
                registration.register, market.ctx, miner.principal, spec
            )
            assert offer.price_units == 5_000 + round_
    assert [one.job(job_id).fee_bps for job_id in running] == [1000, 1000]
    for job_id in running:
        one.complete(miner, job_id)
    one.check()
    other_db.close()
