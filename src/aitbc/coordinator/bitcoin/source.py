"""What the exchange asks of a view of the Bitcoin chain, and the values that come back.

A source is a node or a server of somebody's: it may be down, slow, behind, reorganising or lying. So each value here is
checked when it is made, every call has a time and a size that it may not exceed, and whatever goes wrong is one
`SourceError`, after which the exchange changes nothing and asks again. Nobody above needs to know which kind answers.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

from aitbc.core.bitcoin import MAX_SAT

MAX_HEIGHT = 2**31 - 1
MAX_SCRIPT_BYTES = 10_000
COINBASE_MATURITY = 100
"""Confirmations that the network itself asks of a coinbase output before it can be spent."""

_HASH = re.compile(r"[0-9a-f]{64}")


class SourceError(Exception):
    """A source is not to be had, or answered what cannot be true. The text is for operators and holds no credential."""


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block of the chain. ValueError where it cannot be one."""

    height: int
    hash: str
    """64 lower-case hexadecimal digits, in the order in which block explorers show them."""

    def __post_init__(self) -> None:
        if type(self.height) is not int or not 0 <= self.height <= MAX_HEIGHT:
            raise ValueError("a block's height is not a whole number in range")
        _check_hash(self.hash, "a block's hash")


@dataclass(frozen=True, slots=True)
class Seen:
    """An output that pays a script asked for, and where it is. ValueError where it cannot be one."""

    txid: str
    vout: int
    script: bytes
    sat: int
    block: BlockRef | None
    """None: only in the mempool."""
    coinbase: bool = False

    def __post_init__(self) -> None:
        _check_hash(self.txid, "a transaction's id")
        if type(self.vout) is not int or not 0 <= self.vout < 2**32:
            raise ValueError("an output's index is not a whole number in range")
        if type(self.sat) is not int or not 0 <= self.sat <= MAX_SAT:
            raise ValueError("an output's amount is not a whole number of satoshi that can exist")
        if not self.script or len(self.script) > MAX_SCRIPT_BYTES:
            raise ValueError("an output's script has no length that is allowed")
        if self.coinbase and self.block is None:
            raise ValueError("a coinbase transaction is in a block or nowhere")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the chain that ends with `upto`, at the scripts that were asked for.

    It holds every output to them in blocks above `after` up to `upto` and, where `whole`, in the mempool. What it does
    not hold is not there: an output known before, above `after` or in the mempool, has then been replaced or
    reorganised away. Outputs in blocks up to `after` may be in it too (an address-asker learns of them for free), and
    are as true.
    """

    upto: BlockRef
    whole: bool
    """`upto` was the chain's tip, and the mempool was looked at as well."""
    blocks: tuple[BlockRef, ...]
    """Blocks above `after`, by height, that are known to be in this chain, `upto` the last (none where `upto` is
    `after`). A scanner gives all of them, an address-asker those it happened to learn and `upto`."""
    seen: tuple[Seen, ...]
    """No outpoint twice; no block above `upto`."""
    crowded: frozenset[bytes] = frozenset()
    """Scripts of which the mempool holds more than the source can show: what it does not show may be there."""


class Source(Protocol):
    """A view of the chain. Every method raises SourceError, and only that, within a bounded time."""

    name: str
    """For logs and metrics: bitcoind or esplora."""
    most_scripts: int | None
    """Scripts that one look may ask for; None: any number costs the same, since the blocks themselves are read."""

    async def tip(self) -> BlockRef:
        """The best chain's last block."""
        ...

    async def hash_at(self, height: int) -> str | None:
        """The hash of the best chain's block at `height`; None above its tip. Height 0 tells which network it is."""
        ...

    async def look(self, scripts: Set[bytes], after: BlockRef, most_blocks: int) -> Look:
        """What pays `scripts` (scriptPubKeys) above `after`, which the caller has found to be in the best chain.

        A scanner reads `most_blocks` blocks at most; where more are left, `upto` is the last one read and `whole` is
        False. If the chain changes meanwhile so that no one chain holds it all, the source looks again or raises
        SourceError; it never mixes two chains.
        """
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


def _check_hash(text: str, what: str) -> None:
    if not isinstance(text, str) or _HASH.fullmatch(text) is None:
        raise ValueError(f"{what} is not 64 lower-case hexadecimal digits")
