"""The explorer: blocks, transactions, addresses, receipts and numbers of the network. Public.

The documented lists are served under /explorer and under /v1/explorer by the same endpoints.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import NATIVE, PUBLIC, PUBLIC_ONE
from aitbc.coordinator.api.native.render import receipt_json, reply
from aitbc.coordinator.api.plumbing.errors import field_errors
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import explorer as schemas
from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.chain import proofs, queries, witnessing
from aitbc.coordinator.chain.queries import Span
from aitbc.coordinator.chain.sealer import BlockRow
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import BlockNotFound
from aitbc.coordinator.flows.views import activity, explorer, log_entries
from aitbc.coordinator.flows.views.explorer import Address, Page, Transaction
from aitbc.coordinator.receipts import service as receipts
from aitbc.core.clock import rfc3339
from aitbc.core.numbers import read_count

router = Router(NATIVE, tags=["Explorer"])

_Handler = Callable[..., Awaitable[Response]]


def _twice(path: str, **options: Any) -> Callable[[_Handler], _Handler]:
    """Declares one endpoint under both documented paths."""

    def declare(endpoint: _Handler) -> _Handler:
        for prefix in ("/explorer", "/v1/explorer"):
            router.get(f"{prefix}{path}", **options)(endpoint)
        return endpoint

    return declare


def block_json(block: BlockRow, final_height: int | None, cosignatures: int) -> schemas.Block:
    """A block as lists show it."""
    return {
        "height": block.height,
        "hash": block.hash,
        "previous_hash": block.previous_hash,
        "timestamp": rfc3339(block.time_ms),
        "transactions": block.transactions,
        "receipts": block.receipts,
        "contents": orjson.loads(block.contents) if block.contents else None,
        "leaves": block.tree_size - block.first_leaf,
        "first_leaf": block.first_leaf,
        "tree_size": block.tree_size,
        "root": block.root,
        "proposer": block.proposer or None,
        "signature": block.signature or None,
        "final": final_height is not None and block.height <= final_height,
        "cosignatures": cosignatures,
    }


def transaction_json(found: Transaction) -> schemas.Transaction:
    """A transfer as everybody sees it."""
    row = found.row
    return {
        "hash": bytes(row.hash).hex(),
        "id": row.id,
        "type": row.kind,
        "from": row.debit_id,
        "to": row.credit_id,
        "amount": ait(row.amount_units),
        "job_id": found.job_id,
        "reason": found.reason,
        "leaf_index": row.leaf_index,
        "block_height": None if found.block is None else found.block.height,
        "timestamp": rfc3339(row.created_at_ms),
    }


def address_json(found: Address) -> schemas.Address:
    """An account as everybody sees it: not what it holds for open jobs, nor its keys."""
    return {
        "address": found.id,
        "type": found.kind,
        "balance": ait(found.balance_units),
        "transactions": found.transactions,
        "first_seen": None if found.first_seen_ms is None else rfc3339(found.first_seen_ms),
        "last_seen": None if found.last_seen_ms is None else rfc3339(found.last_seen_ms),
    }


def _page(body: Sequence[Mapping[str, object]], cursor: str | None) -> Response:
    return reply(body, headers=None if cursor is None else {"X-Next-Cursor": cursor})


@_twice("/blocks", summary="Get recent blocks", response_model=list[schemas.Block], responses=PUBLIC)
async def list_blocks(request: ApiRequest, query: Annotated[schemas.BlockList, Query()]) -> Response:
    """Newest first. X-Next-Cursor names the next page."""
    quorum = request.runtime.settings.witness_quorum
    blocks, cursor = await request.runtime.read_log(_blocks, query, quorum)
    return _page([block_json(*one) for one in blocks], cursor)


_Witnessed = tuple[BlockRow, int | None, int]
"""A block, the height of the newest final one, and how many witnesses cosigned it."""


def _blocks(tx: Tx, query: schemas.BlockList, quorum: int) -> tuple[list[_Witnessed], str | None]:
    before = None if query.cursor is None else _height(query.cursor)
    rows = queries.blocks(tx, before, query.limit, query.offset)
    if not rows:
        return [], None
    final = witnessing.final_height(tx, quorum)
    counts = queries.cosignature_counts(tx, rows[-1].height, rows[0].height)
    cursor = str(rows[-1].height) if len(rows) == query.limit and rows[-1].height > 0 else None
    return [(row, final, counts.get(row.height, 0)) for row in rows], cursor


@router.get(
    "/v1/explorer/blocks/{block}",
    summary="One block",
    response_model=schemas.FullBlock,
    responses=PUBLIC_ONE,
)
async def get_block(request: ApiRequest, block: str) -> Response:
    """By its height or its hash; with its signature and its checkpoint as witnesses cosigned it."""
    quorum = request.runtime.settings.witness_quorum
    found, checkpoint = await request.runtime.read_log(_block, block, quorum)
    return reply(schemas.FullBlock({**block_json(*found), "checkpoint": checkpoint}))


def _block(tx: Tx, name: str, quorum: int) -> tuple[_Witnessed, str | None]:
    row = _block_named(tx, name)
    found = (row, witnessing.final_height(tx, quorum), witnessing.count(tx, row.height))
    return found, proofs.checkpoint_of(tx, row) if row.checkpoint else None


def _block_named(tx: Tx, name: str) -> BlockRow:
    """Raises NotFound."""
    row: BlockRow | None = None
    if len(name) == queries.HASH_DIGITS:
        row = next(iter(queries.blocks_by_hash(tx, name, 1)), None)
    elif (height := read_count(name)) is not None:
        row = proofs.block_at(tx, height)
    if row is None or name not in (row.hash, str(row.height)):
        raise BlockNotFound(height=name)
    return row


@_twice(
    "/transactions",
    summary="Get recent transactions",
    response_model=list[schemas.Transaction],
    responses=PUBLIC_ONE,
)
async def list_transactions(
    request: ApiRequest, query: Annotated[schemas.TransactionList, Query()]
) -> Response:
    """Transfers of the ledger, newest first, sealed or not. X-Next-Cursor names the next page."""
    page = await request.runtime.db.read(_transactions, query)
    return _page([transaction_json(one) for one in page.items], page.cursor)


def _transactions(tx: Tx, query: schemas.TransactionList) -> Page:
    if query.address is not None:
        return explorer.transactions_of_address(tx, query.address, query.cursor, query.limit, query.offset)
    if query.block is not None:
        row = _block_named(tx, query.block)
        span = Span(row.height, row.first_leaf, row.tree_size, row.time_ms)
        return explorer.transactions_of_block(tx, span, query.cursor, query.limit, query.offset)
    return explorer.transactions(tx, query.cursor, query.limit, query.offset)


@router.get(
    "/v1/explorer/transactions/{transaction}",
    summary="One transaction",
    response_model=schemas.FullTransaction,
    responses=PUBLIC_ONE,
)
async def get_transaction(request: ApiRequest, transaction: str) -> Response:
    """By its id, the hash that a wallet signed, or its leaf's hash once sealed; with its proof of inclusion."""
    found, proof = await request.runtime.read_log(_transaction, transaction)
    return reply(schemas.FullTransaction({**transaction_json(found), "proof": proof}))


