"""GPUs by the hour through both clients, against a real coordinator process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest

from aitbc import sdk
from aitbc.sdk import Client, GpuOffer
from aitbc.sdk.async_client import AsyncClient
from tests.sdk.network import Network, running_network
from tests.sdk.test_real_server import dora

__all__ = ["dora"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One of their own: miners that do nothing would stand in what other tests count."""
    with running_network(tmp_path_factory.mktemp("gpus")) as started:
        yield started


def rig(network: Network, price: float = 0.6, **said: Any) -> GpuOffer:
    """A GPU of carol's whose miner is registered, and does nothing."""
    miner_id = f"rig-{uuid4().hex[:8]}"
    headers = {"X-Api-Key": network.carol.key}
    body = {"miner_id": miner_id, "capabilities": ["no-such-model"]}
    httpx.post(f"{network.url}/v1/miners/register", headers=headers, json=body).raise_for_status()
    with Client(network.url, network.carol.key) as carol:
        return carol.register_gpu("NVIDIA GeForce RTX 4090", 24, price, miner_id=miner_id, **said)


@pytest.fixture
def gpu(network: Network) -> Iterator[GpuOffer]:
    yield rig(network, region="eu", cuda_version="12.4", capabilities=["llm"], description="a box")


def test_both_clients_have_every_operation() -> None:
    names = {
        "register_gpu",
        "gpus",
        "gpu",
        "book_gpu",
        "new_gpu_key",
        "release_gpu",
        "gpu_order",
        "gpu_orders",
        "review_gpu",
        "gpu_reviews",
        "gpu_pricing",
    }
    for client in (Client, AsyncClient):
        assert names <= set(vars(client))


def test_a_booking_from_list_to_order(dora: Any, gpu: GpuOffer, network: Network) -> None:
    found = dora.gpus(
        model="rtx 4090", available=True, region="eu", max_price="0.6", memory_gb=24, sort="newest"
    )
    assert gpu.gpu_id in [one.gpu_id for one in found.items]
    quote = dora.book_gpu(gpu.gpu_id, 1.5, dry_run=True)
    assert (quote.total_price, quote.booking_id, quote.api_key) == (Decimal("0.9"), "", None)
    before = dora.balance()
    order = dora.book_gpu(gpu.gpu_id, 1.5, max_price="0.9")
    assert (order.status, order.total_price, order.booker) == ("active", Decimal("0.9"), "dora")
    assert order.end_time - order.start_time == timedelta(hours=1.5)
    assert dora.balance().held - before.held == Decimal("0.9")
    shown = dora.gpu(gpu.gpu_id)
    assert (shown.status, shown.booked) == ("booked", ((order.start_time, order.end_time),))
    with Client(network.url, order.api_key) as holder:
        job = holder.submit("hello", model="no-such-model")
        assert [one.job_id for one in holder.jobs().items] == [job.job_id]
        with pytest.raises(sdk.PermissionDenied):
            holder.balance()
    fresh = dora.new_gpu_key(order.booking_id)
    assert fresh != order.api_key
    ended = dora.release_gpu(gpu.gpu_id, order.booking_id)
    assert (ended.status, ended.price, ended.refunded) == ("cancelled", 0, Decimal("0.9"))
    assert dora.gpu_order(order.booking_id) == ended
    assert ended in dora.gpu_orders(status="cancelled").items
    with Client(network.url, network.carol.key) as carol:
        assert ended in carol.gpu_orders(as_owner=True, gpu_id=gpu.gpu_id).items
    assert dora.balance().balance == before.balance


def test_what_is_refused(dora: Any, gpu: GpuOffer, network: Network) -> None:
    with pytest.raises(sdk.NotFound):
        dora.gpu("none")
    with pytest.raises(sdk.InvalidRequest):
        dora.book_gpu(gpu.gpu_id, 0)
    with pytest.raises(sdk.PaymentRequired):
        dora.book_gpu(rig(network, price=10).gpu_id, 700)
    order = dora.book_gpu(gpu.gpu_id, 1, start=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(sdk.Conflict) as refused:
        dora.book_gpu(gpu.gpu_id, 1, start=order.start_time)
    assert refused.value.code == "GPU_BOOKED"
    dora.release_gpu(gpu.gpu_id)
    with pytest.raises(sdk.Conflict):
        dora.release_gpu(gpu.gpu_id, order.booking_id)


def test_reviews_and_prices(dora: Any, gpu: GpuOffer, network: Network) -> None:
    with pytest.raises(sdk.PermissionDenied) as refused:
        dora.review_gpu(gpu.gpu_id, 5)
    assert refused.value.code == "REVIEW_NEEDS_BOOKING"
    order = dora.book_gpu(gpu.gpu_id, 1)
    with pytest.raises(sdk.Conflict) as refused:
        dora.review_gpu(gpu.gpu_id, 5, booking_id=order.booking_id)
    assert refused.value.code == "BOOKING_NOT_SETTLED"
    heard = {"X-Api-Key": network.carol.key}
    while dora.gpu_order(order.booking_id).used_seconds == 0:
        body = {"miner_id": gpu.miner_id}
        httpx.post(f"{network.url}/v1/miner/heartbeat", headers=heard, json=body).raise_for_status()
    assert dora.release_gpu(gpu.gpu_id, order.booking_id).status == "completed"
    made = dora.review_gpu(gpu.gpu_id, 4, "quick")
    changed = dora.review_gpu(gpu.gpu_id, 5, "quick and quiet", booking_id=order.booking_id)
    assert (changed.review_id, changed.rating, changed.author) == (made.review_id, 5, "dora")
    page = dora.gpu_reviews(gpu.gpu_id)
    assert (page.items, page.rating, page.count) == ((changed,), 3.75, 1)
    shown = dora.gpu(gpu.gpu_id)
    assert (shown.rating, shown.reviews) == (3.75, 1)
    prices = dora.gpu_pricing("geforce rtx-4090")
    assert prices.min_price <= prices.median_price <= prices.max_price
    assert 0 < prices.available <= prices.total
    assert Decimal("0.8") <= prices.suggested_price / prices.median_price <= Decimal("1.2")
    with pytest.raises(sdk.NotFound):
        dora.gpu_pricing("none such")
