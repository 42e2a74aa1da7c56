"""Signed transfers on the ledger: applied once, in turn, within the money; refused with their codes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import (
    AitbcError,
    FeeTooLow,
    InsufficientFunds,
    TxBadAddress,
    TxBadSignature,
    TxOldVersion,
    TxReplayed,
    TxWrongChain,
    TxWrongNonce,
)
from aitbc.coordinator.flows.acts import wallet_transfer
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.users import service as users
from aitbc.core.clock import ManualClock
from aitbc.core.wallet.transaction import Transaction
from tests.coordinator.users.support import CHAIN, EvmWallet, NativeWallet
from tests.support.flows import Market, database_url, found, memory_folder, set_parameter
from tests.support.transfers import id_of, job_of

__all__ = ["database_url", "memory_folder"]

ALICE, BOB, EVA = NativeWallet(1), NativeWallet(2), EvmWallet()
GRANT = 1_000


class Bank:
    """Sends transfers, and knows what everybody has."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.network_id = db.write_sync(found).network_id
        for wallet in (ALICE, BOB):
            wallet.network_id = self.network_id

    def send(self, document: Any) -> str:
        return self.db.write_sync(wallet_transfer.apply, self.read(document))

    def read(self, document: Any) -> wallet_transfer.Signed:
        return wallet_transfer.read(document, CHAIN, self.network_id)

    def refuse(self, kind: type[AitbcError], document: Any) -> AitbcError:
        before = self.books()
        with pytest.raises(kind) as error:
            self.send(document)
        assert type(error.value) is kind
        assert self.books() == before
        return error.value

    def books(self) -> tuple[int, ...]:
        """What Alice, Bob, Eva and the treasury have, and Alice's next nonce."""

        def read(tx: Any) -> tuple[int, ...]:
            units = []
            for account in (ALICE.account, BOB.account, EVA.account, "system:treasury"):
                row = tx.one(ledger.SELECT_ACCOUNT, key=account)
                units.append(-1 if row is None else int(row.balance_units))
            return (*units, wallet_transfer.next_nonce(tx, ALICE.account))

        return self.db.read_sync(read)


@pytest.fixture
def bank(db: Database, clock: ManualClock) -> Iterator[Bank]:
    market = Market(db, clock)
    db.write_sync(open_account_with_grant, ALICE.account, GRANT)
    yield Bank(db)
    market.check()


def test_money_moves_and_the_fee_goes_to_the_treasury(bank: Bank) -> None:
    first = ALICE.transfer(BOB.account, 300, 1, fee_units=7)
    transfer_id = bank.send(first)
    assert bank.books() == (GRANT - 307, 300, -1, 7, 2)
    bank.send(ALICE.transfer(EVA.account, 693, 2))
    assert bank.books() == (0, 300, 693, 7, 3)
    bank.send(BOB.transfer(ALICE.account, 300, 1))
    assert bank.books() == (300, 0, 693, 7, 3)
    sent, signature = bank.read(first)
    kept = bank.db.read_sync(users.find_signed, sent.hash)
    assert kept is not None
    assert (kept.transfer_id, kept.signature, kept.body) == (transfer_id, signature, sent.encode().decode())


def test_what_was_signed_for_another_network_is_refused(bank: Bank) -> None:
    """Of the same name, as every default coordinator has it."""
    error = bank.refuse(TxWrongChain, ALICE.transfer(BOB.account, 100, 1, network_id="cd" * 32))
    assert bank.network_id in str(error)
    bank.refuse(TxWrongChain, ALICE.transfer(BOB.account, 100, 1, chain_id="other"))


def test_what_every_network_of_its_name_would_take_is_taken_by_none(bank: Bank) -> None:
    old = ALICE.transfer(BOB.account, 100, 1, network_id="")
    assert (old["version"], "network_id" in old) == ("aitbc/transaction/v1", False)
    error = bank.refuse(TxOldVersion, old)
    assert "aitbc/transaction/v2" in str(error)
    assert bank.network_id in str(error)


def test_a_replay_is_refused_also_much_later(bank: Bank) -> None:
    first = ALICE.transfer(BOB.account, 100, 1)
    bank.send(first)
    bank.refuse(TxReplayed, first)
    bank.send(ALICE.transfer(BOB.account, 100, 2))
    bank.refuse(TxReplayed, first)


