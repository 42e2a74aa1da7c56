"""Top-ups against a model: blocks, payments, replacements, reorganisations, crashes and spending in any order.

The model keeps only what an account should have. It knows the whole chain, and of the watch no more than which blocks
were the last that a look could take over.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.bitcoin.source import BlockRef, SourceError
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.exchange import outputs
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.core.bitcoin import units_of
from aitbc.core.clock import ManualClock
from tests.conftest import START_MS
from tests.support.databases import Databases
from tests.support.exchange import RATE, Exchange, FakeChain, FakeSource
from tests.support.flows import Market, check_books, emptied
from tests.support.transfers import id_of, signed_of

AIT = 100_000_000
DEEP = 2
"""Confirmations that every amount needs here."""

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(0, 2), st.integers(1_000, 90_000)),
        st.tuples(st.just("replace"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("drop"), st.integers(0, 9)),
        st.tuples(st.just("mine"), st.integers(1, 3)),
        st.tuples(
            st.just("reorganise"), st.integers(1, 4), st.integers(0, 5), st.booleans(), st.integers(0, 9)
        ),
        st.tuples(st.just("look"), st.sampled_from(["one", "two"])),
        st.tuples(st.just("crash"), st.booleans()),
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("fault")),
        st.tuples(st.just("spend"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(1, 4_000)),
    ),
    min_size=8,
    max_size=40,
)
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Model:
    """What was credited for each output and stands (`has`), and what of it the account has spent beyond recall."""

    chain: FakeChain
    scripts: set[bytes]
    known: list[BlockRef]
    credited: set[str] = field(default_factory=set)
    lost_at: dict[str, int] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    money: int = 0
    amounts: dict[str, int] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    new_short: int = 0

    def look(self) -> None:
        """What a look takes over that finds the chain as it is."""
        now = [ref for ref, _took in self.chain.blocks]
        if len(now) < len(self.known) or (len(now) == len(self.known) and now != self.known):
            return
        common = sum(1 for ours, theirs in zip(self.known, now, strict=False) if ours == theirs) - 1
        places = self.places()
        for name in self.credited:
            if name not in self.lost_at and name not in places:
                self.lost_at[name] = common
            if name in places:
                self.lost_at.pop(name, None)
        self.known = now
        tip = now[-1].height
        for name, (sat, height) in places.items():
            if name not in self.credited and tip - height + 1 >= DEEP:
                self.credited.add(name)
                self.money += units_of(sat, RATE * AIT) - self.short.pop(name, 0)
        lost = {name for name, height in self.lost_at.items() if tip - height >= DEEP}
        self.credited -= lost
        self.lost_at = {name: at for name, at in self.lost_at.items() if name not in lost}
        whole = sum(units_of(self.amounts[name], RATE * AIT) for name in lost)
        back = min(self.money, whole)
        self.money -= back
        self.new_short = whole - back
        self.lost = lost

    def share(self, owed: dict[str, int]) -> None:
        """Which of several lost outputs bears what is missing is not said anywhere; all of it is borne by them."""
        new = {name: units for name, units in owed.items() if name in self.lost}
        assert sum(new.values()) == self.new_short
        assert all(units <= units_of(self.amounts[name], RATE * AIT) for name, units in new.items())
        self.short.update(new)
        self.lost, self.new_short = set(), 0

    def places(self) -> dict[str, tuple[int, int]]:
        """By outpoint, what pays us in the chain: satoshi and height."""
        found = {}
        for ref, took in self.chain.blocks:
            for one in took:
                for vout, (script, sat) in enumerate(one.outputs):
                    if script in self.scripts:
                        found[f"{one.txid}:{vout}"] = (sat, ref.height)
                        self.amounts[f"{one.txid}:{vout}"] = sat
        return found


class _Crashed(Exception):
    """The process dies in the middle of a transaction."""


class World:
    """The exchange on two coordinators, the chain, and the model beside them."""

    def __init__(self, market: Market, asked: bool) -> None:
        self.chain = FakeChain()
        self.market = market
        self.client = market.client(units=0)
        self.most = 10 if asked else None
        self.exchanges = {name: self._exchange() for name in ("one", "two")}
        self.topups: list[TopupRow] = []
        self.spent = 0

    def _exchange(self) -> Exchange:
        source = FakeSource(self.chain, self.most)
        return Exchange(self.market, source, self.chain, bitcoin_confirmations=f"{DEEP},{DEEP},{DEEP}")

    async def begin(self) -> Model:
        x = self.exchanges["one"]
        self.chain.mine(3)
        await x.look()
        self.topups = [await x.topup(self.client, sat=50_000) for _ in range(3)]
        scripts = {bytes.fromhex(topup.script) for topup in self.topups}
        return Model(self.chain, scripts, [ref for ref, _took in self.chain.blocks])

    async def do(self, model: Model, action: tuple) -> None:  # type: ignore[type-arg]
        kind, *how = action
        await getattr(self, f"_{kind}")(model, *how)

    async def _pay(self, _model: Model, which: int, sat: int) -> None:
        self.exchanges["one"].pay(self.topups[which], sat)

    async def _replace(self, _model: Model, which: int, to_us: bool) -> None:
        if self.chain.mempool:
            old = self.chain.mempool[which % len(self.chain.mempool)]
            script = bytes.fromhex(self.topups[0].script) if to_us else b"\x51"
            self.chain.pay((script, 7_000), spends=next(iter(old.spends)))

    async def _drop(self, _model: Model, which: int) -> None:
        if self.chain.mempool:
            self.chain.drop(self.chain.mempool[which % len(self.chain.mempool)])

    async def _mine(self, _model: Model, blocks: int) -> None:
        self.chain.mine(blocks)

    async def _reorganise(self, _model: Model, depth: int, more: int, keep: bool, again: int) -> None:
        depth = min(depth, len(self.chain.blocks) - 4)
        if depth < 1:
            return
        lost = [one for _ref, took in self.chain.blocks[-depth:] for one in took]
        only = [one for number, one in enumerate(lost) if again >> (number % 4) & 1]
        self.chain.reorganise(depth, max(1, depth - 1 + more), keep=keep, only=only)

    async def _look(self, model: Model, who: str) -> None:
        await self.exchanges[who].look()
        model.look()

    async def _crash(self, model: Model, after: bool) -> None:
        """Before the commit nothing has happened; after it, all."""
        x = self.exchanges["one"]
        write = self.market.db.write

        async def dies(fn, *args):  # type: ignore[no-untyped-def]
            def half(tx: Tx):  # type: ignore[no-untyped-def]
                fn(tx, *args)
                raise _Crashed

            if after:
                await write(fn, *args)
            else:
                await write(half)
            raise _Crashed

        x.runtime.db.write = dies  # type: ignore[method-assign]
        try:
            with pytest.raises(_Crashed):
                await x.watcher.run_once()
                raise _Crashed  # there was nothing new to write
        finally:
            del x.runtime.db.write
        self.exchanges["one"] = self._exchange()
        if after:
            await self._look(model, "one")

    async def _restart(self, _model: Model, both: bool) -> None:
        for name in ("one", "two") if both else ("two",):
            self.exchanges[name] = self._exchange()

    async def _fault(self, _model: Model) -> None:
        x = self.exchanges["two"]
        x.source.fault = SourceError("down")
        await x.look()
        x.source.fault = None

    async def _spend(self, model: Model, part: int) -> None:
        units = model.money // part
        if units:
            self.spent += 1
            await self.market.db.write(_pay_away, self.client.account_id, f"spent-{self.spent}", units)
            model.money -= units

    async def _wait(self, _model: Model, seconds: int) -> None:
        self.market.clock.advance(seconds)


def _pay_away(tx: Tx, account: str, name: str, units: int) -> None:
    ledger.transfer(tx, id_of(name), account, TREASURY, units, ref=signed_of(name))


async def _agrees(world: World, model: Model, client: Principal) -> None:
    x = world.exchanges["one"]
    assert (await x.balance(client)).balance_units == model.money
    rows = [row for topup in world.topups for row in await x.outputs(topup)]
    assert {row.id for row in rows if row.events % 2} == model.credited
    owed = {row.id: row.credited_units for row in rows if row.reversed and row.credited_units}
    model.share(owed)
    assert owed == model.short
    assert await x.market.db.read(outputs.owed_by, client.account_id) == sum(model.short.values())


@pytest.mark.parametrize("asked", [False, True], ids=["node", "server"])
def test_every_output_is_credited_as_the_model_says(databases: Databases, asked: bool) -> None:
    @BOUNDED
    @given(actions=ACTIONS)
    def play(actions: list[tuple]) -> None:  # type: ignore[type-arg]
        with tempfile.TemporaryDirectory(prefix="aitbc-test-", dir="/dev/shm") as folder:
            url = databases.migrated(Path(folder)) if databases.kind == "sqlite" else emptied(databases)
            clock = ManualClock(now_ms=START_MS)
            db = Database.open(url, clock=clock)
            try:
                _play(db, clock, asked, actions)
                with closing(Database.open(url)) as again:
                    check_books(again)
            finally:
                db.close()

    play()


def _play(db: Database, clock: ManualClock, asked: bool, actions: list[tuple]) -> None:  # type: ignore[type-arg]
    market = Market(db, clock)
    world = World(market, asked)

    async def scenario(x: Exchange) -> None:
        model = await world.begin()
        for action in actions:
            await world.do(model, action)
            await _agrees(world, model, world.client)
        # In the end everything that is in the chain is credited, once, and nothing else.
        world.chain.mine(DEEP + 5)
        await world.do(model, ("look", "two"))
        await _agrees(world, model, world.client)
        assert model.credited == set(model.places())

    world.exchanges["one"].run(scenario)
