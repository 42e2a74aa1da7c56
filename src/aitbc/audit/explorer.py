"""Blocks as the explorer serves them: each hash and link recomputed, their roots kept to be compared."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aitbc.audit.findings import Progress, Wrong
from aitbc.audit.http import Coordinator, NotServed
from aitbc.audit.network import founded, is_old
from aitbc.core.canonical import loads_strict
from aitbc.core.log.block import VERSION, VERSION_2, BlockHeader, genesis, origin_of
from aitbc.core.log.checkpoint import Checkpoint
from aitbc.core.log.keyset import KeySet
from aitbc.core.log.leaf import KINDS
from aitbc.core.log.policy import Policy

PAGE = 100
MAX_PAGE_BYTES = 4_000_000
_KINDS = len(KINDS) + 1  # the known ones, and all others together
_COUNTS = ("height", "transactions", "receipts", "first_leaf", "tree_size")


class Headers:
    """Tree sizes, roots and contents of the blocks, some 72 bytes each, compared while the tree is rebuilt.

    `network_id` is what the genesis block says; "" for networks from before foundings, where it says nothing.
    """

    def __init__(self) -> None:
        self.network_id = ""
        self._sizes = array("q")
        self._roots = bytearray()
        self._contents = array("q")  # of each block as many numbers as `Entries.seen` has
        self._next = 0
        self._before = [0] * _KINDS

    @property
    def count(self) -> int:
        """Blocks, with genesis."""
        return len(self._sizes) + 1

    def add(self, header: BlockHeader) -> None:
        self._sizes.append(header.tree_size)
        self._roots += bytes.fromhex(header.root)
        contents = header.contents
        known = [contents.pop(kind.name, 0) for kind in KINDS.values()]
        self._contents.extend((*known, sum(contents.values())))

    def compare(self, size: int, root: Callable[[], bytes], seen: Sequence[int]) -> None:
        """Raises Wrong where a block of this tree size has another root, or counts other leaves than there are.

        `seen`: how many of the tree's leaves are of which kind, as `Entries` has it.
        """
        at = self._next
        if at < len(self._sizes) and self._sizes[at] == size:
            self._next += 1
            if self._roots[at * 32 : (at + 1) * 32] != root():
                raise Wrong("block", at + 1, "its root is not that of its leaves and all before them")
            told = list(self._contents[at * _KINDS : (at + 1) * _KINDS])
            new = [now - before for now, before in zip(seen, self._before, strict=True)]
            self._before = list(seen)
            if told != new:
                raise Wrong("block", at + 1, f"it counts {_listed(told)}, its leaves are {_listed(new)}")


def _listed(counts: Sequence[int]) -> str:
    names = [*(kind.name for kind in KINDS.values()), "of other kinds"]
    return " and ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True) if count)


def check_blocks(
    coordinator: Coordinator,
    key_set: KeySet | Policy,
    keys: Mapping[str, bytes],
    head: Checkpoint,
    progress: Progress,
) -> Headers:
    """Every block up to the checkpoint. Raises Wrong; NotServed where there is no explorer."""
    newest = _read(coordinator, "/v1/explorer/blocks?limit=1", list)
    progress.stage("blocks", _height(newest[0]) if newest else 0)
    headers = Headers()
    last: BlockHeader | None = None
    for shown in _ascending(coordinator):
        header = _header(shown, key_set.chain_id)
        if last is None:
            _check_genesis(coordinator, header, key_set)
            headers.network_id = "" if is_old(header) else header.hash
        elif fault := header.fault_after(last):
            raise Wrong("block", header.height, fault)
        elif header.tree_size > head.size:
            break  # sealed since the checkpoint was read
        if shown.get("hash") != header.hash:
            raise Wrong("block", header.height, "its hash is not that of its header")
        if last is not None:
            _check_signature(coordinator, header, shown, keys)
            headers.add(header)
            progress.step(1)
        last = header
    if last is None or last.tree_size != head.size or last.root != head.root.hex():
        which = "newest" if last is None else last.height
        raise Wrong("block", which, f"it is not the block of the checkpoint of {head.size} leaves")
    return headers


def _check_genesis(coordinator: Coordinator, header: BlockHeader, keys: KeySet | Policy) -> None:
    """Block 0 follows from the founding that the coordinator shows, and the log is the one founded there."""
    chain_id = keys.chain_id
    if is_old(header):
        expected, origin = genesis(chain_id), origin_of(chain_id)
    else:
        try:
            info = _read(coordinator, "/rpc/info", dict)
        except NotServed:
            raise Wrong("block", 0, "what it was founded with cannot be read") from None
        network = founded(info.get("founding"), chain_id)
        expected, origin = network.genesis, network.origin
    if header != expected:
        raise Wrong("block", 0, f"it is not the genesis block of {chain_id}")
    if origin != keys.origin:
        raise Wrong("block", 0, f"its log is {origin}, and the keys are of {keys.origin}")
    if keys.network_id and not is_old(header) and header.hash != keys.network_id:
        raise Wrong("block", 0, "it is another network's than the keys are of")


def _check_signature(
    coordinator: Coordinator, header: BlockHeader, shown: dict[str, Any], keys: Mapping[str, bytes]
) -> None:
    """The proposer's. Coordinators of before list blocks without it; there each block is read by itself."""
    if "signature" not in shown:
        try:
            shown = _read(coordinator, f"/v1/explorer/blocks/{header.height}", dict)
        except NotServed:
            raise Wrong("block", header.height, "it is listed and cannot be read") from None
    key, signature = keys.get(header.proposer), shown.get("signature")
    if key is None:
        raise Wrong("block", header.height, f"its proposer's key {header.proposer} is not known")
    if not isinstance(signature, str) or not header.is_signed(key, signature):
        raise Wrong("block", header.height, "its proposer's signature does not match")


