"""An Esplora server's HTTP interface as a source: asked for the history of one address after the other.

What it says of the chain is believed, so it should be the operator's own, or one that he trusts (it learns the
addresses, too). That its answers fit each other and the question is checked.
"""

import asyncio
from collections.abc import Set
from typing import Any, NamedTuple

from aitbc.coordinator.bitcoin.addresses import GENESIS, AddressesInvalid, address_of
from aitbc.coordinator.bitcoin.http import Caller, excerpt, parse_json
from aitbc.coordinator.bitcoin.source import MAX_HEIGHT, BlockRef, Look, Seen, SourceError

MAX_TEXT_BYTES = 1024
"""Of a height or a hash."""
MAX_PAGE_BYTES = 32 << 20
"""Of up to 75 transactions, all with the witnesses that others gave them."""
MAX_PAGES = 400
"""Of one address above the block from which it is looked at: 10,000 transactions."""
WAITING_PAGE = 50
"""Unconfirmed transactions that a history shows at most, with no way to see more."""
AT_ONCE = 4
"""Addresses that are asked for at once."""


class _History(NamedTuple):
    """What pays one script. `whole`: as far as the mempool is concerned, too."""

    script: bytes
    seen: list[Seen]
    whole: bool


class Esplora:
    """`url`: what the documented paths begin with, https://HOST/api."""

    name = "esplora"
    most_scripts: int | None = 50

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._caller = Caller(timeout_s)
        self._chain = ""

    async def tip(self) -> BlockRef:
        height = await self._tip_height()
        hashed = await self.hash_at(height)
        if hashed is None:
            raise SourceError("its chain became shorter while it was asked, or it contradicts itself")
        return BlockRef(height, hashed)

    async def hash_at(self, height: int) -> str | None:
        status, body = await self._get(f"/block-height/{height}", MAX_TEXT_BYTES)
        if status == 404:
            return None
        return _block_ref(height, _text(body)).hash

    async def look(self, scripts: Set[bytes], after: BlockRef, most_blocks: int) -> Look:
        chain = await self._own_chain()
        tip = await self.tip()
        if tip.height < after.height:
            raise SourceError("its chain ends before the block from which it is looked at")
        known = tip.hash if tip.height == after.height else await self.hash_at(after.height)
        if known != after.hash:
            raise SourceError("its chain does not have the block from which it is looked at")
        histories = await self._histories(sorted(scripts), chain, after)
        blocks = await self._blocks(histories, after, tip)
        # Each history was true of some moment, and at all of them the chain went up to `tip` as it does now.
        moved = await self.tip() != tip
        if moved and await self.hash_at(tip.height) != tip.hash:
            raise SourceError("its chain changed while it was looked at")
        whole = not moved
        seen = [
            one
            for history in histories
            for one in history.seen
            if (whole if one.block is None else one.block.height <= tip.height)
        ]
        if len({(one.txid, one.vout) for one in seen}) != len(seen):
            raise SourceError("it named an output twice")
        crowded = frozenset(history.script for history in histories if not history.whole)
        return Look(tip, whole, blocks, tuple(seen), crowded)

    async def close(self) -> None:
        await self._caller.close()

    async def _own_chain(self) -> str:
        """Which kind of addresses it knows."""
        if not self._chain:
            genesis = await self.hash_at(0)
            if genesis not in GENESIS:
                raise SourceError("its first block is not one of Bitcoin's networks")
            self._chain = GENESIS[genesis]
        return self._chain

    async def _tip_height(self) -> int:
        status, body = await self._get("/blocks/tip/height", MAX_TEXT_BYTES)
        text = _text(body)
        if status != 200 or not text.isdecimal() or len(text) > 10 or int(text) > MAX_HEIGHT:
            raise SourceError(f"its tip has no height: {excerpt(text)}")
        return int(text)

    async def _histories(self, scripts: list[bytes], chain: str, after: BlockRef) -> list[_History]:
        found: list[_History] = []
        for at in range(0, len(scripts), AT_ONCE):
            some = [self._history(script, chain, after) for script in scripts[at : at + AT_ONCE]]
            for result in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
                found.append(result)
        return found

    async def _history(self, script: bytes, chain: str, after: BlockRef) -> _History:
        """What pays the script above `after`, by the pages of its address, newest first."""
        try:
            path = f"/address/{address_of(script, chain)}/txs"
        except AddressesInvalid as error:
            raise SourceError(f"it cannot be asked: {error}") from error
        page = await self._page(path)
        seen: list[Seen] = []
        waiting = 0
        for _ in range(MAX_PAGES):
            last = ""
            for one in page:
                block, txid = _block_of(one), _txid_of(one)
                waiting += block is None
                last = txid if block is not None else last
                if block is not None and block.height <= after.height:
                    return _History(script, seen, waiting < WAITING_PAGE)
                seen += _outputs_to(one, txid, script, block)
            if not page or (not last and waiting < WAITING_PAGE):
                return _History(script, seen, waiting < WAITING_PAGE)
            page = await self._page(f"{path}/chain/{last}" if last else f"{path}/chain")
        raise SourceError(
            "an address has more transactions than one look can read; a bitcoind has no such limit"
        )

    async def _page(self, path: str) -> list[Any]:
        status, body = await self._get(path, MAX_PAGE_BYTES)
        if status != 200:
            raise SourceError(f"it answered with status {status}: {excerpt(body)}")
        page = await asyncio.to_thread(parse_json, body)
        if not isinstance(page, list):
            raise SourceError("an address's history is no list")
        return page

    async def _blocks(
        self, histories: list[_History], after: BlockRef, tip: BlockRef
    ) -> tuple[BlockRef, ...]:
        """Those that were met, up to the tip, each found to be in the chain."""
        if tip.height == after.height:
            return ()
        met = {one.block for history in histories for one in history.seen if one.block is not None}
        blocks = sorted(
            {block for block in met if block.height <= tip.height} | {tip}, key=lambda block: block.height
        )
        for block in blocks[:-1]:
            if await self.hash_at(block.height) != block.hash:
                raise SourceError("its chain changed while it was looked at, or it contradicts itself")
        if len({block.height for block in blocks}) != len(blocks):
            raise SourceError("it named two blocks of one height")
        return tuple(blocks)

    async def _get(self, path: str, most_bytes: int) -> tuple[int, bytes]:
        status, body = await self._caller.call("GET", self._url + path, most_bytes)
        if status == 429:
            raise SourceError("it was asked too often")
        if status not in (200, 404):
            raise SourceError(f"it answered with status {status}: {excerpt(body)}")
        return status, body


