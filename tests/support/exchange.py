"""A Bitcoin chain that is a fake, in memory, behind the documented interface of a source; and an exchange over it.

What a real node does is looked at in the tests with a regtest node; here any order of things can be brought about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

from embit.bip32 import HDKey

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.bitcoin.addresses import GENESIS, REGTEST
from aitbc.coordinator.bitcoin.source import BlockRef, Look, Seen, Source, SourceError
from aitbc.coordinator.config import Settings
from aitbc.coordinator.exchange import outputs, topups
from aitbc.coordinator.exchange.outputs import OutputRow
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.flows.acts import exchange as acts
from aitbc.coordinator.flows.acts.exchange import Wanted
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Balance
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.process.watching import Watcher
from tests.support.flows import Market, in_loop

T = TypeVar("T")

REGTEST_GENESIS = next(block for block, chain in GENESIS.items() if chain == REGTEST)
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
RATE = 100_000
"""AIT for one bitcoin."""


def account_key(seed: bytes = b"\x05" * 32) -> str:
    """An account's extended public key for a test network, as wallets show it (vpub)."""
    account = HDKey.from_seed(seed).derive("m/84h/1h/0h").to_public()
    account.version = bytes.fromhex("045f1cf6")
    return str(account.to_base58())


@dataclass(frozen=True)
class Paid:
    """A fake transaction: what it spends, by any name, and what it pays, as (script, satoshi)."""

    txid: str
    spends: frozenset[str]
    outputs: tuple[tuple[bytes, int], ...]
    coinbase: bool = False


@dataclass
class FakeChain:
    """Blocks, the newest last, and a mempool. Nothing is signed and no work is done: blocks have made-up hashes."""

    blocks: list[tuple[BlockRef, list[Paid]]] = field(
        default_factory=lambda: [(BlockRef(0, REGTEST_GENESIS), [])]
    )
    mempool: list[Paid] = field(default_factory=list)
    made: int = 0

    @property
    def tip(self) -> BlockRef:
        return self.blocks[-1][0]

    def name(self, what: str) -> str:
        """A made-up hash that no other thing of this chain has."""
        self.made += 1
        return hashlib.sha256(f"{what} {self.made}".encode()).hexdigest()

    def pay(self, *paid: tuple[bytes, int], spends: str = "", coinbase: bool = False) -> Paid:
        """A transaction into the mempool; those that spend the same leave it (RBF)."""
        made = Paid(self.name("tx"), frozenset({spends or self.name("coin")}), paid, coinbase)
        self.mempool = [other for other in self.mempool if not other.spends & made.spends]
        if not coinbase:
            self.mempool.append(made)
        return made

    def drop(self, gone: Paid) -> None:
        """The mempool forgets a transaction."""
        self.mempool = [other for other in self.mempool if other.txid != gone.txid]

    def mine(self, blocks: int = 1, *, only: list[Paid] | None = None) -> None:
        """Blocks, the first of them with the mempool's transactions, or with these."""
        for _ in range(blocks):
            took = list(self.mempool) if only is None else only
            spent = {coin for one in took for coin in one.spends}
            self.mempool = [one for one in self.mempool if not one.spends & spent]
            self.blocks.append((BlockRef(self.tip.height + 1, self.name("block")), took))
            only = [] if only is not None else None

    def reorganise(
        self, depth: int, length: int, *, keep: bool = True, only: list[Paid] | None = None
    ) -> None:
        """The last `depth` blocks are replaced by `length` others; their transactions are in the mempool again, or,
        without `keep`, nowhere. `only`: what the first of the new blocks has; nothing where left out.
        """
        lost = [one for _ref, took in self.blocks[-depth:] for one in took] if depth else []
        del self.blocks[len(self.blocks) - depth :]
        if keep:
            self.mempool = [*[one for one in lost if not one.coinbase], *self.mempool]
        self.mine(length, only=only or [])


