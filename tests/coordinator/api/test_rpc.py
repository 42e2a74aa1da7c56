"""The chain's RPC: what it tells of balances, blocks and transactions, and the transfers it takes."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785

from aitbc.coordinator.api.schemas import wallets
from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database.columns import table_of
from aitbc.core.log.block import BlockHeader
from aitbc.core.log.note import Verifier, parse_note
from aitbc.core.wallet.transaction import is_signed, read_transaction
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market, expect_error, held_to
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import EvmWallet, NativeWallet
from tests.support.flows import set_parameter

ALICE, BOB, EVA = NativeWallet(1), NativeWallet(2), EvmWallet()
HEADER = ("hash", "signature", "checkpoint")


@pytest.fixture(autouse=True)
def of_this_network(api: Market) -> None:
    for wallet in (ALICE, BOB):
        wallet.network_id = api.runtime.network.network_id
    api.write(set_parameter, "min_transaction_fee", 0)


def send(api: Market, document: Any) -> Any:
    return api.post("/rpc/sendTx", json=document)


def balance(api: Market, address: str) -> tuple[float, int]:
    body = api.get(f"/rpc/getBalance/{address}").json()
    return body["balance"], body["nonce"]


def seal(api: Market) -> None:
    runtime = api.runtime
    draft = runtime.db.read_sync(sealer.draft, runtime.settings.chain_id, runtime.signing_key)
    assert draft is not None
    assert api.write(sealer.seal, draft)


def test_a_signed_transfer_goes_all_the_way(api: Market) -> None:
    session(api, ALICE)
    document = ALICE.transfer(BOB.address, 1_250_000_000, 1, fee_units=1)
    answer = send(api, document)
    assert answer.status_code == 200, answer.text
    sent = answer.json()
    assert (sent["status"], sent["from"], sent["to"]) == ("applied", ALICE.account, BOB.account)
    assert (sent["amount"], sent["fee"], sent["nonce"]) == (12.5, 1e-8, 1)
    assert balance(api, ALICE.address) == (987.49999999, 1)
    assert balance(api, BOB.address) == (12.5, 0)
    waiting = api.get(f"/rpc/tx/{sent['hash']}").json()
    assert (waiting["id"], waiting["leaf_index"], waiting["block_height"]) == (
        sent["transfer_id"],
        None,
        None,
    )
    seal(api)
    found = api.get(f"/rpc/tx/{sent['hash']}").json()
    assert (found["kind"], found["type"], found["amount"]) == ("transfer", "transfer", 12.5)
    assert found["block_height"] == 1
    assert found["signed"] == document
    assert is_signed(*read_transaction(found["signed"]))
    by_leaf = api.get(f"/rpc/tx/{found['hash'].upper()}").json()
    assert by_leaf == {**found, "signed": None}


def test_transfers_that_are_refused(api: Market) -> None:
    session(api, ALICE)
    first = ALICE.transfer(BOB.address, 5, 1)
    assert send(api, first).status_code == 200
    expect_error(send(api, first), 409, "TX_REPLAYED")
    error = expect_error(send(api, ALICE.transfer(BOB.address, 5, 3)), 409, "TX_WRONG_NONCE")
    assert error["error"]["details"] == {"expected": 2}
    expect_error(send(api, ALICE.transfer(BOB.address, 5, 2, chain_id="other")), 400, "TX_WRONG_CHAIN")
    elsewhere = ALICE.transfer(BOB.address, 5, 2, network_id="cd" * 32)
    error = expect_error(send(api, elsewhere), 400, "TX_WRONG_CHAIN")
    assert error["error"]["details"]["network_id"] == ALICE.network_id
    expect_error(send(api, ALICE.transfer(BOB.address, 5, 2, network_id="")), 400, "TX_OLD_VERSION")
    expect_error(send(api, ALICE.transfer(BOB.address, 10**12, 2)), 402, "INSUFFICIENT_FUNDS")
    good = ALICE.transfer(BOB.address, 5, 2)
    expect_error(send(api, {**good, "amount_units": "6"}), 400, "TX_BAD_SIGNATURE")
    expect_error(send(api, {**good, "signature": first["signature"]}), 400, "TX_BAD_SIGNATURE")
    expect_error(send(api, ALICE.transfer(BOB.address.upper(), 5, 2)), 400, "TX_BAD_ADDRESS")
    expect_error(send(api, {**good, "from": BOB.account}), 400, "TX_BAD_ADDRESS")
    assert balance(api, BOB.address) == (5e-8, 0)
    assert send(api, {**good, "unknown": 1}).status_code == 200


@sqlite_only
@pytest.mark.parametrize(
    "change",
    [
        {"version": "v2"},
        {"nonce": 0},
        {"nonce": "1"},
        {"nonce": 1.5},
        {"nonce": 2**53},
        {"amount_units": 5},
        {"amount_units": "-5"},
        {"amount_units": "0"},
        {"amount_units": "5.0"},
        {"fee_units": "NaN"},
        {"from": None},
        {"to": 5},
        {"signature": []},
    ],
)
def test_documents_that_are_none(api: Market, change: dict[str, Any]) -> None:
    document = {**ALICE.transfer(BOB.address, 5, 1), **change}
    expect_error(send(api, document), 400, "INVALID_REQUEST")
    document.pop(next(iter(change)))
    expect_error(send(api, document), 400, "INVALID_REQUEST")


def test_balances(api: Market) -> None:
    api.key("client", "carl")
    session(api, EVA)
    assert balance(api, EVA.address) == balance(api, EVA.account) == (1000, 0)
    assert balance(api, BOB.address) == (0, 0)
    assert balance(api, "carl") == (1000, 0)
    own = api.get(f"/rpc/getBalance/{EVA.address}?chain_id=ait-devnet").json()
    assert own == {
        "address": EVA.account,
        "chain_id": "ait-devnet",
        "network_id": ALICE.network_id,
        "balance": 1000,
        "nonce": 0,
        "min_fee": 0,
    }
    error = expect_error(api.get(f"/rpc/getBalance/{EVA.address}?chain_id=ait-mainnet"), 400, "UNKNOWN_CHAIN")
    assert error["error"]["details"] == {"known": "ait-devnet"}
    expect_error(api.get("/rpc/getBalance/nobody"), 404, "ACCOUNT_NOT_FOUND")
    for wrong in (EVA.address.swapcase(), BOB.address.upper(), BOB.address[:-1] + "q", "0x0"):
        expect_error(api.get(f"/rpc/getBalance/{wrong}"), 400, "INVALID_REQUEST")


def test_blocks_can_be_verified_by_whoever_reads_them(api: Market) -> None:
    head = api.get("/rpc/head").json()
    info = api.get("/rpc/info").json()
    assert head["hash"] == info["network_id"] == info["genesis_hash"]
    assert head["previous_hash"] == hashlib.sha256(rfc8785.dumps(info["founding"])).hexdigest()
    assert (info["founding"]["chain_id"], info["founding"]["origin"]) == ("ait-devnet", info["origin"])
    keys = api.get("/v1/keys").json()
    assert (keys["network_id"], keys["origin"]) == (info["network_id"], info["origin"])
    assert (head["height"], head["signature"], head["checkpoint"]) == (0, None, None)
    api.key("client", "carl")
    seal(api)
    head = api.get("/rpc/head").json()
    assert api.get("/rpc/blocks/1").json() == head
    header = BlockHeader.from_json({name: value for name, value in head.items() if name not in HEADER})
    assert header.hash == head["hash"]
    public = api.runtime.signing_key.public_bytes
    assert header.is_signed(public, head["signature"])
    info = api.get("/rpc/info").json()
    assert (info["height"], info["head_hash"], info["tree_size"]) == (1, head["hash"], head["tree_size"])
    assert (info["genesis_hash"], info["min_fee"]) == (info["network_id"], 0)
    assert Verifier.parse(info["log_key"]).public_bytes == public
    assert parse_note(head["checkpoint"]).text.startswith(info["origin"] + "\n")


@sqlite_only
def test_blocks_and_transactions_that_are_not_there(api: Market) -> None:
    for height in ("1", str(2**63 - 1)):
        expect_error(api.get(f"/rpc/blocks/{height}"), 404, "BLOCK_NOT_FOUND")
    for height in ("-1", "x", "1.0", str(2**63), "9" * 100, "\u0661"):
        expect_error(api.get(f"/rpc/blocks/{height}"), 400, "INVALID_REQUEST")
    for wrong in ("0" * 64, "x" * 64, "00", "0" * 66, "0 " * 32):
        expect_error(api.get(f"/rpc/tx/{wrong}"), 404, "TRANSACTION_NOT_FOUND")


def test_a_receipt_is_found_by_its_leaf(api: Market) -> None:
    client, miner = api.key("client", "carl"), api.key("miner", "mill")
    api.miner(miner)
    job_id = api.job(client)
    api.claim(miner, job_id)
    receipt = api.complete(miner, job_id).json()
    seal(api)
    rows = api.runtime.db.read_sync(lambda tx: tx.query(table_of(sealer.Leaf).select()))
    [leaf] = [row for row in rows if row.ref_id == receipt["receipt_id"]]
    found = api.get(f"/rpc/tx/{bytes(leaf.hash).hex()}").json()
    assert (found["type"], found["id"], found["kind"]) == ("receipt", receipt["receipt_id"], None)
    assert (found["from"], found["to"], found["job_id"]) == ("carl", "mill", job_id)
    assert found["amount"] == receipt["price"]
    assert found["block_height"] == 1


@sqlite_only
def test_answers_are_as_documented(api: Market) -> None:
    """Every field that goes out is declared, and of its type."""
    session(api, ALICE)
    sent = held_to(wallets.SentTransaction, send(api, ALICE.transfer(BOB.address, 5, 1)).json())
    held_to(wallets.ChainTransaction, api.get(f"/rpc/tx/{sent['hash']}").json())
    held_to(wallets.ChainBlock, api.get("/rpc/blocks/0").json())
    seal(api)
    held_to(wallets.ChainTransaction, api.get(f"/rpc/tx/{sent['hash']}").json())
    held_to(wallets.ChainBlock, api.get("/rpc/head").json())
    held_to(wallets.ChainInfo, api.get("/rpc/info").json())
    held_to(wallets.ChainBalance, api.get(f"/rpc/getBalance/{BOB.address}").json())


@sqlite_only
def test_sending_is_limited_by_sender(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_user=2)
    document = ALICE.transfer(BOB.address, 5, 1)
    for _ in range(2):
        expect_error(send(api, document), 402, "INSUFFICIENT_FUNDS")
    expect_error(send(api, document), 429, "RATE_LIMITED")
