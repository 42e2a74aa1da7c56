"""What one round at the chain goes by, and whether what a source answered can be true. Pure."""

from typing import NamedTuple

from aitbc.coordinator.bitcoin.source import BlockRef, Look, SourceError
from aitbc.coordinator.exchange.watch import WatchRow
from aitbc.core.bitcoin import outpoint


class Plan(NamedTuple):
    """One look that is to be taken.

    common  the last block that the watch and the source's chain have in common
    after   from where the chain is looked at; below `common` where addresses are to be looked at from before
    number  where `scripts` is None: the look is for the addresses of all top-ups below this number
    scripts hex; those that are asked for by themselves, and no others
    """

    watch: WatchRow
    common: BlockRef
    after: BlockRef
    number: int
    scripts: frozenset[str] | None
    began_ms: int

    @property
    def reorganised(self) -> bool:
        """Whether blocks that were looked at are no longer in the chain."""
        return self.common.height < self.watch.height

    def head(self, look: Look) -> BlockRef:
        """The last block that is known after the look."""
        return look.upto if look.upto.height > self.common.height else self.common

    def asked_for(self, script: str) -> bool:
        return self.scripts is None or script in self.scripts


def check(plan: Plan, look: Look, most_blocks: int | None) -> None:
    """Raises SourceError where the answer contradicts itself, or is to another question."""
    after, upto = plan.after, look.upto
    if upto.height < after.height or (upto.height == after.height and upto != after):
        raise SourceError("it answered for a chain that ends before the block from which it was asked")
    if most_blocks is not None and upto.height > after.height + most_blocks:
        raise SourceError("it answered for more blocks than it was asked for")
    if upto.height == plan.common.height and upto != plan.common:
        raise SourceError("it answered for another chain than the one whose blocks it named")
    heights = [block.height for block in look.blocks]
    if heights != sorted(set(heights)) or any(not after.height < height <= upto.height for height in heights):
        raise SourceError("its blocks do not follow each other")
    if upto.height > after.height and (not look.blocks or look.blocks[-1] != upto):
        raise SourceError("its blocks do not end with the one that it names as the last")
    if not all(plan.asked_for(script.hex()) for script in look.crowded):
        raise SourceError("it named an address that it was not asked for")
    _check_outputs(plan, look)


def _check_outputs(plan: Plan, look: Look) -> None:
    known = {block.height: block.hash for block in (*look.blocks, plan.common, plan.after)}
    met: set[str] = set()
    for seen in look.seen:
        name = outpoint(seen.txid, seen.vout)
        if name in met:
            raise SourceError("it named one output twice")
        met.add(name)
        if not plan.asked_for(seen.script.hex()):
            raise SourceError("it named an output that it was not asked for")
        block = seen.block
        if block is not None and (
            block.height > look.upto.height or known.get(block.height, block.hash) != block.hash
        ):
            raise SourceError("it named an output in a block that is not in the chain it answered for")