@dataclass
class FakeSource:
    """The chain as a source shows it. `most_scripts` None: as a node does, else as a server that is asked by address.

    `fault` is raised by each call; `lie` changes what a look says; `before` is called as a look begins.
    """

    chain: FakeChain
    most_scripts: int | None = None
    name: str = "fake"
    fault: SourceError | None = None
    lie: Callable[[Look], Look] | None = None
    before: Callable[[], None] | None = None
    looks: int = 0

    async def tip(self) -> BlockRef:
        self._fail()
        return self.chain.tip

    async def hash_at(self, height: int) -> str | None:
        self._fail()
        return self.chain.blocks[height][0].hash if height < len(self.chain.blocks) else None

    async def look(self, scripts: Set[bytes], after: BlockRef, most_blocks: int) -> Look:
        self._fail()
        if self.before is not None:
            self.before()
        self.looks += 1
        blocks = self.chain.blocks
        if after.height >= len(blocks) or blocks[after.height][0] != after:
            raise SourceError("the block from which it is asked is not in the chain")
        above = blocks[after.height + 1 :]
        if self.most_scripts is None:
            above = above[:most_blocks]
        upto = above[-1][0] if above else after
        seen = [one for ref, took in above for one in _seen(took, scripts, ref)]
        whole = upto == self.chain.tip
        if whole:
            seen += _seen(self.chain.mempool, scripts, None)
        refs = tuple(ref for ref, _took in (above if self.most_scripts is None else above[-1:]))
        found = Look(upto, whole, refs, tuple(seen))
        return found if self.lie is None else self.lie(found)

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


def _seen(took: list[Paid], scripts: Set[bytes], ref: BlockRef | None) -> list[Seen]:
    return [
        Seen(one.txid, vout, script, sat, ref, one.coinbase)
        for one in took
        for vout, (script, sat) in enumerate(one.outputs)
        if script in scripts
    ]


class Exchange:
    """An exchange over the market's database and a fake chain, driven look by look."""

    def __init__(
        self, market: Market, source: Source | None = None, chain: FakeChain | None = None, **more: Any
    ) -> None:
        self.market = market
        self.chain = chain or FakeChain()
        self.source: Any = source or FakeSource(self.chain)
        where = {} if more.keys() & {"bitcoin_address", "bitcoin_xpub"} else {"bitcoin_xpub": account_key()}
        settings = Settings(
            database_url="sqlite:///unused.db",
            api_keys="",
            bitcoin_network="regtest",
            bitcoin_rpc_url="http://unused",
            btc_to_aitbc_rate=more.pop("rate", RATE),
            **where,
            **more,
        )
        self.runtime = Runtime(settings, market.db, market.ctx, market.clock, IdleMiners())
        self.terms = self.runtime.exchange
        self.watcher = Watcher(self.runtime, self.source)

    def run(self, scenario: Callable[[Exchange], Coroutine[Any, Any, T]]) -> T:
        """Runs it with the database started and the watch begun."""

        async def main() -> T:
            await self.look()
            return await scenario(self)

        return in_loop(self.market.db, main())

    async def look(self) -> None:
        """Looks until nothing more is due at once."""
        while await self.watcher.run_once():
            pass

    async def mine(self, blocks: int = 1) -> None:
        self.chain.mine(blocks)
        await self.look()

    async def pass_time(self, seconds: float) -> None:
        self.market.clock.advance(seconds)
        await self.look()

    async def topup(self, client: Principal, units: int | None = None, sat: int | None = None) -> TopupRow:
        made = await self.market.db.write(acts.create, self.terms, client, Wanted(units, sat))
        return await self.topup_of(made)

    async def topup_of(self, topup_id: str) -> TopupRow:
        row = await self.market.db.read(topups.get, topup_id)
        assert row is not None
        return row

    async def state(self, topup: TopupRow) -> tuple[str, str]:
        row = await self.topup_of(topup.id)
        return row.state, row.exception

    async def outputs(self, topup: TopupRow) -> list[OutputRow]:
        return await self.market.db.read(outputs.of_topups, [topup.id])

    async def balance(self, client: Principal) -> Balance:
        return await self.market.db.read(ledger.balance, client.account_id)

    def pay(
        self, topup: TopupRow, sat: int | None = None, *, spends: str = "", coinbase: bool = False
    ) -> Paid:
        paid = (bytes.fromhex(topup.script), topup.sat if sat is None else sat)
        return self.chain.pay(paid, spends=spends, coinbase=coinbase)
