"""Money that moved without a wallet's signature, and the explorer's numbers: what an honest database may say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.audit.database import audit
from aitbc.audit.findings import Wrong
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.views import activity
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.users import service as users
from aitbc.coordinator.users.service import SignedRow
from aitbc.core.signing import encode_b64
from aitbc.core.transfer_ids import SIGNED, SIGNED_FEE, new_transfer_id
from aitbc.core.wallet.transaction import read_transaction
from tests.audit.scene import OTHER_WALLET, WALLET, Scene, count, seal
from tests.coordinator.users.support import NativeWallet
from tests.support.flows import CHAIN, Market
from tests.support.transfers import signed_of


def found(market: Market) -> Wrong:
    wrong = market.db.read_sync(audit, CHAIN).wrong
    assert wrong is not None
    return wrong


def _stolen(tx: Tx) -> None:
    ledger.transfer(tx, new_transfer_id(tx.now_ms), "alice", "bob", 1, ref=signed_of())


def _fee_twice(tx: Tx) -> None:
    hashed = _hash(WALLET.transfer(OTHER_WALLET.address, 30, 3, fee_units=1))
    ledger.transfer(tx, new_transfer_id(tx.now_ms), WALLET.address, TREASURY, 1, ref=SIGNED_FEE.of(hashed))


def _done_twice(tx: Tx) -> None:
    hashed = _hash(WALLET.transfer("0x" + "1f" * 20, 10, 1, fee_units=2))
    ledger.transfer(
        tx, new_transfer_id(tx.now_ms), WALLET.address, "0x" + "1f" * 20, 10, ref=SIGNED.of(hashed)
    )


def _hash(document: dict[str, Any]) -> str:
    return read_transaction(document)[0].hash


def _without_fee(tx: Tx) -> None:
    _forged(tx, WALLET, fee_paid=False)


def _signed_by_another(tx: Tx) -> None:
    _forged(tx, OTHER_WALLET, fee_paid=True)


def _from_another_network(tx: Tx) -> None:
    _forged(tx, WALLET, fee_paid=True, network_id="cd" * 32)


def _of_the_old_version(tx: Tx) -> None:
    _forged(tx, WALLET, fee_paid=True, network_id="")


def _forged(tx: Tx, signer: NativeWallet, *, fee_paid: bool, network_id: str | None = None) -> None:
    """The wallet's fourth transfer, written into the tables by hand."""
    network_id = WALLET.network_id if network_id is None else network_id
    document = WALLET.transfer(OTHER_WALLET.address, 5, 4, fee_units=1, network_id=network_id)
    transaction, _signature = read_transaction(document)
    transfer_id, hashed = new_transfer_id(tx.booked_ms), transaction.hash
    ledger.transfer(tx, transfer_id, WALLET.address, OTHER_WALLET.address, 5, ref=SIGNED.of(hashed))
    if fee_paid:
        ledger.transfer(
            tx, new_transfer_id(tx.booked_ms), WALLET.address, TREASURY, 1, ref=SIGNED_FEE.of(hashed)
        )
    assert users.advance_nonce(tx, WALLET.address, 4)
    signature = encode_b64(signer.key.sign(transaction.encode()))
    body = transaction.encode().decode()
    users.keep_signed(tx, SignedRow(hashed, WALLET.address, 4, body, signature, transfer_id, tx.booked_ms))


@pytest.mark.parametrize(
    ("crime", "kind", "said"),
    [
        (_stolen, "transfer", "no wallet signed it"),
        (_from_another_network, "transaction", "of another network of this name"),
        (_of_the_old_version, "transaction", "of another network of this name"),
        (_fee_twice, "transaction", "its fee was not paid once"),
        (_without_fee, "transaction", "its fee was not paid once"),
        (_done_twice, "transaction", "is not what was signed"),
        (_signed_by_another, "transaction", "signature does not match"),
    ],
)
def test_money_moves_as_a_wallet_signed_and_once(
    market: Market, crime: Callable[[Tx], None], kind: str, said: str
) -> None:
    """All of these are in the log, and the books are right."""
    Scene(market, grants=1)
    market.db.write_sync(crime)
    wrong = found(market)
    assert (wrong.kind, said in wrong.what) == (kind, True), str(wrong)


def test_the_numbers_may_be_behind_but_not_wrong(market: Market) -> None:
    """They are as of the leaves and jobs that were taken in; nothing has to be up to date."""
    scene = Scene(market, grants=1)
    market.check()
    seal(market)  # a block that is not counted yet
    scene.job()
    market.check()
    market.clock.advance(12)
    count(market)
    market.check()
    seal(market)
    made = market.db.read_sync(activity.draft_activity)
    assert made is not None
    wrong_draft = made._replace(new_accounts=made.new_accounts + 1)
    assert market.db.write_sync(activity.write_activity, wrong_draft)
    assert str(found(market)).startswith("counter accounts: it is 6, sealed transfers name 5")
