"""An assembly: accounts that hold, propose and vote, on a market's database and clock."""

from __future__ import annotations

from typing import Any

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.flows.acts.governance import Draft
from aitbc.coordinator.flows.shared import weighing
from aitbc.coordinator.flows.views import governance as views
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.governance.service import ProposalRow, VoteRow
from aitbc.coordinator.ledger import closing
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.money import UNITS_PER_AIT
from tests.support.flows import Market

AIT = UNITS_PER_AIT
DAY_S = 86_400
FEE = Draft("parameter_change", "A higher fee", "", "fee_bps", 2_000)
TEXT = Draft("text", "We say so", "")


class Assembly:
    """Every act is one durable transaction. Voting takes a day, its delay and its timelock an hour each."""

    def __init__(self, market: Market, **rules: int) -> None:
        self.market = market
        self.db = market.db
        self.clock = market.clock
        usual = {"delay_s": 3_600, "voting_s": DAY_S, "extension_s": 7_200, "timelock_s": 3_600}
        self.db.write_sync(_rule, {**usual, **rules})

    def set(self, name: str, value: int) -> None:
        self.db.write_sync(parameters.set_value, name, value, "operator", "for a test")

    def member(self, name: str, ait: int = 1_000) -> Principal:
        """An account with so much, which is old enough to vote after `age`."""
        return self.market.client(name, ait * AIT)

    def age(self, days: float = 8) -> None:
        self.clock.advance(days * DAY_S)

    def at(self, ms: int) -> None:
        """It is this moment now, or a later one."""
        self.clock.advance(max(0, ms - self.clock.now_ms()) / 1000)

    def close(self) -> int:
        """Closes the books for a snapshot."""
        return self.db.write_sync(closing.close, None, self.clock.now_ms())

    def propose(self, who: Principal, draft: Draft = TEXT) -> ProposalRow:
        return self.db.write_sync(acts.create, who, draft, self.close())

    def opened(self, who: Principal, draft: Draft = TEXT) -> ProposalRow:
        """A proposal whose vote is open."""
        row = self.propose(who, draft)
        self.at(row.starts_ms)
        return self.step(row)

    def vote(self, who: Principal, row: ProposalRow, choice: str = "for") -> list[VoteRow]:
        weighed = self.db.read_sync(weighing.weigh_for, who.account_id, row.id)
        return self.db.write_sync(acts.vote, row.id, weighed, choice)[1]

    def power(self, who: Principal | str, row: ProposalRow | None = None) -> int:
        """Own power, base units."""
        name = who if isinstance(who, str) else who.account_id
        proposal_id = None if row is None else row.id
        return self.db.read_sync(views.power, name, proposal_id).weighed.own_units

    def step(self, row: ProposalRow) -> ProposalRow:
        """What time does."""
        return self.db.write_sync(acts.advance, row.id)

    def ended(self, row: ProposalRow) -> ProposalRow:
        """After the end of its vote, counted."""
        self.at(self.now(row).ends_ms)
        return self.step(row)

    def executed(self, row: ProposalRow) -> ProposalRow:
        self.at(self.now(row).execute_after_ms)
        return self.step(row)

    def now(self, row: ProposalRow) -> ProposalRow:
        return self.db.read_sync(governance.get, row.id)

    def parameter(self, name: str) -> int:
        return self.db.read_sync(parameters.get, name)

    def delegate(self, who: Principal, to: str) -> Any:
        return self.db.write_sync(acts.delegate, who, to)


def _rule(tx: Tx, rules: dict[str, int]) -> None:
    """Sets the rules that are not so yet; an assembly of the same rules over the same market writes nothing."""
    for name, value in rules.items():
        if parameters.get(tx, f"governance_{name}") != value:
            parameters.set_value(tx, f"governance_{name}", value, "operator", "for a test")
