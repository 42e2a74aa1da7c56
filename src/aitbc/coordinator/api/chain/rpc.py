"""The chain's RPC: balances, blocks and transactions to read, signed transfers to send. Public."""

from typing import Annotated, cast

from fastapi import Query
from starlette.responses import Response

from aitbc import __version__
from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import NATIVE, PUBLIC, PUBLIC_ONE, errors
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import Access
from aitbc.coordinator.api.plumbing.errors import field_errors
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import wallets
from aitbc.coordinator.chain import proofs, sealer
from aitbc.coordinator.chain.sealer import BlockRow, BlockZero
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AitbcError,
    BlockNotFound,
    FeeTooLow,
    InsufficientFunds,
    InvalidRequest,
    RateLimited,
    UnknownChain,
)
from aitbc.coordinator.flows.acts import wallet_transfer
from aitbc.coordinator.flows.acts.wallet_transfer import Signed
from aitbc.coordinator.flows.views import transactions
from aitbc.coordinator.flows.views import wallets as wallet_of
from aitbc.coordinator.flows.views.transactions import Found
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.clock import rfc3339
from aitbc.core.money import UNITS_PER_AIT
from aitbc.core.numbers import read_count
from aitbc.core.signing import vkey
from aitbc.core.transfer_ids import JOB
from aitbc.core.wallet.address import AddressInvalid

router = Router(NATIVE, tags=["RPC"])


@router.post(
    "/rpc/sendTx",
    summary="Send a signed transfer",
    response_model=wallets.SentTransaction,
    responses=errors(400, 402, 409, 413, 429, 503),
)
async def send_transaction(request: ApiRequest, body: wallets.SendTransaction) -> Response:
    """Applied at once or refused, with a code that says why. Its signature is all the permission it needs."""
    access: Access = request.scope["aitbc.access"]
    runtime = request.runtime
    try:
        signed = wallet_transfer.read(
            body.model_dump(by_alias=True, exclude_none=True),
            runtime.network.chain_id,
            runtime.network.network_id,
        )
        # What counts for the sender is what only the owner can do: a transfer whose turn it is.
        access.admit(request, "sender", signed.transaction.sender)
        transfer_id = await runtime.db.write(wallet_transfer.apply, signed)
    except (InsufficientFunds, FeeTooLow):
        access.note(request, "sender", signed.transaction.sender)
        raise
    except RateLimited:
        raise
    except AitbcError as error:
        raise access.failed(request, error) if error.status < 500 else error from None
    access.note(request, "sender", signed.transaction.sender)
    return reply(_sent_json(signed, transfer_id))


@router.get(
    "/rpc/getBalance/{address}",
    summary="The balance of an address",
    response_model=wallets.ChainBalance,
    responses=PUBLIC_ONE,
)
async def get_balance(
    request: ApiRequest, address: str, query: Annotated[wallets.OfChain, Query()]
) -> Response:
    """Of a wallet (0 for one that nobody ever paid) or of any other account. An unknown chain: 400."""
    chain_id = request.runtime.settings.chain_id
    if query.chain_id is not None and query.chain_id != chain_id:
        raise UnknownChain(known=chain_id)
    try:
        found = await request.runtime.db.read(wallet_of.wallet, address)
    except AddressInvalid as error:
        raise InvalidRequest(f"The request is not valid: address: {error}") from None
    shown: wallets.ChainBalance = {
        "address": found.account,
        "balance": ait(found.balance_units),
        "nonce": found.nonce,
        "min_fee": ait(found.min_fee_units),
        "chain_id": chain_id,
        "network_id": request.runtime.network.network_id,
    }
    return reply(shown)


@router.get("/rpc/head", summary="The newest block", response_model=wallets.ChainBlock, responses=PUBLIC_ONE)
async def get_head(request: ApiRequest) -> Response:
    """The block that the log's newest checkpoint is of."""
    row, checkpoint = await request.runtime.read_log(_head)
    return reply(_block_json(row, checkpoint, request.runtime.settings.chain_id))


