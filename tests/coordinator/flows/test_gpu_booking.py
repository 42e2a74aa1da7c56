"""Bookings of GPUs on both databases: what is held, what is billed, how they end, and what is refused."""

import pytest
from sqlalchemy import text as sql

from aitbc.coordinator.database import statement
from aitbc.coordinator.errors import (
    AitbcError,
    BookingEnded,
    BookingTimeInvalid,
    Forbidden,
    GpuBooked,
    GpuInUse,
    GpuNotBooked,
    GpuOffline,
    InsufficientFunds,
    KeyExpired,
    KeyRevoked,
    KeyUnknown,
    MinerListed,
    OwnGpu,
    RentAboveCap,
)
from aitbc.coordinator.flows.acts import gpu_booking
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.miners import standing
from tests.support.flows import UNITS, Market
from tests.support.market import HOUR_MS, HOUR_UNITS, Rentals, gpu_spec

KEYS_OF_BOOKINGS = statement(sql("SELECT COUNT(*) AS count FROM api_keys WHERE booking_id <> ''"))


@pytest.fixture
def rentals(market: Market) -> Rentals:
    """With a round behind it, so that the time that coordinators run is counted."""
    made = Rentals(market)
    made.round()
    return made


def test_a_booking_is_held_whole_used_and_paid(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=1.5)
    assert market.balance("alice").held_units == 9_000 == booked.booking.held_units
    assert booked.booking.end_ms - booked.booking.start_ms == 1.5 * HOUR_MS
    assert (rentals.gpu(rig).state, rentals.gpu(rig).booking_id) == ("booked", booked.booking.id)
    assert rentals.passes(5_400, [rig]) == ["ran_out"]
    row = rentals.booking(booked)
    assert (row.state, row.detail, row.ended_by) == ("completed", "ran_out", "coordinator")
    assert 5_380_000 <= row.used_ms <= 5_400_000
    assert (row.price_units, row.fee_units) == (9_000, 900)
    assert market.balance("alice") == ("alice", UNITS - 9_000, 0) or market.balance("alice").held_units == 0
    assert market.balance("alice").balance_units == UNITS - 9_000
    assert market.balance("owner-m1").balance_units == 8_100
    assert market.balance(TREASURY).balance_units == 900
    assert rentals.gpu(rig).state == "available"
    market.check()


def test_released_early_the_minutes_used_are_paid_and_the_rest_goes_back(
    rentals: Rentals, market: Market
) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=2)
    rentals.passes(605, [rig])
    row = rentals.release(alice, rig)
    assert (row.state, row.detail, row.ended_by, row.used_ms) == ("completed", "released", "booker", 600_000)
    assert row.price_units == 10 * HOUR_UNITS // 60
    assert market.balance("alice").balance_units == UNITS - 1_000
    assert rentals.gpu(rig).state == "available"
    with pytest.raises(BookingEnded):
        rentals.release(alice, rig)
    with pytest.raises(KeyRevoked):
        rentals.holder(booked)
    market.check()


