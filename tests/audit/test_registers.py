"""The fee, held to the history of parameters, and the history to itself."""

from __future__ import annotations

import pytest

from aitbc.audit.database import audit
from aitbc.audit.findings import Wrong
from aitbc.audit.parameters import KNOWN, Change, History
from aitbc.coordinator.parameters.service import DEFINITIONS
from tests.support.flows import CHAIN, Market, set_parameter

DAY_S = 86_400


def change(number: int, before: int | None, after: int, at_ms: int = 5, name: str = "fee_bps") -> Change:
    return Change(number, name, before, after, at_ms, "operator", "because")


def wrong_of(market: Market) -> str:
    return str(market.db.read_sync(audit, CHAIN).wrong)


def test_the_auditors_parameters_are_the_coordinators() -> None:
    assert {name: (one.default, one.high, one.low) for name, one in DEFINITIONS.items()} == KNOWN


@pytest.mark.parametrize("bps", [250, 999, 5_000])
def test_a_fee_that_was_not_in_force_when_the_run_began(market: Market, bps: int) -> None:
    """Jobs of before, between and after two changes, none of them paid, so that only the history tells."""
    alice, miner = market.client("alice"), market.miner("m1", "bob", {"llama": 1_000_000})
    jobs = []
    for fee_bps in (1_000, 500, 700):
        market.db.write_sync(set_parameter, "fee_bps", fee_bps)
        market.clock.advance(2 * DAY_S)
        job = market.submit(alice, cap=1_000_000)
        market.claim(miner, job.id)
        assert market.job(job.id).fee_bps == fee_bps
        market.cancel(alice, job.id)
        jobs.append(job.id)
        market.clock.advance(2 * DAY_S)
    market.check()
    for job_id, right in zip(jobs, (1_000, 500, 700), strict=True):
        tamper = "UPDATE jobs SET fee_bps = {} WHERE id = '{}'"
        market.db.write_sync(lambda tx, sql=tamper.format(bps, job_id): tx._cursor.execute(sql))
        assert (
            wrong_of(market)
            == f"job {job_id}: its fee is {bps} basis points; when its run began it was {right}"
        )
        market.db.write_sync(lambda tx, sql=tamper.format("NULL", job_id): tx._cursor.execute(sql))
        assert wrong_of(market) == f"job {job_id}: it runs or has run, and its fee is not fixed"
        market.db.write_sync(lambda tx, sql=tamper.format(right, job_id): tx._cursor.execute(sql))
    market.check()


LIES: dict[str, tuple[list[Change], str]] = {
    "a number left out": ([change(1, 250, 1), change(3, 1, 2)], "has the number 1"),
    "a number twice": ([change(1, 250, 1), change(1, 1, 2)], "has the number 1"),
    "another default": ([change(1, 251, 1)], "was 250 before it, and it says 251"),
    "not the value before": ([change(1, 250, 1), change(2, 250, 2)], "was 1 before it, and it says 250"),
    "nothing known any more": ([change(1, 250, 1), change(2, None, 2)], "was 1 before it, and it says None"),
    "no change": ([change(1, 250, 250)], "was 250 before it as well"),
    "beyond its bounds": ([change(1, 250, 5_001)], "cannot be 5001"),
    "below zero": ([change(1, 250, -1)], "cannot be -1"),
    "earlier than before": ([change(1, 250, 1, 9), change(2, 1, 2, 8)], "before the change before it"),
    "no number": ([change(1, 250, True)], "a number of it is none"),
    "without a reason": ([change(1, 250, 1)._replace(reason="")], "has no reason"),
    "no parameter": ([change(1, None, 1, name="mint_for_bob")], "there is no parameter mint_for_bob"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_history_that_does_not_follow_from_itself(what: str) -> None:
    changes, said = LIES[what]
    history = History()
    for one in changes[:-1]:
        history.take(one)
    with pytest.raises(Wrong) as wrong:
        history.take(changes[-1])
    assert said in wrong.value.what


def test_what_was_in_force_around_a_time() -> None:
    day = DAY_S * 1_000
    history = History(unknown=0)
    assert history.around("fee_bps", 0) == [250]
    for one in (
        change(1, 250, 1, 10 * day),
        change(2, None, 7, 10 * day, "min_transaction_fee"),
        change(3, 3, 4, 11 * day, "later_parameter"),
        change(4, 1, 2, 20 * day),
        change(5, 2, 3, 20 * day + 1),
    ):
        history.take(one)
    assert history.unknown == 1
    assert history.around("fee_bps", 9 * day - 1) == [250]
    assert history.around("fee_bps", 10 * day) == [250, 1]
    assert history.around("fee_bps", 11 * day) == [1]
    assert history.around("fee_bps", 20 * day) == [1, 2, 3]
    assert history.around("fee_bps", 2**62) == [3]
    assert history.around("min_transaction_fee", 0) == [None]
    assert history.around("min_transaction_fee", 12 * day) == [7]
