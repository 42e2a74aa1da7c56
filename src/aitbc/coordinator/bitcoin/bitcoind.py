"""A node's JSON-RPC as a source: blocks and mempool are read here, so that it needs no wallet and no index.

Works with every node that has `getblockchaininfo`, `getblockhash`, `getblock`, `getrawmempool` and
`getrawtransaction` as bitcoind has them. Blocks and transactions come raw: each block has to be whole, to have the hash
that was asked for and to follow the one before it, so nothing can be told of a block that is not in it.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aitbc.coordinator.bitcoin import raw
from aitbc.coordinator.bitcoin.http import Caller, excerpt, parse_json
from aitbc.coordinator.bitcoin.mempool import Mempool
from aitbc.coordinator.bitcoin.raw import Block, Malformed, Output, Transaction
from aitbc.coordinator.bitcoin.source import BlockRef, Look, Seen, SourceError

MAX_ANSWER_BYTES = 1 << 20
MAX_BLOCK_BYTES = 9 << 20
"""A block has at most 4,000,000 bytes, twice as much as hexadecimal text."""
MAX_MEMPOOL_BYTES = 64 << 20
"""The ids of about 900,000 transactions."""
MAX_BATCH_BYTES = 20 << 20
BATCH = 20
"""Transactions asked for at once: of those that nodes relay (400,000 bytes) so many fit into MAX_BATCH_BYTES."""
MOST_NEW = 20_000
"""Transactions of the mempool that one look asks for; where more are new, the next look goes on."""
TRIES = 3

OUT_OF_RANGE = -8
NOT_FOUND = (-5, -1)
"""What bitcoind, and bcoin, call a transaction that they do not have."""
_TXID_CHARS = frozenset("0123456789abcdef")


class RpcError(SourceError):
    """The node answered with an error of its own; `code` is as bitcoind numbers them."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"it answered error {code}: {excerpt(message)}")
        self.code = code


class Bitcoind:
    """`url`: http://USER:PASSWORD@HOST:PORT, or without credentials and with bitcoind's `.cookie` file."""

    name = "bitcoind"
    most_scripts: int | None = None

    def __init__(self, url: str, timeout_s: float, cookie_file: Path | None = None) -> None:
        parts = urlsplit(url)
        self._url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._auth = (
            None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        )
        self._cookie_file = cookie_file
        self._caller = Caller(timeout_s)
        self._numbers = itertools.count(1)
        self._mempool = Mempool()

    async def tip(self) -> BlockRef:
        found = await self._call("getblockchaininfo")
        if not isinstance(found, dict):
            raise SourceError("its getblockchaininfo is no object")
        return _block_ref(found.get("blocks"), found.get("bestblockhash"))

    async def hash_at(self, height: int) -> str | None:
        try:
            found = await self._call("getblockhash", height)
        except RpcError as error:
            if error.code == OUT_OF_RANGE:
                return None
            raise
        return _block_ref(height, found).hash

    async def look(self, scripts: Set[bytes], after: BlockRef, most_blocks: int) -> Look:
        for _ in range(TRIES):
            tip = await self.tip()
            if tip.height < after.height:
                raise SourceError("its chain ends before the block from which it is looked at")
            read = await self._read(scripts, after, min(tip.height, after.height + most_blocks))
            if read is not None:
                break
        else:
            raise SourceError("its blocks were not one chain, each time that they were read")
        blocks, seen = read
        upto = blocks[-1] if blocks else after
        if upto != tip:
            return Look(upto, False, tuple(blocks), tuple(seen))
        waiting = await self._waiting(scripts)
        # A block that came meanwhile may hold what is no longer in the mempool: then the mempool is not told of.
        if waiting is None or await self.tip() != upto:
            return Look(upto, False, tuple(blocks), tuple(seen))
        mined = {(one.txid, one.vout) for one in seen}
        seen += [_seen(one, None) for one in waiting if (one.txid, one.vout) not in mined]
        return Look(upto, True, tuple(blocks), tuple(seen))

    async def close(self) -> None:
        await self._caller.close()

    async def _read(
        self, scripts: Set[bytes], after: BlockRef, last: int
    ) -> tuple[list[BlockRef], list[Seen]] | None:
        """The blocks above `after` up to the height `last`; None where they are not one chain (any more)."""
        blocks: list[BlockRef] = []
        seen: list[Seen] = []
        before = after.hash
        if after.height == last and await self.hash_at(last) != after.hash:
            return None
        for height in range(after.height + 1, last + 1):
            hashed = await self.hash_at(height)
            if hashed is None:
                return None
            block = await self._block(hashed, scripts)
            if block.previous != before:
                return None
            ref = BlockRef(height, hashed)
            blocks.append(ref)
            seen += [_seen(output, ref) for output in block.found]
            before = hashed
        return blocks, seen

    async def _block(self, hashed: str, scripts: Set[bytes]) -> Block:
        body = await self._post(self._request("getblock", hashed, 0), MAX_BLOCK_BYTES)
        # A large block takes a tenth of a second to read, in which others are to be served.
        block = await asyncio.to_thread(_read_block, body, scripts)
        if block.hash != hashed:
            raise SourceError("it gave another block than the one that it was asked for")
        return block

    async def _waiting(self, scripts: Set[bytes]) -> list[Output] | None:
        """What waits in the mempool for these scripts; None where not all of the mempool is known yet."""
        body = await self._post(self._request("getrawmempool"), MAX_MEMPOOL_BYTES)
        txids = await asyncio.to_thread(_read_txids, body)
        new = self._mempool.renew(txids)
        for some in _batches(new[:MOST_NEW], BATCH):
            for txid, transaction in await self._transactions(some):
                self._mempool.add(txid, transaction)
        if len(new) > MOST_NEW:
            return None
        try:
            return await asyncio.to_thread(self._mempool.outputs_to, scripts)
        except asyncio.CancelledError:
            self._mempool = Mempool()  # the thread still works on the other one
            raise

    async def _transactions(self, txids: list[str]) -> list[tuple[str, Transaction]]:
        """Those that it still has."""
        requests = {next(self._numbers): txid for txid in txids}
        content = [
            {"jsonrpc": "1.0", "id": number, "method": "getrawtransaction", "params": [txid]}
            for number, txid in requests.items()
        ]
        answers = parse_json(await self._post(content, MAX_BATCH_BYTES))
        if not isinstance(answers, list) or len(answers) != len(requests):
            raise SourceError("it did not answer each request of several")
        found = []
        for answer in answers:
            number = answer.get("id") if isinstance(answer, dict) else None
            txid = requests.pop(number, None) if type(number) is int else None
            if txid is None:
                raise SourceError("it answered what it was not asked")
            try:
                transaction = _transaction(_result(answer))
            except RpcError as error:
                if error.code in NOT_FOUND:  # it was mined, or left, meanwhile
                    continue
                raise
            if transaction.id[::-1].hex() != txid:
                raise SourceError("it gave another transaction than the one that it was asked for")
            found.append((txid, transaction))
        return found

    async def _call(self, method: str, *parameters: object) -> Any:
        return _result(parse_json(await self._post(self._request(method, *parameters), MAX_ANSWER_BYTES)))

    def _request(self, method: str, *parameters: object) -> dict[str, Any]:
        return {"jsonrpc": "1.0", "id": next(self._numbers), "method": method, "params": parameters}

    async def _post(self, request: object, most_bytes: int) -> bytes:
        content = json.dumps(request).encode()
        status, body = await self._caller.call("POST", self._url, most_bytes, content, self._credentials())
        if status in (401, 403):
            raise SourceError("it does not accept the credentials, or this address")
        if status not in (200, 400, 404, 500):  # with these bitcoind sends errors that have a code
            raise SourceError(f"it answered with status {status}: {excerpt(body)}")
        return body

    def _credentials(self) -> tuple[str, str] | None:
        """Those of the cookie file are new with every start of the node."""
        if self._cookie_file is None:
            return self._auth
        try:
            user, _, password = self._cookie_file.read_text().strip().partition(":")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"its cookie file cannot be read: {type(error).__name__}") from error
        return user, password