@pytest.mark.parametrize("nonce", [1, 3, 2**53 - 1])
def test_a_wrong_nonce_is_refused(bank: Bank, nonce: int) -> None:
    bank.send(ALICE.transfer(BOB.account, 1, 1))
    error = bank.refuse(TxWrongNonce, ALICE.transfer(BOB.account, 2, nonce))
    assert error.details == {"expected": 2}


def test_another_chain_is_refused(bank: Bank) -> None:
    bank.refuse(TxWrongChain, ALICE.transfer(BOB.account, 1, 1, chain_id="ait-mainnet"))


@pytest.mark.parametrize(("amount", "fee"), [(GRANT + 1, 0), (GRANT, 1), (1, GRANT), (2**53 - 1, 2**53 - 1)])
def test_an_overdraft_is_refused(bank: Bank, amount: int, fee: int) -> None:
    error = bank.refuse(InsufficientFunds, ALICE.transfer(BOB.account, amount, 1, fee_units=fee))
    assert error.details["available"] == GRANT / 10**8


def test_held_money_cannot_be_sent(bank: Bank) -> None:
    bank.db.write_sync(ledger.hold, Hold(id_of("hold"), ALICE.account, 600, job_of()))
    bank.refuse(InsufficientFunds, ALICE.transfer(BOB.account, 401, 1))
    bank.send(ALICE.transfer(BOB.account, 400, 1))


def test_a_wallet_that_nobody_paid_has_nothing_to_send(bank: Bank) -> None:
    bank.refuse(InsufficientFunds, BOB.transfer(ALICE.account, 1, 1))
    assert bank.db.read_sync(users.get, BOB.account) is None


@pytest.mark.parametrize("name", ["amount_units", "fee_units", "to", "nonce"])
def test_a_changed_document_is_refused(bank: Bank, name: str) -> None:
    changes: dict[str, Any] = {"amount_units": "2", "fee_units": "1", "to": EVA.account, "nonce": 2}
    bank.refuse(TxBadSignature, {**ALICE.transfer(BOB.account, 1, 1), name: changes[name]})


def test_a_bad_signature_is_refused(bank: Bank) -> None:
    good = ALICE.transfer(BOB.account, 1, 1)
    for signature in ("", "x", BOB.transfer(ALICE.account, 1, 1)["signature"], good["signature"][:-4]):
        bank.refuse(TxBadSignature, {**good, "signature": signature})


@pytest.mark.parametrize(
    "to",
    ["alice", "system:treasury", BOB.account.upper(), BOB.account[:-1] + "q", EVA.address, ALICE.account],
)
def test_a_bad_address_is_refused(bank: Bank, to: str) -> None:
    bank.refuse(TxBadAddress, ALICE.transfer(to, 1, 1))


def test_anothers_money_cannot_be_sent(bank: Bank) -> None:
    stolen = Transaction(CHAIN, bank.network_id, ALICE.account, BOB.account, 1, 0, 1, str(BOB.public_key))
    bank.refuse(TxBadAddress, stolen.signed(BOB.key))
    bank.refuse(TxBadSignature, {**stolen.signed(BOB.key), "public_key": ALICE.public_key})


def test_the_networks_least_fee_is_asked_for(bank: Bank) -> None:
    bank.db.write_sync(set_parameter, "min_transaction_fee", 10)
    bank.refuse(FeeTooLow, ALICE.transfer(BOB.account, 1, 1, fee_units=9))
    bank.send(ALICE.transfer(BOB.account, 1, 1, fee_units=10))


def test_a_race_with_one_nonce_is_won_once(bank: Bank) -> None:
    """Twenty threads, ten different transfers and ten times the same, all with the first nonce."""
    same = ALICE.transfer(BOB.account, 50, 1)
    documents = [same] * 10 + [ALICE.transfer(BOB.account, 10 + n, 1) for n in range(10)]

    def attempt(document: Any) -> str:
        try:
            bank.send(document)
        except (TxReplayed, TxWrongNonce) as error:
            return error.code
        return "applied"

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, documents))
    assert outcomes.count("applied") == 1
    alice, bob, _eva, _treasury, nonce = bank.books()
    winner = documents[outcomes.index("applied")]
    assert (alice, bob, nonce) == (GRANT - int(winner["amount_units"]), int(winner["amount_units"]), 2)
