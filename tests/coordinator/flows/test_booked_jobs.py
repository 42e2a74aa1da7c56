"""A booked GPU's jobs: only its booker's go there, at no price of their own, and they end with the booking."""

import json
from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    BookingEnded,
    BookingNotBegun,
    FreeJobsUsedUp,
    InvalidRequest,
    JobNotAvailable,
    JobNotFound,
)
from aitbc.coordinator.flows.acts import dispatch, gpu_booking, job_lifecycle
from aitbc.coordinator.flows.acts import market as clockwork
from aitbc.coordinator.flows.acts.dispatch import Taken
from aitbc.coordinator.flows.acts.gpu_booking import Booked, Wish
from aitbc.coordinator.flows.shared import own_jobs, retries
from aitbc.coordinator.flows.views import explain
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.rows import JobRow
from tests.support.flows import UNITS, Market, runtime_over, spec_of
from tests.support.market import HOUR_MS, HOUR_UNITS, Rentals, Rig


@pytest.fixture
def rentals(market: Market) -> Rentals:
    made = Rentals(market)
    made.round()
    return made


def test_only_the_bookers_jobs_go_to_a_booked_gpu(rentals: Rentals, market: Market) -> None:
    alice, bob = market.client(), market.client("bob")
    rig, free = rentals.rig(), market.miner("m2", concurrency=5)
    booked = rentals.book(alice, rig)
    holder = rentals.holder(booked)
    plain, reserved = market.submit(bob, priority=9), market.submit(holder)
    own = market.submit(alice, priority=9)  # with the booker's ordinary key: it is not for its GPU either
    with pytest.raises(JobNotAvailable) as refused:
        market.claim(rig.provider, plain.id)
    assert refused.value.details["reason"] == "RESERVED"
    with pytest.raises(JobNotAvailable):
        market.claim(free, reserved.id)
    assert [job.id for job in market.take(rig.provider, 5)] == [reserved.id]
    assert {job.id for job in market.take(free, 5)} == {plain.id, own.id}
    rentals.release(alice, rig)
    rentals.round()
    later = market.submit(bob)
    assert [job.id for job in market.take(rig.provider, 5)] == [later.id]


def test_they_cost_nothing_of_their_own_and_their_receipts_say_so(rentals: Rentals, market: Market) -> None:
    alice = market.client(units=6_000)  # an hour's rent, and nothing for tokens
    rig = rentals.rig()
    booked = rentals.book(alice, rig)
    holder = rentals.holder(booked)
    job = market.submit(holder, cap=0)  # below what the miner asks of others
    assert (job.held_units, job.hold_id, job.reservation) == (0, "", booked.booking.id)
    (taken,) = market.take(rig.provider)
    assert (taken.id, taken.unit_price_units) == (job.id, 0)
    body = json.loads(market.complete(rig.provider, job.id).body)
    assert (body["payment"], body["price_units"], body["unit_price_units"]) == ("booking", "0", "0")
    assert body["release_after"] is None
    assert market.balance("alice").held_units == 6_000
    rentals.passes(60, [rig])
    rentals.release(alice, rig)
    market.check()


def test_a_booked_jobs_answers_are_not_free_jobs(rentals: Rentals, market: Market) -> None:
    tight = Rentals(Market(market.db, market.clock, fee_bps=None, max_free_jobs=2))
    alice, rig = market.client(), rentals.rig()
    holder = rentals.holder(rentals.book(alice, rig))
    for _ in range(4):
        job = tight.market.submit(holder)
        tight.market.take(rig.provider)
        tight.market.complete(rig.provider, job.id)
    for _ in range(2):  # without an answer as many as others' end
        tight.market.cancel(holder, tight.market.submit(holder).id)
    with pytest.raises(FreeJobsUsedUp):
        tight.market.submit(holder)
    tight.market.submit(alice)  # of the account itself none ended so
    market.check()


