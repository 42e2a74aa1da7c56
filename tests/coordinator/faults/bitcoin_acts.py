"""What a look at the Bitcoin chain does: credits, and takes back; and a payment that is asked for."""

from __future__ import annotations

from typing import Any

from aitbc.coordinator.database import Tx
from aitbc.coordinator.exchange import outputs, topups
from aitbc.coordinator.exchange.outputs import OutputRow
from aitbc.coordinator.flows.acts import bitcoin, exchange
from aitbc.coordinator.flows.acts.exchange import Wanted
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey
from aitbc.core.bitcoin import units_of
from tests.coordinator.faults.acts import Act, Scene
from tests.support.flows import Market
from tests.support.topups import Topups

SAT = 50_000


class BitcoinScene(Scene):
    """A payment that is in a block which the coordinator has not looked at; with `credited` it has, and the block is
    gone since.
    """

    def __init__(self, market: Market, *, credited: bool = False) -> None:
        super().__init__(market)
        self.town = town = Topups(market)
        self.topup = town.make(self.client, SAT)
        self.number = 1_000 + Scene.numbers
        common = town.mine(1)
        paid = town.paid(self.topup, self.number, height=town.blocks[-1].height)
        if credited:
            town.look(common, paid)
            self.prepared = town.plan(town.mine(2, lost=1))
        else:
            self.prepared = town.plan(common, paid)

    def has(self, events: int, units: int) -> bool:
        row: OutputRow | None = self.market.db.read_sync(outputs.get, f"{self.number:064x}:0")
        made = [
            self.market.db.read_sync(outputs.entry, f"{self.number:064x}:0", n) for n in range(events + 1)
        ]
        balance = self.market.balance(self.client.account_id).balance_units
        return (
            row is not None
            and row.events == events
            and [one is not None for one in made] == [True] * events + [False]
            and balance == 10_000 + units
        )


class AskingScene(Scene):
    """Somebody who asks for a payment."""

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self.terms = Topups(market).own


def ask_once(tx: Tx, scene: AskingScene) -> Answer:
    key = IdempotencyKey(f"scope-{scene.tag}", "key", "0" * 64)

    def act(tx: Tx) -> Answer:
        made = exchange.create(tx, scene.terms, scene.client, Wanted(None, SAT))
        return Answer(201, made.encode())

    return once(tx, key, act, lambda answer: answer)


def has_one(scene: Any) -> bool:
    waiting: tuple[int, int] = scene.market.db.read_sync(topups.waiting, scene.client.account_id, 0)
    return waiting == (1, 1)


WORTH = units_of(SAT, 10_000_000_000_000)
BITCOIN_ACTS: dict[str, Act] = {
    "ask_for_bitcoin": Act(AskingScene, lambda s: (ask_once, s), has_one),
    "bitcoin_arrives": Act(
        BitcoinScene,
        lambda s: (bitcoin.record, s.town.own, *s.prepared),
        lambda s: bool(s.has(1, WORTH)),
    ),
    "bitcoin_is_lost": Act(
        lambda m: BitcoinScene(m, credited=True),
        lambda s: (bitcoin.record, s.town.own, *s.prepared),
        lambda s: bool(s.has(2, 0)),
    ),
}