def _ascending(coordinator: Coordinator) -> Iterator[dict[str, Any]]:
    """The list goes from the newest down, its cursor is a height: so ask for the pages from below."""
    height = 0
    while True:
        page = _read(coordinator, f"/v1/explorer/blocks?limit={PAGE}&cursor={height + PAGE}", list)
        # Near the head a page goes further down than was asked for.
        page = [block for block in reversed(page) if _height(block) >= height]
        for block in page:
            if block.get("height") != height:
                raise Wrong("block", height, "it is missing from the list")
            yield block
            height += 1
        if len(page) < PAGE:
            return


def _height(block: Any) -> int:
    height = block.get("height") if isinstance(block, dict) else None
    if type(height) is not int:
        raise Wrong("block", "in the list", "it has no height")
    return height


def _header(shown: dict[str, Any], chain_id: str) -> BlockHeader:
    which = str(shown.get("height"))[:20]
    try:
        if any(type(shown[name]) is not int for name in _COUNTS):
            raise Wrong("block", which, "a count is not an integer")
        document: dict[str, Any] = {name: shown[name] for name in (*_COUNTS, "previous_hash", "root")}
        document["version"] = VERSION
        if (contents := shown.get("contents")) is not None:
            document |= {"version": VERSION_2, "contents": contents}
        document |= {
            "chain_id": chain_id,
            "time": shown["timestamp"],
            "last_leaf": shown["tree_size"] - 1,
            "proposer": shown["proposer"] or "",
        }
        return BlockHeader.from_json(document)
    except (KeyError, TypeError, ValueError) as error:
        raise Wrong("block", which, f"it cannot be read: {error}") from None


def _read(coordinator: Coordinator, path: str, kind: type) -> Any:
    try:
        document = loads_strict(coordinator.get(path, MAX_PAGE_BYTES))
    except ValueError as error:
        raise Wrong("block", path, f"it cannot be read: {error}") from None
    if not isinstance(document, kind):
        raise Wrong("block", path, "the answer has another form")
    return document
