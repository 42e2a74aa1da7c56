"""The ledger against a model of plain dicts: whatever is asked in whatever order, both agree."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError, InsufficientFunds, TransferConflict
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import MINT, TREASURY
from aitbc.coordinator.ledger.service import Hold, Payout
from aitbc.core.transfer_ids import REASON, TransferId
from tests.support.flows import check_books
from tests.support.transfers import id_of, job_of, signed_of

BOUNDED = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
ACCOUNTS = ("ann", "ben", "cat")
WHY = REASON.of("to test it")
accounts = st.sampled_from(ACCOUNTS)
amounts = st.one_of(st.integers(0, 60), st.integers(0, 2000))
ids = st.integers(0, 9).map(lambda n: f"id{n}")


@dataclass
class Model:
    """What the ledger should say, by the shortest way there."""

    balances: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ACCOUNTS, MINT, TREASURY), 0))
    holds: dict[str, tuple[str, int]] = field(default_factory=dict)  # open ones: account, units
    lines: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # by id: kind, debit, credit, units

    def held(self, account: str) -> int:
        return sum(units for owner, units in self.holds.values() if owner == account)

    def available(self, account: str) -> int:
        return self.balances[account] - self.held(account)

    def move(self, line_id: str, kind: str, debit: str, credit: str, units: int) -> bool | type[AitbcError]:
        line = (kind, debit, credit, units)
        if line_id in self.lines:
            return False if self.lines[line_id] == line else TransferConflict
        if debit != MINT and self.available(debit) < units:
            return InsufficientFunds
        self.lines[line_id] = line
        self.balances[debit] -= units
        self.balances[credit] += units
        return True

    def hold(self, hold_id: str, account: str, units: int) -> bool | type[AitbcError]:
        line = ("hold", account, "", units)
        if hold_id in self.lines:
            return False if self.lines[hold_id] == line else TransferConflict
        if self.available(account) < units:
            return InsufficientFunds
        self.lines[hold_id] = line
        self.holds[hold_id] = (account, units)
        return True


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to both and compares the outcome; each invariant compares what they hold."""

    db: Database

    @initialize()
    def begin(self) -> None:
        self.round = Machine.rounds = Machine.rounds + 1
        self.model = Model()
        self.db.write_sync(self._open)

    rounds = 0

    def name(self, account: str) -> str:
        """Each example has accounts and ids of its own, in one database."""
        return account if account in (MINT, TREASURY) else f"{account}-{self.round}"

    def id(self, line: str) -> TransferId:
        return id_of(self.name(line))

    def held(self, line: str, account: str, units: int) -> Hold:
        return Hold(self.id(line), self.name(account), units, job_of())

    def _open(self, tx: Tx) -> None:
        ledger.open_system_accounts(tx)
        for account in ACCOUNTS:
            ledger.open_account(tx, self.name(account))
        self.before = {account: ledger.balance(tx, account).balance_units for account in (MINT, TREASURY)}

    def do(self, expected: Any, fn: Any, *args: Any, **kwargs: Any) -> None:
        try:
            found = self.db.write_sync(fn, *args, **kwargs)
        except AitbcError as error:
            found = type(error)
        assert found == expected

    @rule(line=ids, account=accounts, units=amounts)
    def mint(self, line: str, account: str, units: int) -> None:
        expected = self.model.move(line, "mint", MINT, account, units)
        self.do(expected, ledger.mint, self.id(line), self.name(account), units, WHY)

    @rule(line=ids, debit=accounts, credit=accounts, units=amounts)
    def transfer(self, line: str, debit: str, credit: str, units: int) -> None:
        expected = self.model.move(line, "transfer", debit, credit, units)
        self.do(
            expected,
            ledger.transfer,
            self.id(line),
            self.name(debit),
            self.name(credit),
            units,
            ref=signed_of(),
        )

    @rule(line=ids, account=accounts, units=amounts)
    def hold(self, line: str, account: str, units: int) -> None:
        expected = self.model.hold(line, account, units)
        self.do(expected, ledger.hold, self.held(line, account, units))

    @rule(line=ids)
    def void(self, line: str) -> None:
        kind, account, _, units = self.model.lines.get(line, ("", "ann", "", 0))
        if kind != "hold":
            return
        args = (self.held(line, account, units),)
        if self.model.holds.pop(line, None):
            self.db.write_sync(ledger.void, *args)
        else:
            self.do(TransferConflict, ledger.void, *args)

    @rule(line=ids, payee=accounts, part=st.integers(0, 110), fee=st.integers(0, 30))
    def post(self, line: str, payee: str, part: int, fee: int) -> None:
        """`part` percent of the hold, and of that `fee` percent to the treasury."""
        kind, account, _, units = self.model.lines.get(line, ("", "ann", "", 0))
        if kind != "hold":
            return
        total = units * part // 100
        fees = total * fee // 100
        payouts = [Payout(self.name(payee), total - fees, "post"), Payout(TREASURY, fees, "fee")]
        args = (self.held(line, account, units), payouts)
        if total > units or line not in self.model.holds:
            self.do(TransferConflict, ledger.post, *args)
            return
        self.db.write_sync(ledger.post, *args)
        del self.model.holds[line]
        for name, moved in ((account, -total), (payee, total - fees), (TREASURY, fees)):
            self.model.balances[name] += moved

    @rule(line=ids, account=accounts, units=amounts, free=st.booleans())
    def settle_what_is_no_such_hold(self, line: str, account: str, units: int, free: bool) -> None:
        """Whatever stands under the id, nobody's money moves for a hold that is not so."""
        if self.model.lines.get(line, ("",))[0] == "hold" and self.model.lines[line][1:4:2] == (
            account,
            units,
        ):
            return
        said = self.held(line, account, units)
        if free:
            self.do(TransferConflict, ledger.void, said)
        else:
            self.do(TransferConflict, ledger.post, said, [Payout(self.name(account), units // 2, "post")])

    @rule(line=ids, debit=accounts, credit=accounts, units=amounts)
    def a_transaction_that_fails_leaves_nothing(self, line: str, debit: str, credit: str, units: int) -> None:
        def moves_and_fails(tx: Tx) -> None:
            ledger.mint(tx, self.id(f"{line}-never"), self.name(debit), units, WHY)
            ledger.hold(tx, self.held(f"{line}-nor-this", debit, units))
            raise KeyError("after all that")

        with pytest.raises(KeyError):
            self.db.write_sync(moves_and_fails)

    @invariant()
    def both_say_the_same(self) -> None:
        def read(tx: Tx) -> dict[str, Any]:
            return {account: ledger.balance(tx, self.name(account)) for account in self.model.balances}

        found = self.db.read_sync(read)
        for account, units in self.model.balances.items():
            balance = found[account]
            assert balance.balance_units - self.before.get(account, 0) == units
            if account in ACCOUNTS:
                assert balance.held_units == self.model.held(account)
                assert 0 <= balance.held_units <= balance.balance_units
        assert sum(self.model.balances.values()) == 0

    def teardown(self) -> None:
        check_books(self.db)
        assert self.db.read_sync(total) == 0


def total(tx: Tx) -> int:
    return int(tx.query(text("SELECT SUM(balance_units) AS units FROM accounts"))[0].units)


@pytest.fixture
def machine(db: Database) -> Iterator[type[Machine]]:
    Machine.db = db
    yield Machine
    del Machine.db


def test_the_ledger_agrees_with_its_model(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=BOUNDED)
