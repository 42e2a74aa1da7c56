"""What a job costs that is cancelled while it runs: what had been generated, as far as anybody can see."""

import itertools

import pytest

from aitbc.coordinator.flows.acts import payment
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.metering import CANCELLED_TOKENS_PER_S, MOST_TOKENS_PER_S, cancelled_units
from tests.support.flows import MODEL, Market, Provider, set_parameter

ASK = 1000  # per 1000 tokens: a base unit for each token
PROMPT_UNITS = 4  # of {"prompt":"hi"}, 15 bytes, at a token for four


@pytest.fixture
def miner(market: Market) -> Provider:
    return market.miner(models={"llama": ASK}, concurrency=8)


def running(market: Market, miner: Provider, max_tokens: int = 1000, **options: object) -> JobRow:
    job = market.submit(market.client(), max_tokens=max_tokens, cap=ASK, **options)
    assert [one.id for one in market.take(miner)] == [job.id]
    return job


def report(market: Market, miner: Provider, job: JobRow, tokens: int) -> None:
    market.heartbeat(miner, [job.id], progress={job.id: tokens})


def cancel(market: Market, job: JobRow) -> JobRow:
    """Cancels it, and holds the books and the audit to what it cost."""
    before = {name: market.balance(name).balance_units for name in ("alice", "owner-m1", "system:treasury")}
    ended = market.cancel(market.client(), job.id)
    after = {name: market.balance(name).balance_units - units for name, units in before.items()}
    fee = ended.price_units // 10
    assert after == {"alice": -ended.price_units, "owner-m1": ended.price_units - fee, "system:treasury": fee}
    assert market.balance("alice").held_units == 0
    assert (ended.status, ended.receipt_id) == ("cancelled", "")
    market.check()
    return ended


def test_a_run_costs_its_prompt_and_what_was_reported_of_it(market: Market, miner: Provider) -> None:
    job = running(market, miner)
    market.clock.advance(10)
    report(market, miner, job, 300)
    market.clock.advance(5)
    assert cancel(market, job).price_units == PROMPT_UNITS + 450, "it went on as fast as before"


def test_a_cancelled_run_pays_the_fee_of_its_claim(market: Market, miner: Provider) -> None:
    job = running(market, miner)
    market.clock.advance(10)
    market.db.write_sync(set_parameter, "fee_bps", 5000)
    cancel(market, job)


def test_without_a_report_a_run_counts_as_slow(market: Market, miner: Provider) -> None:
    job = running(market, miner)
    market.clock.advance(10)
    assert cancel(market, job).price_units == PROMPT_UNITS + 10 * CANCELLED_TOKENS_PER_S


def test_an_engine_that_still_loads_has_generated_nothing(market: Market, miner: Provider) -> None:
    job = running(market, miner)
    market.clock.advance(10)
    report(market, miner, job, 0)
    assert cancel(market, job).price_units == PROMPT_UNITS


def test_a_miner_that_lies_gains_no_more_than_a_fast_one_and_never_more_than_the_answer(
    market: Market, miner: Provider
) -> None:
    quick = running(market, miner)
    market.clock.advance(2)
    report(market, miner, quick, 10**15)
    assert cancel(market, quick).price_units == PROMPT_UNITS + 2 * MOST_TOKENS_PER_S
    short = running(market, miner, max_tokens=20)
    market.clock.advance(50)
    report(market, miner, short, 10**15)
    assert cancel(market, short).price_units == PROMPT_UNITS + 20


def test_a_report_may_not_go_back_and_ends_with_its_run(market: Market, miner: Provider) -> None:
    job = running(market, miner)
    market.clock.advance(10)
    report(market, miner, job, 500)
    market.clock.advance(10)
    report(market, miner, job, 1)
    assert market.job(job.id).progress_tokens == 500
    market.fail(miner, job.id)
    market.pass_time(2)
    assert market.take(miner)
    market.clock.advance(10)
    assert cancel(market, job).price_units == PROMPT_UNITS + 10 * CANCELLED_TOKENS_PER_S


def test_a_silent_miner_is_owed_nothing_past_its_lease_nor_for_a_clock_that_jumped(
    market: Market, miner: Provider
) -> None:
    job = running(market, miner, max_tokens=30_000)
    market.clock.jump(4 * 86_400)
    assert cancel(market, job).price_units == PROMPT_UNITS + 60 * CANCELLED_TOKENS_PER_S


def test_cancelling_again_and_again_is_paid_each_time(market: Market, miner: Provider) -> None:
    for _ in range(5):
        job = running(market, miner)
        market.clock.advance(0.2)
        assert cancel(market, job).price_units == PROMPT_UNITS + 2


def test_what_waits_costs_nothing(market: Market, miner: Provider) -> None:
    job = market.submit(market.client(), cap=ASK)
    market.clock.advance(100)
    assert cancel(market, job).price_units == 0
    tried = running(market, miner)
    market.clock.advance(10)
    market.fail(miner, tried.id)
    assert cancel(market, tried).price_units == 0


def test_a_key_s_limit_gets_back_what_was_not_used(market: Market, miner: Provider) -> None:
    client = market.client("alice", limit=3000)
    for _ in range(2):  # the worst case of two would be more than the limit
        job = market.submit(client, max_tokens=2000, cap=ASK)
        market.take(miner)
        market.clock.advance(1)
        market.cancel(client, job.id)
    market.check()


def test_a_manual_payment_is_released_for_the_part_that_ran(market: Market, miner: Provider) -> None:
    client = market.client()
    job = market.submit(client, max_tokens=1000, cap=ASK, payment="manual")
    view = market.db.write_sync(payment.open_escrow, client, job.id)
    market.take(miner)
    market.clock.advance(10)
    price = cancel(market, job).price_units
    shown = market.db.read_sync(payment.show, client, view.id)
    assert (shown.status, shown.price_units, shown.refunded_units) == ("released", price, 0)
    assert shown.payee_id == "owner-m1" and shown.fee_units == price // 10


def test_the_rule_is_monotonic_and_bounded() -> None:
    for prompt, most, run, tokens, at in itertools.product(
        (0, 1, 15), (0, 7, 10**6), (0, 1, 999, 60_000, 10**9), (0, 3, 10**15), (0, 1, 500)
    ):
        units = cancelled_units(prompt, most, run, tokens, at)
        assert 0 <= units <= -(-prompt // 4) + most
        assert units <= cancelled_units(prompt, most, run + 1000, tokens, at)


def test_what_moved_for_a_job_names_it(market: Market) -> None:
    """However it ended: by that a statement and the explorer know what the money was for."""
    client, miner = market.client(), market.miner(models={MODEL: 1_000_000}, concurrency=3)
    jobs = [market.submit(client, cap=1_000_000) for _ in range(3)]
    waits = market.submit(client, cap=1_000_000)
    market.take(miner, 3)
    market.clock.advance(5)
    market.heartbeat(miner, [job.id for job in jobs], progress={jobs[0].id: 4})
    market.cancel(client, jobs[0].id)
    market.complete(miner, jobs[1].id)
    for job in (jobs[2], waits):
        market.cancel(client, job.id)
    kinds = []
    for job in (*jobs, waits):
        lines = market.db.read_sync(ledger.lines_of_hold, job.hold_id)
        assert {line.ref for line in (market.db.read_sync(ledger.line, job.hold_id), *lines)} == {job.id}
        kinds.append([line.kind for line in lines])
    assert kinds[0] == kinds[1] == ["post", "fee"]
    assert kinds[3] == ["void"]
