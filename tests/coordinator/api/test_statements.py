"""Statements over HTTP: JSON, CSV, pages, times, and whose they are."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter

from aitbc.coordinator.api.schemas.payments import Statement
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error


@pytest.fixture
def history(api: Market, clock: ManualClock) -> tuple[Headers, Headers]:
    """Three paid jobs of alice by the mill, an hour apart, of a model whose name a spreadsheet would run."""
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    api.miner(miner, capabilities=["-1+cmd"], prices={"-1+cmd": 0.5})
    for _ in range(3):
        clock.advance(3600)
        job_id = api.job(client, model="-1+cmd", constraints={"max_price": 1})
        api.claim(miner, job_id)
        assert api.complete(miner, job_id).status_code == 200
    return client, miner


def statement(api: Market, who: Headers, **query: Any) -> dict[str, Any]:
    answer = api.get("/v1/statements", who, params=query)
    assert answer.status_code == 200, answer.text
    TypeAdapter(Statement).validate_json(answer.content)
    return dict(answer.json())


def test_a_statement_shows_what_moved_the_balance(api: Market, history: tuple[Headers, Headers]) -> None:
    client, miner = history
    whole = statement(api, client)
    assert (whole["account"], whole["from"]) == ("alice", "1970-01-01T00:00:00.000Z")
    assert [row["kind"] for row in whole["rows"]] == ["mint", *["post", "fee"] * 3]
    assert whole["movements"] == 7
    assert (whole["opening_balance"], whole["total_in"]) == (0, 1000)
    assert whole["closing_balance"] == api.get("/v1/account", client).json()["balance"]
    paid = whole["rows"][1]
    receipt = api.get(f"/v1/receipts/{paid['receipt_id']}").json()
    for name in ("job_id", "model", "units", "unit_price", "price", "fee"):
        assert paid[name] == receipt[name], name
    assert paid["counterparty"] == receipt["provider"] == "mill"
    earned = statement(api, miner)["rows"][1]
    assert (earned["role"], earned["transfer_id"]) == ("miner", paid["transfer_id"])
    assert earned["amount"] == -paid["amount"] > 0
    part = {"from": "2026-01-01T01:00:00.001Z", "to": "2026-01-01T03:00:00Z"}
    second = statement(api, client, **part)
    assert [row["transfer_id"] for row in second["rows"]] == [
        row["transfer_id"] for row in whole["rows"][3:5]
    ]
    assert statement(api, client, **{"from": "2026-01-02", "to": "2026-02-01"})["rows"] == []


def test_pages_of_json_and_csv_are_the_same_whole(
    api: Market, history: tuple[Headers, Headers], clock: ManualClock
) -> None:
    client, _ = history
    whole = statement(api, client)
    rows: list[Any] = []
    page = statement(api, client, limit=3)
    while True:
        rows += page["rows"]
        assert page["to"] == whole["to"]
        if page["next_cursor"] is None:
            break
        clock.advance(60)  # what moves meanwhile does not belong to the statement
        page = statement(api, client, limit=3, cursor=page["next_cursor"])
        assert page["opening_balance"] is None
    assert rows == whole["rows"]

    text, cursor = "", ""
    for number in range(4):
        answer = api.get(
            "/v1/statements",
            client,
            params={"format": "csv", "limit": 2, "to": whole["to"], "cursor": cursor},
        )
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert ("x-closing-balance" in answer.headers) == (number == 0)
        text += answer.text
        cursor = answer.headers.get("x-next-cursor", "")
    assert cursor == ""
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["transfer_id"] for line in lines] == [row["transfer_id"] for row in rows]
    assert {line["model"] for line in lines} == {"", "'-1+cmd"}
    amounts = sum(Decimal(line["amount"]) for line in lines)
    assert float(amounts) == whole["closing_balance"]
    assert amounts < 1000


@sqlite_only
def test_bad_questions(api: Market) -> None:
    client = api.key("client", "alice")
    expect_error(api.get("/v1/statements"), 401, "UNAUTHORIZED")
    bad: list[dict[str, Any]] = [
        {"from": "yesterday"},
        {"to": "2026-02-30"},
        {"from": "1969-12-31"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"format": "xml"},
        {"limit": 0},
        {"limit": 1001},
        {"cursor": "nonsense"},
        {"cursor": "253402300800000.0.0193f5a0-0000-7000-8000-000000000000"},
    ]
    for query in bad:
        expect_error(api.get("/v1/statements", client, params=query), 400, "INVALID_REQUEST")
    assert statement(api, client, **{"from": "", "to": "9999-12-31"})["movements"] == 1
