"""Who may give back how much of a payment, and when; a refusal moves nothing."""

from typing import Any

import pytest
from sqlalchemy import update

from aitbc.coordinator.errors import (
    Forbidden,
    JobAnswered,
    JobNotCompleted,
    JobStillOpen,
    PaymentAlreadyRefunded,
    PaymentAlreadyReleased,
    PaymentNotFound,
    RefundTooLarge,
)
from aitbc.coordinator.flows.acts import payment
from aitbc.coordinator.flows.acts.payment import PaymentView
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.payments import service as payments
from aitbc.coordinator.payments.models import STATUSES, TRANSITIONS, Payment
from aitbc.core.clock import ManualClock
from tests.support.flows import MODEL, UNITS, Market, Provider

PRICE = 1_000_000  # per 1000 tokens


class Desk:
    """A client, her miner, and a payment by hand for one job."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.alice, self.stranger = market.client(), market.client("mallory")
        self.miner: Provider = market.miner(models={MODEL: PRICE})
        self.job = market.submit(self.alice, cap=2 * PRICE, payment="manual")
        self.id = market.db.write_sync(payment.open_escrow, self.alice, self.job.id).id

    def answered(self) -> PaymentView:
        self.market.take(self.miner)
        self.market.complete(self.miner, self.job.id)
        return self.shown()

    def shown(self) -> PaymentView:
        return self.market.db.read_sync(payment.show, self.alice, self.id)

    def refund(self, amount: int | None = None, by: Any = None) -> PaymentView:
        return self.market.db.write_sync(payment.refund, by or self.miner.principal, self.id, amount)

    def refuses(self, error: type[Exception], amount: int | None = None, by: Any = None) -> None:
        before = self.shown(), self.money()
        with pytest.raises(error):
            self.refund(amount, by)
        assert (self.shown(), self.money()) == before

    def money(self) -> list[tuple[int, int]]:
        """(balance, held) of the payer, the payee and the treasury."""
        found = [self.market.balance(name) for name in ("alice", "owner-m1", TREASURY)]
        return [(one.balance_units, one.held_units) for one in found]


@pytest.fixture
def desk(market: Market) -> Desk:
    return Desk(market)


def test_a_refund_is_above_nothing_and_at_most_the_price(desk: Desk) -> None:
    price = desk.answered().price_units
    assert price > 2
    for amount in (0, -1, price + 1):
        desk.refuses(RefundTooLarge, amount)
    ended = desk.refund(price)
    assert (ended.status, ended.refunded_units, ended.fee_units) == ("refunded", price, 0)
    assert desk.money() == [(UNITS, 0), (0, 0), (0, 0)]
    desk.refuses(PaymentAlreadyRefunded)
    desk.market.check()


def test_all_of_it_where_no_amount_is_said(desk: Desk) -> None:
    price = desk.answered().price_units
    assert desk.refund().refunded_units == price
    assert desk.money() == [(UNITS, 0), (0, 0), (0, 0)]
    desk.market.check()


@pytest.mark.parametrize("kept", [1, 2])
def test_of_a_part_the_fee_is_its_share(desk: Desk, kept: int) -> None:
    view = desk.answered()
    price, paid = view.price_units, view.price_units * kept // 3
    fee = view.fee_units * paid // price
    ended = desk.refund(price - paid)
    assert (ended.status, ended.refunded_units, ended.fee_units) == ("partially_refunded", price - paid, fee)
    assert desk.money() == [(UNITS - paid, 0), (paid - fee, 0), (fee, 0)]
    desk.refuses(PaymentAlreadyReleased, 1)
    desk.market.check()


def test_the_payer_gets_it_back_with_the_jobs_end_alone(desk: Desk) -> None:
    desk.refuses(JobStillOpen, by=desk.alice)
    desk.refuses(PaymentNotFound, by=desk.stranger)
    desk.market.cancel(desk.alice, desk.job.id)
    ended = desk.shown()
    assert (ended.status, desk.money()[0]) == ("refunded", (UNITS, 0))
    assert desk.refund(by=desk.alice) == ended, "it has happened, and is shown again"
    desk.market.check()


def test_the_payer_of_an_answer_takes_nothing_back(desk: Desk) -> None:
    desk.answered()
    desk.refuses(JobAnswered, by=desk.alice)
    desk.refuses(PaymentNotFound, by=desk.stranger)
    with pytest.raises(Forbidden):
        desk.market.db.write_sync(payment.release, desk.miner.principal, desk.id)
    assert desk.shown().status == "escrowed"


def test_nothing_is_given_back_or_paid_before_the_answer(desk: Desk) -> None:
    desk.market.take(desk.miner)
    desk.refuses(JobNotCompleted)
    with pytest.raises(JobNotCompleted):
        desk.market.db.write_sync(payment.release, desk.alice, desk.id)
    assert desk.shown().status == "escrowed"


def test_the_clock_releases_at_the_windows_end_and_not_before(desk: Desk, clock: ManualClock) -> None:
    view = desk.answered()
    window_s = (view.release_after_ms - clock.now_ms()) / 1000
    clock.advance(window_s - 1)
    assert desk.market.db.write_sync(payment.release_due) == 0
    clock.advance(1)
    assert desk.market.db.write_sync(payment.release_due) == 1
    assert desk.shown().status == "released"
    fee = view.fee_units
    assert desk.money() == [(UNITS - view.price_units, 0), (view.price_units - fee, 0), (fee, 0)]
    assert desk.market.db.write_sync(payment.release_due) == 0
    desk.market.check()


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_payment_moves_as_the_table_says(market: Market, before: str, after: str) -> None:
    """Whatever its caller believes, and with the row as it is."""
    desk = Desk(market)
    market.db.write_sync(
        lambda tx: tx.change(update(Payment).where(Payment.id == desk.id).values(status=before))  # type: ignore[arg-type]
    )
    row = market.db.read_sync(payments.get, desk.id)
    assert row is not None
    if after == "escrowed":
        moved = market.db.write_sync(payments.escrow, desk.id)
    else:
        moved = market.db.write_sync(payments.end, row, after, refunded_units=0, fee_units=0, transfer_id="t")
    assert moved is (after in TRANSITIONS[before])
    now = market.db.read_sync(payments.get, desk.id)
    assert now is not None and now.status == (after if moved else before)
