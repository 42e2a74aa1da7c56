"""`aitbc gpu …` against a real coordinator."""

from __future__ import annotations

from tests.cli.harness import User
from tests.sdk.network import Network
from tests.sdk.test_gpus import rig


def test_a_gpu_is_found_booked_and_released(alice: User, network: Network) -> None:
    gpu = rig(network, region="north")
    listed = alice("gpu", "list", "--available", "--model", "rtx4090", "--region", "north")
    assert gpu.gpu_id in listed.out
    assert "0.6" in listed.out
    assert "NVIDIA GeForce RTX 4090" in alice("gpu", "show", gpu.gpu_id).out
    dry = alice("gpu", "book", gpu.gpu_id, "2", "--dry-run")
    assert (dry.code, "1.2" in dry.out, "aitbc_client_" in dry.out) == (0, True, False)
    booked = alice("gpu", "book", gpu.gpu_id, "2", "--max-price", "1.2", "--json").json
    key = booked["access"]["api_key"]
    assert booked["total_price"] == 1.2
    assert alice("submit", "hello", "-m", "no-such-model", "--key", key).code == 0
    assert booked["booking_id"] in alice("gpu", "orders", "--status", "active").out
    released = alice("gpu", "release", gpu.gpu_id)
    assert (released.code, "cancelled" in released.out, "1.2" in released.out) == (0, True, True)
    assert [one["id"] for one in alice("gpu", "orders", "--json", "--limit", "1").json] == [booked["id"]]
    assert alice("gpu", "release", gpu.gpu_id).code != 0


def test_the_key_is_printed_once(alice: User, network: Network) -> None:
    gpu = rig(network)
    booked = alice("gpu", "book", gpu.gpu_id, "1")
    assert "aitbc_client_" in booked.out
    assert "not shown again" in booked.out
    assert "aitbc_client_" not in alice("gpu", "orders").out
    alice("gpu", "release", gpu.gpu_id)


def test_what_is_no_amount_or_time(alice: User) -> None:
    for words in (("--max-price", "much"), ("--start", "tomorrow")):
        refused = alice("gpu", "book", "any", "1", *words)
        assert (refused.code, words[0] in refused.err) == (2, True)


def test_reviews_and_prices_are_shown(alice: User, network: Network) -> None:
    gpu = rig(network)
    refused = alice("gpu", "review", gpu.gpu_id, "5", "--text", "quick")
    assert (refused.code != 0, "booked" in refused.err) == (True, True)
    assert "3.50 of 5, 0 review(s)" in alice("gpu", "reviews", gpu.gpu_id).out
    assert alice("gpu", "reviews", gpu.gpu_id, "--json").json == []
    prices = alice("gpu", "pricing", "RTX 4090")
    assert (prices.code, "suggested, AIT/hour" in prices.out) == (0, True)
    assert alice("gpu", "pricing", "rtx4090", "--json").json["median_price"] > 0
    assert alice("gpu", "pricing", "none such").code != 0
    assert alice("gpu", "review", gpu.gpu_id, "6").code == 2