def test_the_clock_starts_with_the_machines_first_heartbeat(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(300)  # it is not heard of
    assert rentals.booking(booked).detail == "waiting"
    rentals.passes(120, [rig])
    row = rentals.booking(booked)
    assert (row.detail, row.used_ms) == ("running", 115_000)
    market.check()


def test_a_machine_that_never_shows_up_costs_nothing(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    assert rentals.passes(595) == []
    assert rentals.passes(10) == ["no_show"]
    row = rentals.booking(booked)
    assert (row.state, row.price_units, row.used_ms) == ("cancelled", 0, 0)
    money = market.balance("alice")
    assert (money.balance_units, money.held_units) == (UNITS, 0)
    assert rentals.gpu(rig).reliability_bps < 9_000
    with pytest.raises(KeyRevoked):
        rentals.holder(booked)
    market.check()


def test_an_owner_that_goes_away_stops_the_clock(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(600, [rig])
    rentals.passes(1_200)
    rentals.passes(600, [rig])
    assert rentals.booking(booked).used_ms == 595_000 + 595_000
    assert rentals.passes(1_200) == ["ran_out"]
    assert rentals.booking(booked).price_units == 20 * HOUR_UNITS // 60
    market.check()


def test_a_machine_that_drains_is_not_there(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(60, [rig])
    for _ in range(20):
        market.clock.advance(5)
        market.heartbeat(rig.provider, status="draining")
        rentals.round()
    assert rentals.booking(booked).used_ms == 55_000


def test_a_coordinators_outage_ends_no_booking_and_bills_nobody(rentals: Rentals, market: Market) -> None:
    alice, bob = market.client(), market.client("bob")
    heard, unheard = rentals.rig(), rentals.rig("m2")
    running, waiting = rentals.book(alice, heard), rentals.book(bob, unheard)
    rentals.passes(300, [heard])
    market.clock.advance(1_800)  # nobody runs
    market.heartbeat(heard.provider)
    assert rentals.round() == []
    assert rentals.booking(running).used_ms == 295_000
    assert rentals.booking(waiting).detail == "waiting"  # 300 s of its 600 are left
    assert rentals.passes(305, [heard]) == ["no_show"]
    assert rentals.booking(running).used_ms == 295_000 + 305_000
    market.check()


def test_an_outage_over_a_whole_booking_is_nobodys_fault(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=0.5)
    market.clock.advance(7_200)
    assert rentals.round() == ["cancelled"]
    assert (rentals.booking(booked).price_units, rentals.gpu(rig).reliability_bps) == (0, 9_000)
    market.check()


def test_at_its_very_end_a_booking_is_over(rentals: Rentals, market: Market) -> None:
    alice, bob, rig = market.client(), market.client("bob"), rentals.rig()
    booked = rentals.book(alice, rig, hours=0.25)
    rentals.passes(895, [rig])
    with pytest.raises(GpuBooked):
        rentals.book(bob, rig)
    market.clock.advance(4.999)
    assert rentals.round() == []
    assert rentals.holder(booked).reservation == booked.booking.id
    with pytest.raises(GpuBooked):
        rentals.book(bob, rig)
    market.clock.advance(0.001)
    with pytest.raises(KeyExpired):
        rentals.holder(booked)
    following = rentals.book(bob, rig)  # before anybody has looked at the first one's end
    assert following.booking.opened == 0
    market.clock.advance(3)
    market.heartbeat(rig.provider)  # after the end: it counts up to the end and no further
    assert rentals.round() == ["ran_out"]
    assert rentals.booking(booked).used_ms == 895_000
    assert rentals.gpu(rig).booking_id == following.booking.id
    market.check()


def test_a_heartbeat_after_the_end_counts_to_the_end(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig, hours=0.25)
    rentals.passes(890, [rig])
    market.clock.advance(20)
    market.heartbeat(rig.provider)
    assert rentals.round() == ["ran_out"]
    assert rentals.booking(booked).used_ms == 895_000
    assert rentals.booking(booked).price_units == HOUR_UNITS // 4


def test_a_booking_for_later_begins_when_its_time_comes(rentals: Rentals, market: Market) -> None:
    alice, bob, rig = market.client(), market.client("bob"), rentals.rig()
    now = market.clock.now_ms()
    later = rentals.book(alice, rig, start_ms=now + HOUR_MS)
    assert rentals.gpu(rig).state == "available"
    between = rentals.book(bob, rig)  # it ends when the other begins
    with pytest.raises(GpuBooked):
        rentals.book(bob, rig, start_ms=now + 2 * HOUR_MS - 1)
    rentals.book(bob, rig, start_ms=now + 2 * HOUR_MS)
    rentals.passes(3_600, [rig])
    assert rentals.booking(between).detail == "ran_out"
    assert rentals.gpu(rig).booking_id == later.booking.id
    rentals.passes(60, [rig])
    assert rentals.booking(later).used_ms == 55_000
    market.check()


def test_who_cancels_before_the_start_gets_everything_back(rentals: Rentals, market: Market) -> None:
    alice, bob, rig = market.client(), market.client("bob"), rentals.rig()
    now = market.clock.now_ms()
    first = rentals.book(alice, rig, start_ms=now + HOUR_MS)
    row = rentals.release(alice, rig)
    assert (row.state, row.detail, row.price_units) == ("cancelled", "cancelled", 0)
    assert rentals.gpu(rig).reliability_bps == 9_000
    second = rentals.book(bob, rig, start_ms=now + HOUR_MS)
    rentals.release(rig.owner, rig, second.booking.id)
    assert rentals.gpu(rig).reliability_bps < 9_000  # the owner did not keep it
    assert first.booking.id != second.booking.id
    for account in ("alice", "bob"):
        assert market.balance(account).balance_units - market.balance(account).held_units == UNITS
    market.check()


def test_an_owner_may_end_it_too_and_a_stranger_may_not(rentals: Rentals, market: Market) -> None:
    alice, mallory, rig = market.client(), market.client("mallory"), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(65, [rig])
    for named in (None, booked.booking.id):
        with pytest.raises(Forbidden):
            rentals.release(mallory, rig, named)
    row = rentals.release(rig.owner, rig)
    assert (row.ended_by, row.detail, row.used_ms, row.price_units) == ("owner", "released", 60_000, 100)
    with pytest.raises(GpuNotBooked):
        rentals.release(rig.owner, rig)
    with pytest.raises(BookingEnded):
        rentals.release(rig.owner, rig, booked.booking.id)
    market.check()


def test_what_cannot_be_booked(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(units=HOUR_UNITS), rentals.rig()
    now = market.clock.now_ms()
    refused: list[tuple[type[AitbcError], dict[str, object]]] = [
        (BookingTimeInvalid, {"start_ms": now - 60_001}),
        (BookingTimeInvalid, {"start_ms": now + 90 * 24 * HOUR_MS + 1}),
        (BookingTimeInvalid, {"hours": 0.2499}),
        (BookingTimeInvalid, {"hours": 721}),
        (InsufficientFunds, {"hours": 1.001}),
        (RentAboveCap, {"cap": HOUR_UNITS - 1}),
    ]
    for error, asked in refused:
        with pytest.raises(error):
            rentals.book(alice, rig, **asked)  # type: ignore[arg-type]
    with pytest.raises(OwnGpu):
        rentals.book(rig.owner, rig)
    rentals.book(alice, rig, cap=HOUR_UNITS, start_ms=now - 60_000)
    assert market.balance("alice").held_units == HOUR_UNITS
    market.check()


def test_a_gpu_without_its_miner_is_offline(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    market.leave(rig.provider)
    with pytest.raises(GpuOffline):
        rentals.book(alice, rig)
    rentals.round()
    assert rentals.gpu(rig).state == "offline"
    market.miner("m1")
    rentals.round()
    assert rentals.gpu(rig).state == "available"
    unlisted = gpu_spec("", gpu_id=rig.gpu.id)
    gone = rentals.db.write_sync(gpu_booking.register, rentals.ctx, rig.owner, unlisted)
    assert (gone.id, gone.state, gone.miner_id) == (rig.gpu.id, "offline", "")
    with pytest.raises(GpuOffline):
        rentals.book(alice, rig)


def test_what_is_said_of_a_gpu_changes_no_booking(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    again = rentals.rig(price_units=10 * HOUR_UNITS, model="H100")
    assert (again.gpu.id, again.gpu.price_units, again.gpu.model_key) == (rig.gpu.id, 60_000, "h100")
    assert again.gpu.state == "booked"
    other = market.miner("m2", account="owner-m1")
    for spec in (gpu_spec("m2", gpu_id=rig.gpu.id), gpu_spec("", gpu_id=rig.gpu.id)):
        with pytest.raises(GpuInUse):
            rentals.db.write_sync(gpu_booking.register, rentals.ctx, other.principal, spec)
    rentals.passes(3_600, [rig])
    assert rentals.booking(booked).price_units == HOUR_UNITS
    rentals.db.write_sync(gpu_booking.register, rentals.ctx, other.principal, gpu_spec("m2"))
    with pytest.raises(MinerListed):
        rentals.db.write_sync(
            gpu_booking.register, rentals.ctx, other.principal, gpu_spec("m2", gpu_id=rig.gpu.id)
        )
    market.check()


def test_who_may_have_no_work_is_not_there(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    rentals.passes(65, [rig])
    rentals.db.write_sync(standing.set_approval, rig.owner.account_id, "revoked")
    rentals.passes(300, [rig])  # it is heard of, and gets no jobs
    assert rentals.booking(booked).used_ms == 60_000
    rentals.release(alice, rig)
    rentals.passes(10, [rig])
    assert rentals.gpu(rig).state == "offline"
    rentals.db.write_sync(standing.set_approval, rig.owner.account_id, "none")
    rentals.passes(5, [rig])
    assert rentals.gpu(rig).state == "available"
    rentals.db.write_sync(standing.set_approval, rig.owner.account_id, "revoked")
    rentals.passes(5, [rig])
    assert rentals.gpu(rig).state == "offline"
    market.check()


def test_not_to_show_up_costs_no_less_than_to_say_so(rentals: Rentals, market: Market) -> None:
    alice, silent, honest = market.client(), rentals.rig(), rentals.rig("m2")
    rentals.book(alice, silent, hours=5)
    rentals.book(alice, honest, hours=5)
    rentals.release(honest.owner, honest)
    assert rentals.passes(610) == ["no_show"]
    assert rentals.gpu(silent).promised_ms == rentals.gpu(honest).promised_ms == 5 * HOUR_MS
    market.check()


def test_a_lost_key_is_replaced(rentals: Rentals, market: Market) -> None:
    alice, rig = market.client(), rentals.rig()
    booked = rentals.book(alice, rig)
    made, booking = rentals.db.write_sync(gpu_booking.new_access, alice, booked.booking.id)
    with pytest.raises(KeyUnknown):
        rentals.holder(booked)
    assert rentals.holder(booked._replace(key=made)).reservation == booking.id
    for _ in range(3):  # only the newest has a row
        made, booking = rentals.db.write_sync(gpu_booking.new_access, alice, booking.id)
    assert rentals.db.read_sync(lambda tx: tx.one(KEYS_OF_BOOKINGS).count) == 1
    rentals.release(alice, rig)
    with pytest.raises(KeyRevoked):
        rentals.holder(booked._replace(key=made))
    with pytest.raises(BookingEnded):
        rentals.db.write_sync(gpu_booking.new_access, alice, booked.booking.id)
