"""Races for one GPU, between threads and between processes: it is booked once, released once, and paid once."""

import multiprocessing
from collections import Counter
from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import gpu_booking
from aitbc.coordinator.flows.acts.gpu_booking import Wish
from aitbc.coordinator.flows.views import gpus as views
from aitbc.core.clock import ManualClock
from tests.conftest import START_MS
from tests.coordinator.faults.test_races import codes, opened, race
from tests.support.flows import UNITS, Market
from tests.support.market import HOUR_MS, HOUR_UNITS, Rentals

pytestmark = pytest.mark.faults


def test_fifty_bookers_of_one_gpu(market: Market) -> None:
    rentals = Rentals(market)
    rig = rentals.rig()
    clients = [market.client(f"booker-{n}") for n in range(50)]
    answers = race([lambda c=client: rentals.book(c, rig) for client in clients])
    assert codes(answers) == {"ok": 1, "GPU_BOOKED": 49}
    held = [market.balance(client.account_id).held_units for client in clients]
    assert sorted(held) == [0] * 49 + [HOUR_UNITS]
    assert rentals.gpu(rig).bookings == 1
    market.check()


def test_fifty_bookings_of_one_account_for_times_that_touch(market: Market) -> None:
    """Each hour of a day twice at once: each is given once, and none is lost to its neighbours."""
    rentals = Rentals(market)
    rig, alice = rentals.rig(), market.client()
    now = market.clock.now_ms()
    starts = [now + (n // 2) * HOUR_MS for n in range(50)]
    answers = race([lambda at=start: rentals.book(alice, rig, start_ms=at) for start in starts])
    assert codes(answers) == {"ok": 25, "GPU_BOOKED": 25}
    assert market.balance("alice").held_units == 25 * HOUR_UNITS
    market.check()


def test_money_for_one_booking_books_one_of_fifty_gpus(market: Market) -> None:
    rentals = Rentals(market)
    rigs = [rentals.rig(f"m{n}") for n in range(50)]
    alice = market.client(units=HOUR_UNITS)
    answers = race([lambda r=rig: rentals.book(alice, r) for rig in rigs])
    assert codes(answers) == {"ok": 1, "INSUFFICIENT_FUNDS": 49}
    market.check()


def test_a_booking_is_released_once(market: Market) -> None:
    """By its booker, its owner and the clock, all at once, at its very end."""
    rentals = Rentals(market)
    rentals.round()
    rig, alice = rentals.rig(), market.client()
    booked = rentals.book(alice, rig)
    rentals.passes(3_595, [rig])
    market.clock.advance(5)
    market.heartbeat(rig.provider)
    booking_id = booked.booking.id
    acts: list[Any] = [
        lambda who=who: rentals.release(who, rig, booking_id) for who in (alice, rig.owner) for _ in range(10)
    ]
    answers = race([*acts, *(rentals.round for _ in range(10))])
    ended = [answer for answer in answers[:20] if not isinstance(answer, str)]
    by_clock = [outcome for answer in answers[20:] for outcome in answer]
    assert len(ended) + len(by_clock) == 1
    assert codes(answers[:20])["BOOKING_ENDED"] == 20 - len(ended)
    row = rentals.booking(booked)
    assert (row.state, row.price_units, row.used_ms) == ("completed", HOUR_UNITS, 3_595_000)
    assert market.balance("alice").balance_units == UNITS - HOUR_UNITS
    market.check()


def test_a_job_and_the_bookings_end(market: Market) -> None:
    """However they fall, no job of an ended booking is left to wait or to run."""
    rentals = Rentals(market)
    rentals.round()
    rig, alice = rentals.rig(), market.client()
    for _ in range(5):
        holder = rentals.holder(rentals.book(alice, rig))
        answers = race([*([lambda h=holder: market.submit(h)] * 8), lambda: rentals.release(alice, rig)])
        assert set(codes(answers)) <= {"ok", "BOOKING_ENDED"}
        rentals.round()
        for job in answers[:-1]:
            assert isinstance(job, str) or market.job(job.id).cause == "BOOKING_ENDED"
    market.check()


def test_many_clocks_end_and_begin_each_booking_once(market: Market) -> None:
    rentals = Rentals(market)
    rentals.round()
    alice = market.client(units=40 * HOUR_UNITS)
    rigs = [rentals.rig(f"m{n}") for n in range(20)]
    now = market.clock.now_ms()
    ending = [rentals.book(alice, rig) for rig in rigs]
    coming = [rentals.book(alice, rig, start_ms=now + HOUR_MS) for rig in rigs]
    rentals.passes(30, rigs)
    market.clock.advance(3_570)
    outcomes = race([rentals.round for _ in range(8)])
    assert Counter(outcome for found in outcomes for outcome in found) == {"ran_out": 20}
    assert {rentals.booking(one).price_units for one in ending} == {HOUR_UNITS // 60}
    for rig, booked in zip(rigs, coming, strict=True):
        assert (rentals.gpu(rig).booking_id, rentals.booking(booked).opened) == (booked.booking.id, 1)
    market.check()


def test_two_reviews_of_one_booking(market: Market) -> None:
    """One is kept, whichever came last, and counted once; reviews of other bookings of the GPU lose nothing to it."""
    rentals = Rentals(market)
    rentals.round()
    rig, alice, carol = rentals.rig(), market.client("alice"), market.client("carol")
    for who in (alice, carol):
        rentals.used(who, rig)
    answers = race(
        [lambda w=who, n=n: rentals.review(w, rig, n) for who in (alice, carol) for n in (1, 3, 5) * 4]
    )
    assert codes(answers) == {"ok": 24}
    assert len({answer.id for answer in answers}) == 2
    shown = market.db.read_sync(views.reviews_of, rig.gpu.id, None, 10)
    assert sorted(row.author_id for row in shown.rows) == ["alice", "carol"]
    assert (shown.gpu.reviews, shown.gpu.stars) == (2, sum(row.stars for row in shown.rows))
    market.check()


# --- processes ----------------------------------------------------------------------------------------------


def contender(url: str, gpu_id: str, number: int, start: Any, out: Any) -> None:
    """Runs in a process of its own: books, releases and looks at the clock, again and again."""
    clock = ManualClock(START_MS)
    market = Market(Database.open(url, clock=clock), clock, fee_bps=None)
    rentals = Rentals(market)
    client = Principal(f"booker-{number}", "client", "k", frozenset({"client"}))
    answers: list[str] = []
    start.wait(30)
    for _ in range(25):
        try:
            market.db.write_sync(gpu_booking.book, market.ctx, client, Wish(gpu_id, HOUR_MS))
            answers.append("booked")
            rentals.round()
            market.db.write_sync(gpu_booking.release, market.ctx, client, gpu_id)
            answers.append("released")
        except AitbcError as error:
            answers.append(error.code)
    market.db.close()
    out.send(answers)
    out.close()


def test_two_processes_book_and_release_one_gpu(database_url: str) -> None:
    with opened(database_url) as market:
        rig = Rentals(market).rig()
        for number in range(2):
            market.client(f"booker-{number}")
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [
        context.Process(target=contender, args=(database_url, rig.gpu.id, n, start, out), daemon=True)
        for n, (_into, out) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        got = [into.recv() if into.poll(60) else [] for into, _out in pipes]
    finally:
        for process in processes:
            process.join(20)
            process.kill()
    seen = Counter(answer for some in got for answer in some)
    assert set(seen) <= {"booked", "released", "GPU_BOOKED"}
    assert seen["booked"] == seen["released"] > 0
    assert seen["booked"] + seen["GPU_BOOKED"] == 50
    with opened(database_url) as market:
        for number in range(2):
            money = market.balance(f"booker-{number}")
            assert (money.balance_units, money.held_units) == (UNITS, 0)
        assert Rentals(market).gpu(rig).bookings == seen["booked"]
        market.check()