def _result(answer: object) -> Any:
    if not isinstance(answer, dict):
        raise SourceError("its answer is no object")
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict) or type(error.get("code")) is not int:
            raise SourceError("its error has no code")
        raise RpcError(error["code"], str(error.get("message", "")))
    if "result" not in answer:
        raise SourceError("its answer has neither a result nor an error")
    return answer["result"]


def _bytes(text: object) -> bytes:
    try:
        return bytes.fromhex(text if isinstance(text, str) else "not hexadecimal")
    except ValueError as error:
        raise SourceError("it gave what is no hexadecimal text") from error


def _read_block(body: bytes, scripts: Set[bytes]) -> Block:
    try:
        return raw.read_block(_bytes(_result(parse_json(body))), scripts)
    except Malformed as error:
        raise SourceError(f"it gave {error}") from error


def _transaction(text: object) -> Transaction:
    try:
        return raw.read_transaction(_bytes(text))
    except Malformed as error:
        raise SourceError(f"it gave {error}") from error


def _read_txids(body: bytes) -> set[str]:
    found = _result(parse_json(body))
    if not isinstance(found, list) or not all(_is_txid(text) for text in found):
        raise SourceError("its mempool is no list of ids of transactions")
    return set(found)


def _is_txid(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and _TXID_CHARS.issuperset(text)


def _block_ref(height: object, hashed: object) -> BlockRef:
    try:
        return BlockRef(height, hashed)  # type: ignore[arg-type]  # it looks itself
    except ValueError as error:
        raise SourceError(f"it gave what cannot be: {error}") from error


def _seen(output: Output, block: BlockRef | None) -> Seen:
    try:
        return Seen(output.txid, output.vout, output.script, output.sat, block, output.coinbase)
    except ValueError as error:
        raise SourceError(f"it gave what cannot be: {error}") from error


def _batches(values: list[str], size: int) -> Iterator[list[str]]:
    for at in range(0, len(values), size):
        yield values[at : at + size]
