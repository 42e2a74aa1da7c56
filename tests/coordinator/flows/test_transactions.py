"""One transaction by its hash, wherever it is asked for: the leaf's, or the one that a wallet signed."""

from typing import Any

import pytest

from aitbc.coordinator.chain import proofs
from aitbc.coordinator.errors import TransactionNotFound
from aitbc.coordinator.flows.acts import wallet_transfer
from aitbc.coordinator.flows.shared import hashes
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.flows.views import explorer, transactions
from aitbc.core.log.leaf import RECEIPT, TRANSFER
from tests.coordinator.flows.test_activity import seal
from tests.coordinator.users.support import CHAIN, NativeWallet
from tests.support.flows import NETWORK_ID, Market, found

ALICE, BOB = NativeWallet(1), NativeWallet(2)


@pytest.fixture
def sent(market: Market) -> tuple[str, dict[str, Any], str]:
    """The hash of a transfer that Alice signed, the document, and the transfer's id."""
    market.db.write_sync(found)
    market.db.write_sync(open_account_with_grant, ALICE.account, 1000)
    ALICE.network_id = NETWORK_ID
    document = ALICE.transfer(BOB.account, 300, 1)
    signed = wallet_transfer.read(document, CHAIN, NETWORK_ID)
    return signed.transaction.hash, document, market.db.write_sync(wallet_transfer.apply, signed)


def leaf_hash(market: Market, ref_id: str) -> str:
    return bytes(market.db.read_sync(lambda tx: tx.one(proofs.LEAF_OF, ref=ref_id)).hash).hex()


def test_a_transfer_by_the_hash_that_its_wallet_signed(
    market: Market, sent: tuple[str, dict[str, Any], str]
) -> None:
    hashed, document, transfer_id = sent
    shown = market.db.read_sync(transactions.find, hashed)
    assert (shown.id, shown.kind, shown.debit_id, shown.credit_id, shown.amount_units) == (
        transfer_id, "transfer", ALICE.account, BOB.account, 300,
    )  # fmt: skip
    assert (shown.leaf_index, shown.block_height, shown.signed) == (None, None, document)
    seal(market)
    sealed = market.db.read_sync(transactions.find, hashed)
    assert sealed == shown._replace(leaf_index=sealed.leaf_index, block_height=1)
    assert sealed.leaf_index is not None
    by_leaf = market.db.read_sync(transactions.find, sealed.leaf_hash)
    assert by_leaf == sealed._replace(signed=None), "the leaf says nothing of who signed"


def test_a_receipt_by_its_leaf_once_it_is_sealed(market: Market) -> None:
    market.db.write_sync(found)
    alice, miner = market.client(), market.miner()
    job = market.submit(alice)
    market.take(miner)
    receipt = market.complete(miner, job.id)
    hashed = leaf_hash(market, receipt.id)
    with pytest.raises(TransactionNotFound):
        market.db.read_sync(transactions.find, hashed)
    seal(market)
    shown = market.db.read_sync(transactions.find, hashed)
    assert (shown.id, shown.kind, shown.ref, shown.signed) == (receipt.id, None, job.id, None)
    assert (shown.debit_id, shown.credit_id) == (receipt.client_id, receipt.provider_id)
    assert (shown.amount_units, shown.at_ms) == (receipt.price_units, receipt.created_at_ms)
    assert shown.block_height == 1


def test_whoever_looks_up_a_hash_finds_the_same(
    market: Market, sent: tuple[str, dict[str, Any], str]
) -> None:
    hashed, _document, transfer_id = sent
    seal(market)
    alice, miner = market.client(), market.miner()
    job = market.submit(alice)
    market.take(miner)
    receipt = market.complete(miner, job.id)
    seal(market)
    for text, kind, ref_id in (
        (hashed, TRANSFER, transfer_id),
        (leaf_hash(market, transfer_id), TRANSFER, transfer_id),
        (leaf_hash(market, receipt.id), RECEIPT, receipt.id),
    ):
        for written in (text, text.upper()):
            named = market.db.read_sync(hashes.named_by, written)
            assert named is not None
            assert (named.kind, named.ref_id, named.leaf_hash.hex()) == (
                kind,
                ref_id,
                leaf_hash(market, ref_id),
            )
            assert market.db.read_sync(transactions.find, written).id == ref_id
            names = {"transaction" if kind == TRANSFER else "receipt": ref_id}
            assert {one.type: one.id for one in market.db.read_sync(explorer.search, written)} == names
            if kind == TRANSFER:
                assert market.db.read_sync(explorer.transaction, written).row.id == ref_id
            else:
                with pytest.raises(TransactionNotFound):
                    market.db.read_sync(explorer.transaction, written)


@pytest.mark.parametrize(
    "text", ["", "ab", "zz" * 32, "ab" * 31, "ab" * 33, "0" * 64, "ab " * 21 + "a", "٣" * 64]
)
def test_what_is_no_hash_or_names_nothing(market: Market, text: str) -> None:
    market.db.write_sync(found)
    assert market.db.read_sync(hashes.named_by, text) is None
    for look in (transactions.find, explorer.transaction):
        with pytest.raises(TransactionNotFound):
            market.db.read_sync(look, text)
    assert market.db.read_sync(explorer.search, text) == []
