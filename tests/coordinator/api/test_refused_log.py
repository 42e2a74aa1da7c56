"""While the log is refused nothing is handed out that is signed in it or proven from it, by any route."""

from __future__ import annotations

from typing import Any

from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_explorer import finish, seal

FROM_THE_LOG = frozenset(
    {
        "block",
        "block_hash",
        "block_height",
        "checkpoint",
        "cosignatures",
        "head_hash",
        "leaf_index",
        "previous_hash",
        "proof",
        "root",
        "tree_size",
    }
)
"""Members of replies that say something of the log. Texts and bytes are looked at as well."""

REFUSED = {
    "GET /log/checkpoint": "/log/checkpoint",
    "GET /log/tile/{path}": "/log/tile/0/000.p/1",
    "GET /log/consistency": "/log/consistency?old=1&new=1",
    "GET /v1/receipts/{receipt_id}": "/v1/receipts/{receipt}",
    "GET /v1/receipts/{receipt_id}/proof": "/v1/receipts/{receipt}/proof",
    "GET /v1/client/jobs/{job_id}/receipts": "/v1/client/jobs/{job}/receipts",
    "GET /v1/payments/{payment_id}/receipt": "/v1/payments/{payment}/receipt",
    "GET /rpc/head": "/rpc/head",
    "GET /rpc/blocks/{height}": "/rpc/blocks/1",
    "GET /v1/explorer/blocks": "/v1/explorer/blocks",
    "GET /explorer/blocks": "/explorer/blocks",
    "GET /v1/explorer/blocks/{block}": "/v1/explorer/blocks/1",
    "GET /v1/explorer/transactions/{transaction}": "/v1/explorer/transactions/{transaction}",
    "GET /v1/explorer/receipts/{receipt_id}": "/v1/explorer/receipts/{receipt}",
}
"""What proves something, and where it is asked for here."""

UNPROVEN = "it tells places and numbers as the database has them, and proves none of them"
NEW = (
    "the receipt was signed just now, by the key for receipts: no block has sealed it, and its proof is null"
)
OWN = "what the coordinator signed for the receipts, which needs no log; proofs are left out of lists"
SERVED = {
    "GET /rpc/info": UNPROVEN,
    "GET /rpc/tx/{hash}": UNPROVEN,
    "GET /v1/explorer/stats": UNPROVEN,
    "GET /explorer/stats": UNPROVEN,
    "GET /v1/explorer/transactions": UNPROVEN,
    "GET /explorer/transactions": UNPROVEN,
    "POST /v1/jobs/{job_id}/complete": NEW,
    "POST /v1/miner/result": NEW,
    "POST /v1/miner/results": NEW,
    "GET /v1/receipts": OWN,
    "GET /v1/explorer/receipts": OWN,
    "GET /explorer/receipts": OWN,
    "GET /metrics": "it counts what this process did",
    "GET /v1/statements": "a statement's CSV is of the ledger, and names no block",
}
"""What says something of the log all the same, or is no JSON, and why it goes on."""


def members(document: Any, schema: Any, seen: frozenset[str] = frozenset()) -> set[str]:
    """The names of all members that a reply of this schema can have."""
    if isinstance(schema, list):
        return {name for one in schema for name in members(document, one, seen)}
    if not isinstance(schema, dict):
        return set()
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.rpartition("/")[2]
        return set() if name in seen else members(document, document[name], seen | {name})
    found = set(schema.get("properties", {}))
    for inner in schema.get("properties", {}).values():
        found |= members(document, inner, seen)
    for key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties"):
        found |= members(document, schema.get(key), seen)
    return found


def tells_of_the_log(document: Any, operation: Any) -> bool:
    for status, answer in operation["responses"].items():
        if not status.startswith("2"):
            continue
        for media_type, content in answer.get("content", {}).items():
            if media_type == "text/html":
                continue
            if media_type != "application/json":
                return True
            if FROM_THE_LOG & members(document["components"]["schemas"], content.get("schema")):
                return True
    return False


@sqlite_only
def test_every_route_that_tells_of_the_log_is_looked_at(api: Market) -> None:
    document = api.get("/openapi.json").json()
    telling = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if tells_of_the_log(document, operation)
    }
    assert not REFUSED.keys() & SERVED.keys()
    assert telling == REFUSED.keys() | SERVED.keys()
    for name in REFUSED:
        method, path = name.split()
        assert "503" in document["paths"][path][method.lower()]["responses"], name


def settled(api: Market) -> tuple[dict[str, str], Headers]:
    """A paid and sealed job's names, and its client."""
    client, miner = api.key("client", "alice"), api.key("miner", "bob")
    api.miner(miner)
    job = finish(api, client, miner)
    seal(api)
    receipt = api.get("/v1/receipts").json()[0]["id"]
    payment = api.get(f"/v1/jobs/{job}/payment", client).json()["payment_id"]
    transaction = api.get("/v1/explorer/transactions").json()[0]["id"]
    return {"job": job, "receipt": receipt, "payment": payment, "transaction": transaction}, client


@sqlite_only
def test_nothing_proven_is_served_while_the_log_is_refused(api: Market) -> None:
    names, client = settled(api)
    asked = {name: path.format(**names) for name, path in REFUSED.items()}
    before = {name: api.get(path, client) for name, path in asked.items()}
    assert {name: answer.status_code for name, answer in before.items()} == dict.fromkeys(asked, 200)
    api.runtime.refuse_log("it is older than the log")
    for path in asked.values():
        error = expect_error(api.get(path, client), 503, "LOG_REFUSED")
        assert "it is older than the log" in error["error"]["message"]
    for name in SERVED:
        method, path = name.split()
        if method == "GET" and "{" not in path:
            assert api.get(path, client).status_code == 200, name
    assert api.get("/v1/receipts").json()[0]["proof"] is None
