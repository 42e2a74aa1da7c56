"""GPUs by the hour in a small network: a rig that a test lets, and the clock that runs for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import authenticate
from aitbc.coordinator.flows.acts import gpu_booking, gpu_review
from aitbc.coordinator.flows.acts import market as clockwork
from aitbc.coordinator.flows.acts.gpu_booking import Booked, Wish
from aitbc.coordinator.marketplace import bookings, gpus
from aitbc.coordinator.marketplace.rows import BookingRow, GpuRow, GpuSpec, ReviewRow
from tests.support.flows import Market, Provider

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
HOUR_UNITS = 6_000
ROUND_S = 5.0


def gpu_spec(miner_id: str = "m1", **options: Any) -> GpuSpec:
    said: dict[str, Any] = {
        "gpu_id": None,
        "miner_id": miner_id,
        "model": "NVIDIA GeForce RTX 4090",
        "memory_mb": 24 * 1024,
        "cards": 1,
        "cuda_version": "12.4",
        "region": "eu",
        "price_units": HOUR_UNITS,
        "capabilities": ("llm",),
        "description": "a box",
    }
    return GpuSpec(**{**said, **options})


class Rig(NamedTuple):
    """A miner, and the GPU that it runs on."""

    provider: Provider
    gpu: GpuRow

    @property
    def owner(self) -> Principal:
        return self.provider.principal


class Rentals:
    """GPUs of a market; every act is one durable transaction."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.db = market.db
        self.ctx = market.ctx

    def rig(self, miner_id: str = "m1", **said: Any) -> Rig:
        """A miner that works, and its GPU on offer."""
        provider = self.market.miner(miner_id)
        spec = gpu_spec(miner_id, **said)
        return Rig(provider, self.db.write_sync(gpu_booking.register, self.ctx, provider.principal, spec))

    def book(
        self,
        client: Principal,
        rig: Rig,
        hours: float = 1,
        start_ms: int | None = None,
        cap: int | None = None,
    ) -> Booked:
        wish = Wish(rig.gpu.id, round(hours * HOUR_MS), start_ms, cap)
        return self.db.write_sync(gpu_booking.book, self.ctx, client, wish)

    def release(self, who: Principal, rig: Rig, booking_id: str | None = None) -> BookingRow:
        return self.db.write_sync(gpu_booking.release, self.ctx, who, rig.gpu.id, booking_id)

    def review(
        self, who: Principal, rig: Rig, stars: int, text: str = "", booking_id: str | None = None
    ) -> ReviewRow:
        return self.db.write_sync(gpu_review.review, who, rig.gpu.id, booking_id, stars, text)

    def used(self, who: Principal, rig: Rig, seconds: float = 60) -> BookingRow:
        """A booking that is used for so long and released."""
        booked = self.book(who, rig)
        self.passes(seconds, [rig])
        return self.release(who, rig, booked.booking.id)

    def holder(self, booked: Booked) -> Principal:
        """Who shows the key that the booking gave."""
        return self.db.read_sync(authenticate, booked.key.key)

    def round(self) -> list[str]:
        """One look of the coordinator's clock; how bookings ended in it."""
        self.db.write_sync(clockwork.count, self.ctx)
        outcomes: list[str] = []
        while True:
            ended = self.db.write_sync(clockwork.end_due, self.ctx)
            outcomes += ended.outcomes
            begun = self.db.write_sync(clockwork.begin_due)
            cleared = self.db.write_sync(clockwork.clear_jobs)
            self.db.write_sync(clockwork.follow, self.ctx, self.db.read_sync(clockwork.moved, self.ctx))
            if not (ended.more or begun or cleared):
                return outcomes

    def passes(self, seconds: float, alive: Collection[Rig] = ()) -> list[str]:
        """Time passes while a coordinator runs, and these rigs are heard of; how bookings ended meanwhile."""
        outcomes: list[str] = []
        while seconds > 0:
            step = min(ROUND_S, seconds)
            seconds -= step
            self.market.clock.advance(step)
            for rig in alive:
                self.market.heartbeat(rig.provider)
            outcomes += self.round()
        return outcomes

    def booking(self, booked: Booked) -> BookingRow:
        row = self.db.read_sync(bookings.get, booked.booking.id)
        assert row is not None
        return row

    def gpu(self, rig: Rig) -> GpuRow:
        row = self.db.read_sync(gpus.get, rig.gpu.id)
        assert row is not None
        return row
