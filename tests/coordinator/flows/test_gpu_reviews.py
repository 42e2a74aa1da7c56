"""Reviews of GPUs and prices of models: who may say what, and which figures follow from which rows."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitbc.coordinator.errors import (
    AitbcError,
    BookingNotFound,
    BookingNotSettled,
    BookingUnused,
    GpuModelNotFound,
    GpuNotFound,
    ReviewFinal,
    ReviewNeedsBooking,
)
from aitbc.coordinator.flows.views import gpus as views
from aitbc.coordinator.marketplace.pricing import ModelPrices
from aitbc.coordinator.marketplace.queries import GpuFilter
from aitbc.core.rating import rating_millis
from tests.support.flows import Market
from tests.support.market import HOUR_UNITS, MINUTE_MS, Rentals, Rig

DAY_S = 86_400


@pytest.fixture
def rentals(market: Market) -> Rentals:
    made = Rentals(market)
    made.round()
    return made


def prices(rentals: Rentals, model: str = "RTX 4090") -> ModelPrices:
    return rentals.db.read_sync(views.pricing, model)


def refused(rentals: Rentals, error: type[AitbcError], rig: Rig, booking_id: str | None = None) -> None:
    before = rentals.gpu(rig)
    with pytest.raises(error):
        rentals.review(rentals.market.client("alice"), rig, 1, booking_id=booking_id)
    assert rentals.gpu(rig) == before


def test_only_a_used_booking_that_has_ended_is_reviewed(rentals: Rentals, market: Market) -> None:
    rig, alice, carol = rentals.rig(), market.client("alice"), market.client("carol")
    refused(rentals, ReviewNeedsBooking, rig)
    refused(rentals, BookingNotFound, rig, "none")
    unused = rentals.book(alice, rig)
    refused(rentals, BookingNotSettled, rig)
    refused(rentals, BookingNotSettled, rig, unused.booking.id)
    rentals.release(alice, rig)
    refused(rentals, BookingUnused, rig, unused.booking.id)
    refused(rentals, BookingNotSettled, rig)
    theirs = rentals.used(carol, rig)
    refused(rentals, BookingNotFound, rig, theirs.id)
    other = rentals.rig("m2")
    used = rentals.used(alice, rig)
    with pytest.raises(BookingNotFound):
        rentals.review(alice, other, 5, booking_id=used.id)
    assert rentals.gpu(rig).reviews == 0
    made = rentals.review(alice, rig, 4, "good")
    assert (made.booking_id, made.author_id, made.stars, made.text) == (used.id, "alice", 4, "good")
    row = rentals.gpu(rig)
    assert (row.reviews, row.stars, row.rating_millis) == (1, 4, rating_millis(4, 1))
    market.check()


def test_a_review_is_changed_for_a_week(rentals: Rentals, market: Market) -> None:
    rig, alice = rentals.rig(), market.client("alice")
    first = rentals.used(alice, rig)
    made = rentals.review(alice, rig, 1, "bad")
    market.clock.advance(7 * DAY_S - 1)
    changed = rentals.review(alice, rig, 5, "it was my fault")
    assert (changed.id, changed.stars, changed.created_at_ms) == (made.id, 5, made.created_at_ms)
    assert changed.updated_at_ms == made.created_at_ms + 7 * DAY_S * 1000 - 1000
    assert (rentals.gpu(rig).reviews, rentals.gpu(rig).stars) == (1, 5)
    market.clock.advance(1)
    refused(rentals, ReviewFinal, rig, first.id)
    rentals.passes(5, [rig])
    second = rentals.used(alice, rig)
    assert rentals.review(alice, rig, 2).booking_id == second.id
    assert (rentals.gpu(rig).reviews, rentals.gpu(rig).stars) == (2, 7)
    refused(rentals, ReviewFinal, rig, first.id)
    shown = rentals.db.read_sync(views.reviews_of, rig.gpu.id, None, 20)
    assert [(one.booking_id, one.stars) for one in shown.rows] == [(second.id, 2), (first.id, 5)]
    with pytest.raises(GpuNotFound):
        rentals.db.read_sync(views.reviews_of, "none", None, 20)
    market.check()


def test_the_list_is_sorted_and_filtered_by_rating(rentals: Rentals, market: Market) -> None:
    rigs = [rentals.rig(f"m{n}") for n in range(3)]
    for rig, stars in zip(rigs, (3, 5, 1), strict=True):
        who = market.client("alice")
        rentals.used(who, rig)
        rentals.review(who, rig, stars)
    for sort, order in (("rating", [2, 0, 1]), ("-rating", [1, 0, 2])):
        found = rentals.db.read_sync(views.listed, GpuFilter(), sort, 10, None)
        assert [row.id for row in found.rows] == [rigs[n].gpu.id for n in order]
    least = GpuFilter(min_rating_millis=rating_millis(5, 1))
    assert [row.id for row in rentals.db.read_sync(views.listed, least, "price", 10, None).rows] == [
        rigs[1].gpu.id
    ]


def test_prices_of_a_model(rentals: Rentals, market: Market) -> None:
    with pytest.raises(GpuModelNotFound):
        prices(rentals)
    for n, price in enumerate((100, 400, 200)):
        rentals.rig(f"m{n}", price_units=price)
    rentals.rig("other", model="H100", price_units=1)
    found = prices(rentals)
    assert (found.least_units, found.median_units, found.mean_units, found.most_units) == (100, 200, 233, 400)
    assert (found.available, found.offered, found.total, found.utilisation_bps) == (3, 3, 3, 0)
    assert found.suggested_units == 200  # nothing is known yet
    dear = rentals.rig("m3", price_units=401)
    assert prices(rentals, "nvidia rtx-4090").median_units == 300
    rentals.book(market.client("alice"), dear)
    assert (prices(rentals).available, prices(rentals).offered) == (3, 4)
    for name in ("", "--", "RTX 4091"):
        with pytest.raises(GpuModelNotFound):
            prices(rentals, name)


def test_gpus_that_are_offline_do_not_make_the_price(rentals: Rentals, market: Market) -> None:
    rentals.rig("m1", price_units=100)
    away = rentals.rig("m2", price_units=900)
    market.leave(away.provider)
    rentals.round()
    found = prices(rentals)
    assert (found.most_units, found.median_units, found.mean_units) == (100, 100, 100)
    assert (found.available, found.offered, found.total) == (1, 1, 2)


def test_where_all_gpus_are_offline_their_prices_are_shown(rentals: Rentals, market: Market) -> None:
    rigs = [rentals.rig(f"m{n}", price_units=price) for n, price in enumerate((100, 900))]
    for rig in rigs:
        market.leave(rig.provider)
    rentals.round()
    found = prices(rentals)
    assert (found.least_units, found.median_units, found.most_units) == (100, 500, 900)
    assert (found.available, found.offered, found.total) == (0, 0, 2)
    assert (found.utilisation_bps, found.suggested_units) == (0, 500)


@pytest.mark.parametrize("hours_before", [0.5, 30])
def test_utilisation_is_of_the_last_day(rentals: Rentals, market: Market, hours_before: float) -> None:
    """Booked time counts as far as it lies in the last 24 hours, and so does the time since a GPU was listed."""
    alice = market.client("alice")
    rig = rentals.rig()
    market.clock.advance(hours_before * 3600)
    market.heartbeat(rig.provider)
    rentals.round()
    rentals.used(alice, rig, 1800)
    listed_s = min(DAY_S, hours_before * 3600 + 1800)
    assert prices(rentals).utilisation_bps == int(1800 * 10_000 // listed_s)
    booked = rentals.book(alice, rig)
    rentals.passes(900, [rig])
    listed_s = min(DAY_S, listed_s + 900)
    assert prices(rentals).utilisation_bps == int(2700 * 10_000 // listed_s)
    rentals.release(alice, rig, booked.booking.id)
    market.clock.advance(DAY_S - 600)
    assert prices(rentals).utilisation_bps == 600 * 10_000 // DAY_S
    market.clock.advance(600)
    assert prices(rentals).utilisation_bps == 0


def test_a_booking_counts_for_the_model_that_was_booked(rentals: Rentals, market: Market) -> None:
    rig = rentals.rig()
    rentals.used(market.client("alice"), rig, 600)
    assert prices(rentals).utilisation_bps == 10_000
    other = rentals.rig("m1", model="H100")
    assert other.gpu.id == rig.gpu.id
    assert prices(rentals, "H100").utilisation_bps == 0


def test_what_was_cancelled_or_not_begun_is_no_demand(rentals: Rentals, market: Market) -> None:
    rig, alice = rentals.rig(), market.client("alice")
    rentals.passes(600, [rig])
    rentals.book(alice, rig)
    market.clock.advance(60)
    rentals.release(alice, rig)  # of a machine that was not heard of
    rentals.book(alice, rig, start_ms=market.clock.now_ms() + 60 * MINUTE_MS)
    assert prices(rentals).utilisation_bps == 0
    market.check()


def test_sums_of_the_highest_prices(rentals: Rentals) -> None:
    most = 2**53 - 1
    for n in range(3):
        rentals.rig(f"m{n}", price_units=most - n)
    found = prices(rentals)
    assert (found.most_units, found.median_units, found.mean_units) == (most, most - 1, most - 1)


PRICES = st.lists(st.integers(1, 10 * HOUR_UNITS), min_size=1, max_size=9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=PRICES)
def test_figures_are_those_of_the_prices(rentals: Rentals, units: list[int]) -> None:
    for n in range(9):
        model = "GPU of these" if n < len(units) else "another"
        rentals.rig(f"m{n}", model=model, price_units=units[n] if n < len(units) else 7)
    found = prices(rentals, "of these")
    ordered, count = sorted(units), len(units)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) // 2
    assert (found.least_units, found.most_units, found.total) == (ordered[0], ordered[-1], count)
    assert (found.median_units, found.mean_units) == (median, sum(units) // count)
