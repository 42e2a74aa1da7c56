"""A key's spending limit: what a job reserves of it comes back by exactly what the job did not cost."""

from collections.abc import Callable

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import list_keys
from aitbc.coordinator.errors import KeyLimitExceeded, PriceTooLarge
from aitbc.coordinator.flows.acts import job_lifecycle, payment
from aitbc.coordinator.flows.shared import escrow
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.money import EXACT_NUMBER_UNITS
from tests.support.flows import MODEL, Market, Provider, spec_of
from tests.support.transfers import job_of, uuid_of

CAP = 2_000_000  # base units per 1000 tokens, of which the miner asks half
LIMIT = 1_000_000

Act = Callable[["Desk", JobRow], object]


class Desk:
    """A client whose key may spend LIMIT a day, and a miner."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.client: Principal = market.client(limit=LIMIT)
        self.miner: Provider = market.miner(models={MODEL: CAP // 2})

    def spent(self) -> int:
        (key,) = self.market.db.read_sync(list_keys, account_id=self.client.account_id)
        return key.spent_units

    def submit(self, *, manual: bool = False) -> JobRow:
        spec = spec_of(cap=CAP)._replace(manual_payment=manual)
        job = self.market.db.write_sync(job_lifecycle.submit, self.market.ctx, self.client, spec)
        if manual:
            self.market.db.write_sync(payment.open_escrow, self.client, job.id)
        return self.market.job(job.id)

    def answered(self, job: JobRow) -> JobRow:
        self.market.take(self.miner)
        self.market.complete(self.miner, job.id)
        return self.market.job(job.id)


@pytest.fixture
def desk(market: Market) -> Desk:
    return Desk(market)


def test_an_answer_costs_the_key_its_price_and_no_more(desk: Desk) -> None:
    job = desk.submit()
    assert desk.spent() == job.held_units > 0
    answered = desk.answered(job)
    assert 0 < answered.price_units < job.held_units
    assert desk.spent() == answered.price_units


def end_by_cancel(desk: Desk, job: JobRow) -> None:
    desk.market.cancel(desk.client, job.id)


def end_by_time(desk: Desk, job: JobRow) -> None:
    desk.market.clock.advance(job.expires_at_ms - job.created_at_ms)
    desk.market.expire()


def end_by_failure(desk: Desk, job: JobRow) -> None:
    """Every try fails, each at another miner."""
    for number in range(desk.market.ctx.max_attempts):
        miner = desk.market.miner(f"f{number}", models={MODEL: CAP // 2})
        desk.market.take(miner)
        if desk.market.job(job.id).status == "running":
            desk.market.fail(miner, job.id)
        desk.market.clock.advance(60)


@pytest.mark.parametrize("end", [end_by_cancel, end_by_time, end_by_failure])
@pytest.mark.parametrize("manual", [False, True])
def test_a_job_without_an_answer_costs_the_key_nothing(desk: Desk, end: Act, manual: bool) -> None:
    job = desk.submit(manual=manual)
    assert desk.spent() == job.held_units > 0
    end(desk, job)
    assert desk.market.job(job.id).status in ("failed", "cancelled")
    assert desk.spent() == 0


def test_a_manual_payment_costs_the_key_what_is_paid_in_the_end(desk: Desk) -> None:
    released, refunded, halved = (desk.answered(desk.submit(manual=True)) for _ in range(3))
    price = released.price_units
    assert desk.spent() == sum(job.held_units for job in (released, refunded, halved))
    write = desk.market.db.write_sync
    write(payment.release, desk.client, released.hold_id)
    assert desk.spent() == price + refunded.held_units + halved.held_units
    write(payment.refund, desk.miner.principal, refunded.hold_id, None)
    assert desk.spent() == price + halved.held_units
    write(payment.refund, desk.miner.principal, halved.hold_id, 1)
    assert desk.spent() == price + price - 1


def test_what_came_back_can_be_spent_again(desk: Desk) -> None:
    """The limit holds the worst case of one job at a time: without the return a second would not fit."""
    worst = desk.submit()
    while desk.spent() + worst.held_units <= LIMIT:
        desk.submit()
    with pytest.raises(KeyLimitExceeded):
        desk.submit()
    desk.market.cancel(desk.client, worst.id)
    assert desk.submit().status == "pending"


def test_no_price_is_held_that_a_receipt_could_not_state(market: Market) -> None:
    client = market.client(units=EXACT_NUMBER_UNITS + 1)
    with pytest.raises(PriceTooLarge):
        market.db.write_sync(escrow.reserve, client, uuid_of("job"), EXACT_NUMBER_UNITS + 1)
    assert market.balance("alice").held_units == 0
    held = market.db.write_sync(escrow.reserve, client, uuid_of("job"), EXACT_NUMBER_UNITS)
    assert market.balance("alice").held_units == EXACT_NUMBER_UNITS
    assert market.db.read_sync(ledger.line, held.id).ref == job_of("job")
