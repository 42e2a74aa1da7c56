"""Everything that a flow does to a booking of a GPU, with what must be true once it has been done."""

from __future__ import annotations

from aitbc.coordinator.flows.acts import gpu_booking
from aitbc.coordinator.flows.acts import market as clockwork
from aitbc.coordinator.flows.acts.gpu_booking import Booked, Wish
from aitbc.coordinator.marketplace import queries
from aitbc.coordinator.marketplace.rows import BookingRow
from tests.coordinator.faults.acts import Act, Scene
from tests.support.flows import Market
from tests.support.market import HOUR_MS, HOUR_UNITS, Rentals, gpu_spec


class Let(Scene):
    """A fresh client, and a GPU of a fresh owner."""

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self.rentals = Rentals(market)
        self.rentals.round()
        self.rig = self.rentals.rig(f"rig-{self.tag}")
        self.booked: Booked | None = None

    def book(self) -> Let:
        self.booked = self.rentals.book(self.client, self.rig)
        return self

    def used(self) -> Let:
        """For nine minutes and some seconds."""
        self.book()
        self.rentals.passes(600, [self.rig])
        return self

    def run_out(self) -> Let:
        """Its time is over, and nobody has looked yet."""
        self.used()
        assert self.booked is not None
        self.market.submit(self.rentals.holder(self.booked), model=self.tag)
        self.market.clock.advance(3_000)
        return self

    def begun_elsewhere(self) -> Let:
        """It is for later, and later is now."""
        at_ms = self.market.clock.now_ms() + HOUR_MS
        self.booked = self.rentals.book(self.client, self.rig, start_ms=at_ms)
        self.market.clock.advance(3_600)
        return self

    def order(self) -> BookingRow:
        (row,) = self.market.db.read_sync(
            lambda tx: queries.orders(tx, booker_id=self.client.account_id, limit=2)
        )
        return row

    def wish(self) -> Wish:
        return Wish(self.rig.gpu.id, HOUR_MS)


def has_begun(scene: Let) -> bool:
    order, gpu = scene.order(), scene.rentals.gpu(scene.rig)
    return order.opened == 1 and gpu.booking_id == order.id and scene.held() == HOUR_UNITS


def is_paid(scene: Let) -> bool:
    order, gpu = scene.order(), scene.rentals.gpu(scene.rig)
    paid = (order.state, order.price_units, gpu.state, gpu.served_ms)
    return scene.held() == 0 and paid == ("completed", HOUR_UNITS // 6, "available", 595_000)


RENTAL_ACTS: dict[str, Act] = {
    "list_gpu": Act(
        Let,
        lambda s: (
            gpu_booking.register,
            s.market.ctx,
            s.rig.owner,
            gpu_spec(s.rig.provider.miner_id, price_units=7, region="us"),
        ),
        lambda s: (s.rentals.gpu(s.rig).price_units, s.rentals.gpu(s.rig).region) == (7, "us"),
    ),
    "book": Act(
        Let,
        lambda s: (gpu_booking.book, s.market.ctx, s.client, s.wish()),
        has_begun,
        ("GPU_BOOKED",),
    ),
    "new_access": Act(
        lambda m: Let(m).book(),
        lambda s: (gpu_booking.new_access, s.client, s.order().id),
        lambda s: s.order().grant_key_id != s.booked.booking.grant_key_id,
    ),
    "begin_booking": Act(lambda m: Let(m).begun_elsewhere(), lambda s: (clockwork.begin_due,), has_begun),
    "release_gpu": Act(
        lambda m: Let(m).used(),
        lambda s: (gpu_booking.release, s.market.ctx, s.client, s.rig.gpu.id, s.order().id),
        is_paid,
        ("BOOKING_ENDED",),
    ),
    "end_booking": Act(lambda m: Let(m).run_out(), lambda s: (clockwork.end_due, s.market.ctx), is_paid),
}