def _transaction(tx: Tx, name: str) -> tuple[Transaction, str | None]:
    found = explorer.transaction(tx, name)
    return found, proofs.proof_if_sealed(tx, found.row.id)


@router.get(
    "/v1/explorer/addresses",
    summary="Address summaries",
    response_model=list[schemas.Address],
    responses=PUBLIC,
)
async def list_addresses(request: ApiRequest, query: Annotated[schemas.Paged, Query()]) -> Response:
    """Accounts with sealed transfers, last come first. X-Next-Cursor names the next page."""
    page = await request.runtime.db.read(explorer.addresses, query.cursor, query.limit, query.offset)
    return _page([address_json(one) for one in page.items], page.cursor)


@router.get(
    "/v1/explorer/addresses/{address}",
    summary="One address",
    response_model=schemas.Address,
    responses=PUBLIC_ONE,
)
async def get_address(request: ApiRequest, address: str) -> Response:
    """Its balance and its activity; its transfers are in the list of transactions, by `address`."""
    return reply(address_json(await request.runtime.db.read(explorer.address, address)))


@_twice(
    "/receipts",
    summary="Get recent receipts",
    response_model=list[replies.Receipt],
    response_model_exclude_unset=True,
    responses=PUBLIC,
)
async def list_receipts(request: ApiRequest, query: Annotated[schemas.ReceiptPage, Query()]) -> Response:
    """Receipts as GET /v1/receipts has them: hashes stand for prompts and results. Newest first."""
    page = await request.runtime.db.read(
        receipts.find,
        client=query.client,
        provider=query.provider,
        job_id=query.job_id,
        before_id=query.cursor,
        limit=query.limit,
        offset=query.offset,
    )
    return _page([receipt_json(row) for row in page.rows], page.next_before)


@router.get(
    "/v1/explorer/receipts/{receipt_id}",
    summary="One receipt",
    response_model=replies.Receipt,
    response_model_exclude_unset=True,
    responses=PUBLIC_ONE,
)
async def get_receipt(request: ApiRequest, receipt_id: str) -> Response:
    """With its proof of inclusion once a block has sealed it: a file that verifies offline."""
    row, proof = await request.runtime.read_log(log_entries.proven_receipt, receipt_id)
    return reply(receipt_json(row, proof=proof))


@_twice("/stats", summary="Get network statistics", response_model=schemas.Stats, responses=PUBLIC)
async def get_stats(request: ApiRequest) -> Response:
    """Kept numbers and the newest block's totals: the answer costs the same however much there is."""
    settings = request.runtime.settings
    found = await request.runtime.db.read(activity.numbers, settings.witness_quorum)
    last = found.head
    stats: schemas.Stats = {
        "chain_id": settings.chain_id,
        "block_height": last.height,
        "block_hash": last.hash,
        "block_time": rfc3339(last.time_ms),
        "final_height": found.final_height,
        "tree_size": last.tree_size,
        "total_transactions": last.total_transactions,
        "total_receipts": last.total_receipts,
        "total_jobs": found.jobs,
        "active_miners": found.active_miners,
        "accounts": found.accounts,
    }
    return reply(stats)


@router.get(
    "/v1/explorer/search",
    summary="Search the explorer",
    response_model=list[schemas.Match],
    responses=PUBLIC,
)
async def search(request: ApiRequest, query: Annotated[schemas.SearchText, Query()]) -> Response:
    """What a height, a hash or its beginning, an address or an id names; [] for nothing."""
    found = await request.runtime.db.read(explorer.search, query.q)
    return reply([schemas.Match(type=one.type, id=one.id, path=_path(one)) for one in found])


def _path(found: explorer.Found) -> str:
    folder = "addresses" if found.type == "address" else f"{found.type}s"
    return f"/v1/explorer/{folder}/{quote(found.id, safe=':')}"


def _height(cursor: str) -> int:
    height = read_count(cursor)
    if height is None:
        raise field_errors([("cursor", "must be an X-Next-Cursor")])
    return height
