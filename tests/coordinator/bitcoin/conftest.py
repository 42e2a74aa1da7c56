"""Sources over the real node, and places to be paid at."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from aitbc.coordinator.bitcoin.addresses import address_of
from aitbc.coordinator.bitcoin.bitcoind import Bitcoind
from aitbc.coordinator.bitcoin.esplora import Esplora
from aitbc.coordinator.bitcoin.source import BlockRef, Look, Source
from tests.support.bitcoin import BitcoinNode
from tests.support.meddler import Meddler, meddling

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Place:
    script: bytes
    address: str


@pytest.fixture
def run() -> Iterator[Run[Any]]:
    """Runs a coroutine to its end; all of a test's on one loop."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def place() -> Callable[[], Place]:
    """`place()`: where nobody was paid yet."""

    def make() -> Place:
        script = b"\x00\x14" + os.urandom(20)
        return Place(script, address_of(script, "regtest"))

    return make


class View:
    """A source asked as by somebody who knows the chain up to `.after`."""

    def __init__(self, source: Source, run: Run[Any], meddler: Meddler) -> None:
        self.source, self.run, self.meddler = source, run, meddler
        self.after: BlockRef = run(source.tip())

    def tip(self) -> BlockRef:
        tip: BlockRef = self.run(self.source.tip())
        return tip

    def hash_at(self, height: int) -> str | None:
        found: str | None = self.run(self.source.hash_at(height))
        return found

    def look(self, *places: Place, most_blocks: int = 20) -> Look:
        scripts = {place.script for place in places}
        look: Look = self.run(self.source.look(scripts, self.after, most_blocks))
        return look

    def pays(self, *places: Place) -> list[tuple[str, int, int, int]]:
        """(txid, vout, satoshi, height or 0 for the mempool) of a whole look."""
        look = self.look(*places)
        assert look.whole
        return sorted(
            (one.txid, one.vout, one.sat, one.block.height if one.block else 0) for one in look.seen
        )


@pytest.fixture(params=["bitcoind", "esplora"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of source; both, unless a test names one."""
    return str(request.param)


@pytest.fixture
def view(kind: str, bitcoin: BitcoinNode, run: Run[Any]) -> Iterator[View]:
    """The real node through a source, with a meddler between them."""
    target = bitcoin.rpc_url if kind == "bitcoind" else bitcoin.esplora_url
    with meddling(target.replace(f"test:{bitcoin.password}@", "")) as meddler:
        source: Source
        if kind == "bitcoind":
            url = meddler.url.replace("//", f"//test:{bitcoin.password}@")
            source = Bitcoind(url, TIMEOUT_S)
        else:
            source = Esplora(meddler.url, TIMEOUT_S)
        yield View(source, run, meddler)
        run(source.close())
