"""Signing keys that come and go."""

from collections.abc import Callable

from aitbc.core.clock import ManualClock, rfc3339
from aitbc.core.log.keyset import KeySet
from aitbc.core.receipt.verification import verify_bytes
from tests.coordinator.api.support import Market


def test_receipts_of_a_retired_key_stay_good(start_api: Callable[..., Market], clock: ManualClock) -> None:
    """As after a change of SECRET_KEY: the old key's receipts verify, and its window has an end."""
    first = start_api(secret_key="a secret of these tests, 1")
    client, miner = first.key("client", "alice"), first.key("miner", "bob")
    first.miner(miner)
    job = first.job(client)
    first.claim(miner, job)
    first.complete(miner, job)
    old = first.runtime.signing_key.key_id
    clock.advance(3600)
    second = start_api(secret_key="a secret of these tests, 2")
    listed = {key["key_id"]: key for key in second.get("/v1/keys").json()["keys"] if key["use"] == "receipts"}
    assert listed[old]["valid_to"] == rfc3339(clock.now_ms())
    assert listed[second.runtime.signing_key.key_id]["valid_to"] is None

    receipt = second.get(f"/v1/jobs/{job}", client).json()["receipt_id"]
    keys = KeySet.from_json(second.get("/v1/keys").json())
    assert verify_bytes(second.get(f"/v1/receipts/{receipt}").content, keys).ok
