"""Receipts, public keys and the caller's account."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import NATIVE, PUBLIC, PUBLIC_ONE, READ
from aitbc.coordinator.api.native.render import receipt_json, reply
from aitbc.coordinator.api.plumbing.auth import AnyKey
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api.schemas.queries import ReceiptList
from aitbc.coordinator.api_keys.spending import spent_now
from aitbc.coordinator.flows.views import log_entries, own_account
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.log.keyset import USE_LOG, USE_RECEIPTS, KeySet, PublishedKey
from aitbc.core.signing import public_from_text

router = Router(NATIVE)


@router.get(
    "/v1/receipts",
    tags=["Receipts"],
    summary="List receipts",
    response_model=list[replies.Receipt],
    response_model_exclude_unset=True,
    responses=PUBLIC,
)
async def list_receipts(request: ApiRequest, query: Annotated[ReceiptList, Query()]) -> Response:
    """Public, newest first; hashes stand for prompt and result, proofs are left out (ask for one receipt).

    X-Next-Cursor names the next page."""
    page = await request.runtime.db.read(
        receipts.find,
        client=query.client,
        provider=query.provider,
        miner_id=query.miner_id,
        model=query.model,
        job_id=query.job_id,
        before_id=query.cursor,
        limit=query.limit,
        offset=query.offset,
    )
    headers = None if page.next_before is None else {"X-Next-Cursor": page.next_before}
    return reply([receipt_json(row) for row in page.rows], headers=headers)


@router.get(
    "/v1/receipts/{receipt_id}",
    tags=["Receipts"],
    summary="Get receipt details",
    response_model=replies.Receipt,
    responses=PUBLIC_ONE,
)
async def get_receipt(request: ApiRequest, receipt_id: str) -> Response:
    """One receipt, with its proof of inclusion once a block has sealed it. Public."""
    row, proof = await request.runtime.read_log(log_entries.proven_receipt, receipt_id)
    return reply(receipt_json(row, proof=proof))


@router.get(
    "/v1/keys",
    tags=["Receipts"],
    summary="The coordinator's public keys",
    response_model=replies.PublicKeys,
    responses=PUBLIC,
)
async def list_keys(request: ApiRequest) -> Response:
    """Every key that ever signed here: receipts, and the log's checkpoints. Save them once, and verify offline.

    One Ed25519 key may do both; it is listed for each use, under that use's verifier key."""
    rows = await request.runtime.db.read(receipts.keys)
    keys = [
        PublishedKey(public_from_text(row.public_key), row.valid_from_ms, row.valid_to_ms, use)
        for row in rows
        for use in (USE_RECEIPTS, USE_LOG)
    ]
    network = request.runtime.network
    return reply(KeySet(network.chain_id, keys, network.origin, network.network_id).to_json())


@router.get(
    "/v1/account",
    tags=["Account"],
    summary="The caller's account",
    response_model=replies.Account,
    responses=READ,
)
async def get_account(request: ApiRequest, principal: AnyKey) -> Response:
    """Its money, what is held for open jobs, and the key's own limit."""
    balance, info, now_ms = await request.runtime.db.read(own_account.own_account, principal)
    key: replies.KeyState = {"key_id": principal.key_id, "role": principal.role}
    if info is not None and info.limit_units is not None:
        key["limit"] = ait(info.limit_units)
        key["limit_period"] = info.limit_period
        key["spent"] = ait(spent_now(info, now_ms))
    shown: replies.Account = {
        "account": balance.account_id,
        "balance": ait(balance.balance_units),
        "held": ait(balance.held_units),
        "available": ait(balance.available_units),
        "key": key,
    }
    return reply(shown)