def _text(body: bytes) -> str:
    return body.decode("ascii", "replace").strip()


def _block_of(transaction: Any) -> BlockRef | None:
    """None: it is only in the mempool."""
    status = _field(transaction, "status", dict)
    if not _field(status, "confirmed", bool):
        return None
    return _block_ref(_field(status, "block_height", int), _field(status, "block_hash", str))


def _txid_of(transaction: Any) -> str:
    txid: str = _field(transaction, "txid", str)
    if len(txid) != 64 or not txid.isalnum() or not txid.isascii():  # it becomes part of a path
        raise SourceError("it gave what is no transaction's id")
    return txid


def _outputs_to(transaction: Any, txid: str, script: bytes, block: BlockRef | None) -> list[Seen]:
    wanted = script.hex()
    inputs = _field(transaction, "vin", list)
    coinbase = block is not None and bool(inputs) and _field(inputs[0], "is_coinbase", bool)
    found = []
    for vout, output in enumerate(_field(transaction, "vout", list)):
        if _field(output, "scriptpubkey", str) == wanted:
            try:
                found.append(Seen(txid, vout, script, _field(output, "value", int), block, coinbase))
            except ValueError as error:
                raise SourceError(f"it gave what cannot be: {error}") from error
    return found


def _field(holder: Any, name: str, kind: type) -> Any:
    value = holder.get(name) if isinstance(holder, dict) else None
    if type(value) is not kind:
        raise SourceError(f"a transaction's {name} is missing, or is not what it should be")
    return value


def _block_ref(height: int, hashed: str) -> BlockRef:
    try:
        return BlockRef(height, hashed)
    except ValueError as error:
        raise SourceError(f"it gave what cannot be: {error}") from error
