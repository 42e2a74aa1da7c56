"""Twenty threads at one payment, on both databases: the money moves once, whoever wins."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import job_lifecycle, payment
from aitbc.coordinator.payments import service as payments
from aitbc.core.clock import ManualClock
from tests.support.flows import MODEL, UNITS, Market, spec_of

PRICE = 1_000_000  # per 1000 tokens


def code_of(act: Callable[[], Any]) -> str:
    try:
        act()
    except AitbcError as error:
        return error.code
    return "done"


@pytest.mark.parametrize("answered", [True, False])
def test_the_money_moves_once(market: Market, clock: ManualClock, answered: bool) -> None:
    alice, miner = market.client(), market.miner(models={MODEL: PRICE})
    spec = spec_of(cap=2 * PRICE)._replace(manual_payment=True)
    job = market.db.write_sync(job_lifecycle.submit, market.ctx, alice, spec)
    view = market.db.write_sync(payment.open_escrow, alice, job.id)
    market.take(miner)
    if answered:
        market.complete(miner, job.id)
        clock.advance(4 * 86_400)
    write = market.db.write_sync
    acts: list[Callable[[], Any]] = [
        lambda: write(payment.release, alice, view.id),
        lambda: write(payment.refund, miner.principal, view.id, None),
        lambda: write(payment.refund, miner.principal, view.id, 1),
        lambda: write(payment.release_due) and None,
        lambda: market.cancel(alice, job.id) if not answered else None,
        lambda: market.complete(miner, job.id) if not answered else None,
    ]
    with ThreadPoolExecutor(20) as threads:
        codes = list(threads.map(code_of, [acts[n % len(acts)] for n in range(20)]))
    assert set(codes) <= {
        "done",
        "JOB_NOT_CANCELLABLE",
        "JOB_NOT_COMPLETED",
        "JOB_NOT_RUNNING",
        "PAYMENT_ALREADY_RELEASED",
        "PAYMENT_ALREADY_REFUNDED",
    }
    ended = market.db.read_sync(payment.show, alice, view.id)
    if ended.status == "escrowed":  # answered last of all, so nobody could move it
        ended = write(payment.release, alice, view.id)
    paid = ended.price_units - ended.refunded_units if ended.receipt_id else 0
    balance = market.balance("alice")
    assert (balance.balance_units, balance.held_units) == (UNITS - paid, 0)
    fee = ended.fee_units if paid else 0
    assert market.balance("owner-m1").balance_units == paid - fee
    market.check()


def test_what_another_coordinator_released_meanwhile_is_passed_over(
    market: Market, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them see the same payment due; the second to come finds it moved, and goes on with the next."""
    alice, miner = market.client(), market.miner(models={MODEL: PRICE}, concurrency=2)
    views = []
    for _ in range(2):
        spec = spec_of(cap=2 * PRICE)._replace(manual_payment=True)
        job = market.db.write_sync(job_lifecycle.submit, market.ctx, alice, spec)
        views.append(market.db.write_sync(payment.open_escrow, alice, job.id))
        market.take(miner)
        market.complete(miner, job.id)
    clock.advance(4 * 86_400)
    seen_before = market.db.read_sync(payments.due, 100)
    assert [row.id for row in seen_before] == [view.id for view in views]
    market.db.write_sync(payment.release, alice, views[0].id)
    paid_once = market.balance("owner-m1")
    monkeypatch.setattr(payments, "due", lambda _tx, _count: seen_before)
    assert market.db.write_sync(payment.release_due) == 2
    after = [market.db.read_sync(payment.show, alice, view.id) for view in views]
    assert [view.status for view in after] == ["released", "released"]
    paid_for_one = after[0].price_units - after[0].fee_units
    assert market.balance("owner-m1").balance_units == paid_once.balance_units + paid_for_one
    assert market.db.write_sync(payment.release_due) == 2, "and once more: nothing is left to move"
    assert market.balance("owner-m1").balance_units == paid_once.balance_units + paid_for_one
    market.check()


def test_a_payment_moves_from_where_it_was_seen_and_no_other_does(market: Market) -> None:
    """Every move is guarded by the state before it: who looks at an old row moves nothing."""
    alice = market.client()
    write, read = market.db.write_sync, market.db.read_sync
    jobs = [market.submit(alice, payment="manual") for _ in range(2)]
    rows = [read(payments.of_job, job.id) for job in jobs]
    assert rows[0] is not None
    assert rows[1] is not None
    pending, other = rows[0], rows[1]

    def end(seen: payments.PaymentRow) -> bool:
        return write(
            lambda tx: payments.end(tx, seen, "released", refunded_units=1, fee_units=2, transfer_id="t")
        )

    def price() -> bool:
        return write(lambda tx: payments.set_price(tx, pending.id, "owner", 7, 2, 9_000))

    assert not price(), "nothing is held yet"
    assert write(payments.escrow, pending.id)
    assert not write(payments.escrow, pending.id)
    assert not end(pending)
    market.clock.advance(5)
    assert price()
    priced = pending._replace(
        status="escrowed",
        payee_id="owner",
        price_units=7,
        fee_units=2,
        release_after_ms=9_000,
        updated_at_ms=market.clock.now_ms(),
    )
    assert read(payments.get, pending.id) == priced
    market.clock.advance(5)
    assert end(priced)
    ended = priced._replace(
        status="released", refunded_units=1, transfer_id="t", updated_at_ms=market.clock.now_ms()
    )
    assert read(payments.get, pending.id) == ended
    assert (end(priced), price(), write(payments.escrow, pending.id)) == (False, False, False)
    assert read(payments.get, pending.id) == read(payments.of_job, jobs[0].id) == ended
    assert read(payments.get, other.id) == other


def test_payments_fall_due_to_the_millisecond_earliest_first(market: Market) -> None:
    alice, now = market.client(), market.clock.now_ms()
    ids = []
    for after_ms in (3_000, 1_000, 0, 2_000, 1_000):  # 0: not yet answered
        job = market.submit(alice, payment="manual")
        row = market.db.read_sync(payments.of_job, job.id)
        assert row is not None
        ids.append(row.id)
        market.db.write_sync(payments.escrow, row.id)
        if after_ms:
            market.db.write_sync(payments.set_price, row.id, "owner", 7, 2, now + after_ms)

    def due(most: int = 100) -> list[int]:
        return [ids.index(row.id) for row in market.db.read_sync(payments.due, most)]

    market.clock.advance(0.999)
    assert due() == []
    market.clock.advance(0.001)
    assert due() == sorted((1, 4), key=lambda at: ids[at])
    market.clock.advance(2)
    assert due() == [*sorted((1, 4), key=lambda at: ids[at]), 3, 0]
    assert len(due(2)) == 2


@pytest.mark.parametrize("past_ms", [0, 1, 999])
def test_the_window_ends_on_a_whole_second_and_never_sooner(market: Market, past_ms: int) -> None:
    alice, miner = market.client(), market.miner(models={MODEL: PRICE})
    spec = spec_of(cap=2 * PRICE)._replace(manual_payment=True)
    job = market.db.write_sync(job_lifecycle.submit, market.ctx, alice, spec)
    view = market.db.write_sync(payment.open_escrow, alice, job.id)
    market.take(miner)
    market.clock.advance(past_ms / 1000)
    market.complete(miner, job.id)
    after_ms = market.db.read_sync(payment.show, alice, view.id).release_after_ms
    left_ms = after_ms - market.clock.now_ms() - market.ctx.acceptance_ms
    assert (after_ms % 1000, left_ms) == (0, -past_ms % 1000)