@router.get(
    "/rpc/blocks/{height}",
    summary="A block by its height",
    response_model=wallets.ChainBlock,
    responses=PUBLIC_ONE,
)
async def get_block(request: ApiRequest, height: str) -> Response:
    """With the checkpoint that signs its tree, and the cosignatures of witnesses."""
    row, checkpoint = await request.runtime.read_log(_block_at, height)
    return reply(_block_json(row, checkpoint, request.runtime.settings.chain_id))


@router.get(
    "/rpc/tx/{hash}",
    summary="A transaction by its hash",
    response_model=wallets.ChainTransaction,
    responses=PUBLIC_ONE,
)
async def get_transaction(request: ApiRequest, hash: str) -> Response:
    """By the hash of a leaf of the log (once sealed), or of a transfer that a wallet signed."""
    return reply(_transaction_json(await request.runtime.db.read(transactions.find, hash.lower())))


@router.get("/rpc/info", summary="What this chain is", response_model=wallets.ChainInfo, responses=PUBLIC)
async def get_info(request: ApiRequest) -> Response:
    """Its name, its newest block, the key of its log, and what a transfer costs at least."""
    runtime = request.runtime
    return reply(_info_json(runtime, *await runtime.db.read(_info)))


def _sent_json(signed: Signed, transfer_id: str) -> wallets.SentTransaction:
    sent = signed.transaction
    return {
        "hash": sent.hash,
        "transfer_id": transfer_id,
        "status": "applied",
        "chain_id": sent.chain_id,
        "network_id": sent.network_id,
        "from": sent.sender,
        "to": sent.recipient,
        "amount": ait(sent.amount_units),
        "fee": ait(sent.fee_units),
        "nonce": sent.nonce,
    }


_Signed = tuple[BlockRow, str | None]
"""A block, and its checkpoint with the cosignatures."""


def _head(tx: Tx) -> _Signed:
    row = sealer.head(tx)
    if row is None:
        raise BlockNotFound(height=0)
    return row, proofs.checkpoint_of(tx, row) if row.checkpoint else None


def _block_at(tx: Tx, height: str) -> _Signed:
    wanted = read_count(height)
    if wanted is None:
        raise field_errors([("height", "must be a whole number")])
    row = proofs.block_at(tx, wanted)
    if row is None:
        raise BlockNotFound(height=wanted)
    return row, proofs.checkpoint_of(tx, row) if row.checkpoint else None


def _block_json(row: BlockRow, checkpoint: str | None, chain_id: str) -> wallets.ChainBlock:
    # As it is hashed: docs/formats/block.md, and not the API, says what is in a header.
    header = row.header(chain_id).to_json()
    shown = {
        **header,
        "hash": row.hash,
        "signature": row.signature or None,
        "checkpoint": checkpoint,
    }
    return cast(wallets.ChainBlock, shown)


def _transaction_json(found: Found) -> wallets.ChainTransaction:
    return {
        "hash": found.leaf_hash,
        "type": "receipt" if found.kind is None else "transfer",
        "id": found.id,
        "kind": found.kind,
        "from": found.debit_id,
        "to": found.credit_id,
        "amount": ait(found.amount_units),
        "job_id": found.ref if found.kind is None or JOB.may_be(found.kind, found.ref) else None,
        "timestamp": rfc3339(found.at_ms),
        "leaf_index": found.leaf_index,
        "block_height": found.block_height,
        "signed": found.signed,
    }


def _info(tx: Tx) -> tuple[BlockZero, BlockRow, int]:
    """The first block, the newest, and the least fee of a transfer in base units."""
    first, row = sealer.block_zero(tx), sealer.head(tx)
    if first is None or row is None:
        raise BlockNotFound(height=0)
    return first, row, parameters.get(tx, "min_transaction_fee")


def _info_json(runtime: Runtime, first: BlockZero, row: BlockRow, min_fee_units: int) -> wallets.ChainInfo:
    network = runtime.network
    return {
        "chain_id": network.chain_id,
        "version": __version__,
        "height": row.height,
        "head_hash": row.hash,
        "tree_size": row.tree_size,
        "network_id": network.network_id,
        "genesis_hash": first.hash,
        "founding": network.founding_json(),
        "origin": network.origin,
        "log_key": vkey(network.origin, runtime.signing_key.public_bytes),
        "units_per_ait": UNITS_PER_AIT,
        "min_fee": ait(min_fee_units),
    }
