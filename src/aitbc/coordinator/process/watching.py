"""Looking at the Bitcoin chain for what was paid: network I/O, so outside every transaction.

A source that is down, slow, behind or wrong changes nothing: its answer is looked through first, and then taken over
in one transaction, which only one of several coordinators can do from the same state of the watch.
"""

from __future__ import annotations

import asyncio

import structlog

from aitbc.coordinator.bitcoin.opening import open_source
from aitbc.coordinator.bitcoin.source import BlockRef, Source, SourceError
from aitbc.coordinator.exchange import looking, standing, watch
from aitbc.coordinator.exchange.looking import Plan
from aitbc.coordinator.exchange.standing import Standing
from aitbc.coordinator.exchange.watch import WatchRow
from aitbc.coordinator.flows.acts import bitcoin
from aitbc.coordinator.metrics import BITCOIN_HEIGHT, BITCOIN_LOOKS
from aitbc.coordinator.process.runtime import Runtime

log = structlog.get_logger(__name__)

MOST_BLOCKS = 20
"""That one look reads: what came in some hours. More are read in the next."""
FIRST_BLOCKS = 24
"""Known from the start, so that a reorganisation just after it is followed."""
ROUND_TIMEOUTS = 12
"""A round may take so many of BITCOIN_TIMEOUT_S in all."""


class Watcher:
    """Takes one look after the other. `scripts` are those of the first `have` top-ups."""

    def __init__(self, runtime: Runtime, source: Source | None = None) -> None:
        self.runtime = runtime
        self.terms = runtime.exchange
        self.source = open_source(runtime.settings) if source is None else source
        self._scripts: set[bytes] = set()
        self._have = 0
        self._genesis = ""

    async def run_once(self) -> bool:
        """One look; True where another is due at once."""
        source = self.source
        if source is None or not self.terms.chain:
            return False
        outcome = "failed"
        try:
            async with asyncio.timeout(ROUND_TIMEOUTS * self.runtime.settings.bitcoin_timeout_s):
                outcome, more = await self._look(source)
        except SourceError as error:
            log.warning("bitcoin_source_failed", source=source.name, error=str(error))
            return False
        except TimeoutError:
            log.warning("bitcoin_source_failed", source=source.name, error="the look took too long")
            return False
        finally:
            BITCOIN_LOOKS.labels(source.name, outcome).inc()
        return more

    async def close(self) -> None:
        if self.source is not None:
            await self.source.close()

    async def _look(self, source: Source) -> tuple[str, bool]:
        began_ms = self.runtime.clock.now_ms()
        found = await self._standing()
        tip = await source.tip()
        await self._check_chain(source, found.watch)
        if found.watch is None:
            return "began", await self._begin(source, tip)
        if _is_behind(found.watch, tip):
            return "behind", False
        plan = await self._plan(source, found, found.watch, began_ms)
        wanted: set[bytes] = self._scripts
        if plan.scripts is not None:
            wanted = {bytes.fromhex(script) for script in plan.scripts}
        look = await source.look(wanted, plan.after, MOST_BLOCKS)
        looking.check(plan, look, MOST_BLOCKS if plan.scripts is None else None)
        recorded = await self.runtime.db.write(bitcoin.record, self.terms, plan, look)
        if not recorded.moved:
            return "another", False
        BITCOIN_HEIGHT.set(plan.head(look).height)
        # Where only the mempool is not all known, there is no haste.
        return "done", recorded.more or look.upto.height < tip.height

    async def _standing(self) -> Standing:
        """How far the watch is, once the scripts of all top-ups are known here."""
        while True:
            found = await self.runtime.db.read(standing.read, self._have)
            self._scripts.update(bytes.fromhex(script) for script in found.scripts)
            self._have += len(found.scripts)
            if self._have >= found.number:
                return found._replace(number=self._have)

    async def _check_chain(self, source: Source, row: WatchRow | None) -> None:
        """Raises SourceError where it is not the chain of our addresses, or another than the one watched so far."""
        if not self._genesis:
            self._genesis = await source.hash_at(0) or ""
        genesis = self._genesis
        if genesis not in self.terms.genesis:
            self._genesis = ""  # it may be set right
            raise SourceError(f"it is not on {self.terms.chain}, whose addresses are given out")
        if row is not None and row.genesis != genesis:
            raise SourceError("it is on another network than the one that was watched so far")

    async def _begin(self, source: Source, tip: BlockRef) -> bool:
        last = []
        for height in range(max(0, tip.height - FIRST_BLOCKS), tip.height):
            hashed = await source.hash_at(height)
            if hashed is None:
                raise SourceError("its chain became shorter while it was asked")
            last.append(BlockRef(height, hashed))
        return await self.runtime.db.write(watch.begin, self._genesis, [*last, tip])

    async def _plan(self, source: Source, found: Standing, row: WatchRow, began_ms: int) -> Plan:
        common = await _common(source, found.blocks)
        if source.most_scripts is None:
            from_height = min(common.height, found.from_height)
            after = await _block_at(source, common, from_height)
            return Plan(row, common, after, found.number, None, began_ms)
        asked = await self.runtime.db.read(standing.to_ask, source.most_scripts, common.height)
        after = await _block_at(source, common, min([common.height, *asked.values()]))
        return Plan(row, common, after, 0, frozenset(asked), began_ms)


def _is_behind(row: WatchRow, tip: BlockRef) -> bool:
    """Whether the source's chain says nothing new: shorter, or as long and another, of which one will be given up."""
    return tip.height < row.height or (tip.height == row.height and tip.hash != row.hash)


async def _common(source: Source, known: list[BlockRef]) -> BlockRef:
    """The last block known here that is in the source's chain. Raises SourceError where none is."""
    for block in known:
        if await source.hash_at(block.height) == block.hash:
            return block
    raise SourceError(f"its chain has none of the last {len(known)} blocks that were looked at")


async def _block_at(source: Source, common: BlockRef, height: int) -> BlockRef:
    if height == common.height:
        return common
    hashed = await source.hash_at(height)
    if hashed is None:
        raise SourceError("its chain became shorter while it was asked")
    return BlockRef(height, hashed)
