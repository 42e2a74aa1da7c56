"""Amounts in bodies are plain decimals, however small."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from aitbc.coordinator.api.native.amounts import SMALL_UNITS, ait, plain
from aitbc.core.money import MAX_UNITS, ait_number, format_ait, parse_ait
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market, expect_error
from tests.support.aitbc import run_aitbc

EXPONENT = re.compile(rb"[:,\[]-?[0-9][0-9.]*e")
ABOUT = [0, 1, 7, 10, 175, 999, 1000, 1001, 12_345, 10**8 - 1, 10**8, 10**8 + 1, 175 * 10**6, MAX_UNITS]


def test_every_size_is_printed_plainly() -> None:
    for units in (*range(2 * SMALL_UNITS), *ABOUT):
        for signed in (units, -units):
            for number in (ait(signed), plain(ait_number(signed))):
                text = orjson.dumps(number).decode()
                assert "e" not in text
                assert json.loads(text) == ait_number(signed), "the same number"
                if abs(signed) < 2 * SMALL_UNITS and signed % 10**8:
                    assert text == format_ait(signed)
        if units < 2**53 // 2:
            assert parse_ait(json.loads(orjson.dumps(ait(units)), parse_float=Decimal)) == units


@pytest.mark.parametrize("value", ["1e-6", None, True, 0.0, 1, 0.5, -0.5, [1e-6], 1e-9, 1.5e-8])
def test_what_is_no_small_number_is_left_alone(value: Any) -> None:
    assert plain(value) is value


def test_bodies_of_a_very_cheap_job(start_api: Callable[..., Market]) -> None:
    """A job of a few units, from its quote to its receipt, for everybody who may see it."""
    api = start_api(devnet_grant="0.00000999")
    client, miner = api.key("client", "cleo", grant_units=999), api.key("miner", "milo", grant_units=0)
    capabilities = {"models": [{"name": "m", "price_per_1k": 0.00000175}], "job_types": ["llm_inference"]}
    bodies = [api.post("/v1/miners/register", miner, json={"miner_id": "m1", "capabilities": capabilities})]
    body = {"prompt": "x", "model": "m", "params": {"max_tokens": 5}, "constraints": {"max_price": 0.000003}}
    bodies += [api.post("/v1/jobs/quote", client, json=body), api.post("/v1/jobs", client, json=body)]
    job = bodies[-1].json()
    job_id = job["job_id"]
    assert 0 < job["price_held"] < 1e-5
    bodies.append(api.get("/v1/miner/jobs", miner, params={"miner_id": "m1"}))
    assert bodies[-1].json()["jobs"][0]["unit_price"] == 0.00000175
    result = {"miner_id": "m1", "job_id": job_id, "result": {"text": "y"}}
    bodies.append(api.post("/v1/miner/result", miner, json=result))
    receipt = bodies[-1].json()
    assert 0 < receipt["price"] < 1e-5
    receipt_id = receipt["receipt_id"]
    poor = api.key("client", "cleo2", grant_units=0)
    bodies.append(api.post("/v1/jobs", poor, json=body))
    assert bodies[-1].json()["error"]["details"]["needed"] == job["price_held"]
    bodies.append(api.post("/v1/jobs/batch", poor, json={"jobs": [body]}))
    own = [f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/payment", "/v1/jobs", "/v1/account", "/v1/statements"]
    bodies += [api.get(path, client) for path in own]
    bodies += [api.get(path) for path in ("/v1/miners", "/v1/receipts", f"/v1/receipts/{receipt_id}")]
    for answer in bodies:
        assert answer.status_code in (200, 201, 402), answer.text
        # A miner's capabilities are shown as it sent them.
        shown = re.sub(rb'"capabilities":\{.*?\]\}', b"", answer.content)
        assert EXPONENT.search(shown) is None, answer.text
    assert b"0.00000175" in bodies[0].content

    file = Path(api.runtime.settings.home) / "receipt.json"
    file.write_bytes(api.get(f"/v1/receipts/{receipt_id}").content)
    keys = file.with_name("keys.json")
    keys.write_bytes(api.get("/v1/keys").content)
    status, printed = run_aitbc(["receipt", "verify", file, "--keys", keys])
    assert status == 0, printed


@sqlite_only
def test_a_price_that_no_receipt_could_state_is_refused_where_it_is_named(api: Market) -> None:
    client, miner = api.key("client", "payer"), api.key("miner", "mill")
    job = {"prompt": "x", "model": "m", "params": {"max_tokens": 1}}
    models = {"miner_id": "m1", "capabilities": {"models": [{"name": "m", "price_per_1k": 1}]}}

    def asks(price: float) -> list[Any]:
        named = {"models": [{"name": "m", "price_per_1k": price}]}
        return [
            api.post("/v1/jobs", client, json={**job, "constraints": {"max_price": price}}),
            api.post("/v1/miners/register", miner, json={**models, "capabilities": named}),
            api.post("/v1/miners/register", miner, json={**models, "prices": {"m": price}}),
        ]

    for answer in asks(67_108_864.00000001):
        assert "cannot exceed 67108864 AIT" in str(
            expect_error(answer, 400, "INVALID_REQUEST")["error"]["details"]
        )
    assert [answer.status_code for answer in asks(67_108_864)][1:] == [201, 201]