def test_a_booking_that_served_a_job_is_not_for_nothing(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    holder = rentals.holder(rentals.book(alice, rig))
    market.clock.advance(1)  # between two heartbeats
    job = market.submit(holder)
    market.take(rig.provider)
    market.clock.advance(1)
    market.complete(rig.provider, job.id)
    row = rentals.release(alice, rig)
    assert (row.detail, row.used_ms, row.price_units) == ("released", 1, HOUR_UNITS // 60)
    rentals.book(alice, rig)
    market.clock.advance(1)
    market.take(rig.provider)
    row = rentals.release(rig.owner, rig)  # who sends its booker away is paid for no time that nobody saw
    assert (row.detail, row.used_ms, row.price_units) == ("released", 0, 0)
    market.check()


def test_bookings_that_cost_nothing_leave_no_more_jobs_than_an_account_may(
    rentals: Rentals, market: Market
) -> None:
    tight = Rentals(Market(market.db, market.clock, fee_bps=None, max_free_jobs=3))
    alice, rig = market.client(), rentals.rig()
    holder = tight.holder(tight.book(alice, rig))
    tight.market.cancel(holder, tight.market.submit(holder).id)
    for _ in range(2):
        tight.market.submit(holder)
    assert tight.release(alice, rig).detail == "cancelled"
    tight.round()
    again = tight.holder(tight.book(alice, rig))
    with pytest.raises(FreeJobsUsedUp):
        tight.market.submit(again)
    tight.market.submit(alice)
    market.check()


def test_jobs_that_move_while_they_are_ended_are_ended_too(
    rentals: Rentals, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    job = market.submit(rentals.holder(booked))
    market.take(rig.provider)
    market.clock.advance(1)
    rentals.release(alice, rig)
    real = jobs.end

    def late(tx: Tx, found: JobRow, *rest: Any) -> bool:
        """The miner gives it back between the look and the end."""
        retries.retry_or_fail(tx, market.ctx, found, "ENGINE_ERROR", "miner", "")
        return real(tx, found, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "end", late)
        rentals.db.write_sync(clockwork.clear_jobs)
    rentals.round()
    assert (market.job(job.id).status, market.job(job.id).cause) == ("cancelled", "BOOKING_ENDED")
    assert rentals.booking(booked).clearing == 0


def test_a_bookings_end_ends_its_jobs(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=0.25)
    holder = rentals.holder(booked)
    made = [market.submit(holder).id for _ in range(3)]
    assert [job.id for job in market.take(rig.provider)] == made[:1]
    assert rentals.passes(900, [rig]) == ["ran_out"]
    for job_id in made:
        job = market.job(job_id)
        assert (job.status, job.cause, job.actor) == ("cancelled", "BOOKING_ENDED", "coordinator")
    assert market.heartbeat(rig.provider, running=[made[0]]).cancelled == [made[0]]
    with pytest.raises(BookingEnded):
        market.submit(holder)
    market.check()


def test_many_jobs_are_ended_in_turns(
    rentals: Rentals, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    holder = rentals.holder(booked)
    made = [market.submit(holder).id for _ in range(clockwork.JOBS_BATCH + 5)]
    rentals.release(alice, rig)
    assert rentals.db.write_sync(clockwork.clear_jobs) is True
    assert {market.job(job_id).status for job_id in made} == {"pending", "cancelled"}
    assert rentals.db.write_sync(clockwork.clear_jobs) is False
    assert {market.job(job_id).status for job_id in made} == {"cancelled"}
    assert rentals.booking(booked).clearing == 0


def test_a_key_submits_in_its_time_only(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, start_ms=market.clock.now_ms() + HOUR_MS)
    holder = rentals.holder(booked)
    with pytest.raises(BookingNotBegun):
        market.submit(holder)
    with pytest.raises(InvalidRequest):
        rentals.passes(3_600)
        market.submit(holder, payment="manual")
    market.submit(holder)
    rentals.release(alice, rig)
    with pytest.raises(BookingEnded):  # also where the key was looked up before
        market.submit(holder)


def test_a_key_sees_its_bookings_jobs_alone(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    holder = rentals.holder(rentals.book(alice, rig))
    plain, reserved = market.submit(alice), market.submit(holder)
    assert rentals.db.read_sync(own_jobs.owned, holder, reserved.id) == reserved
    assert rentals.db.read_sync(own_jobs.owned, alice, reserved.id) == reserved
    with pytest.raises(JobNotFound):
        rentals.db.read_sync(own_jobs.owned, holder, plain.id)
    for status in (None, "pending", "running", "completed", "failed", "cancelled"):
        page = rentals.db.read_sync(
            queries.listed, "alice", status=status, limit=9, offset=0, reservation=holder.reservation
        )
        wanted = [reserved.id] if status in (None, "pending") else []
        assert ([row.id for row in page.rows], page.total) == (wanted, len(wanted)), status
    assert rentals.db.read_sync(queries.position, reserved) == 1


def test_a_waiting_miner_hears_of_its_booking(rentals: Rentals, market: Market) -> None:
    """It waits with what it was before; the booking has it look again, and then its jobs wake it."""
    alice, rig = market.client(), rentals.rig()
    idle = runtime_over(market).idle_miners
    taken = market.db.write_sync(_take, rentals, rig)
    ticket = idle.enter(taken.profile)
    booked, signals = market.db.write_sync(_book, rentals, alice, rig)
    assert ("miner", "m1") in signals  # which has its polls look again
    holder = rentals.holder(booked)
    idle.leave(ticket, satisfied=False)
    ticket = idle.enter(market.db.write_sync(_take, rentals, rig).profile)
    idle.hear(jobs.queued_signal(market.submit(market.client("bob"))))
    assert ticket.woken_by is None
    idle.hear(jobs.queued_signal(market.submit(holder)))
    assert ticket.woken_by is not None


def _book(tx: Tx, rentals: Rentals, client: Principal, rig: Rig) -> tuple[Booked, list[object]]:
    booked = gpu_booking.book(tx, rentals.ctx, client, Wish(rig.gpu.id, HOUR_MS))
    return booked, list(tx.signals)


def _take(tx: Tx, rentals: Rentals, rig: Rig) -> Taken:
    return dispatch.take(tx, rentals.ctx, *rig.provider, 1)


def test_an_explanation_names_the_booking(rentals: Rentals, market: Market) -> None:
    alice, bob, rig = market.client(), market.client("bob"), rentals.rig()
    rentals.book(alice, rig)
    job = market.submit(bob)
    told = rentals.db.read_sync(explain.explain, rentals.ctx, bob, job.id)
    assert told.reasons == {"RESERVED": 1}
    assert told.nearest_change is not None
    assert told.nearest_change.change == "wait"


def test_a_job_that_its_gpu_failed_goes_nowhere_else(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    market.miner("m2")
    holder = rentals.holder(rentals.book(alice, rig))
    job = market.submit(holder)
    for _ in range(8):
        if not market.take(rig.provider):
            market.pass_time(70)
            market.heartbeat(rig.provider)
            continue
        market.fail(rig.provider, job.id)
    assert market.job(job.id).status in ("pending", "failed")
    assert market.job(job.id).miner_id in ("", "m1")
    assert market.balance("alice").held_units == 6_000


def test_a_batch_under_a_booking(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    holder = rentals.holder(rentals.book(alice, rig))
    made = rentals.db.write_sync(
        job_lifecycle.submit_batch, rentals.ctx, holder, [spec_of(f"{n}") for n in range(3)]
    )
    assert [job.reservation for job in made] == [holder.reservation] * 3  # type: ignore[union-attr]
    rentals.release(alice, rig)
    late = rentals.db.write_sync(job_lifecycle.submit_batch, rentals.ctx, holder, [spec_of("late")])
    assert isinstance(late[0], BookingEnded)
    assert market.balance("alice").balance_units == UNITS
