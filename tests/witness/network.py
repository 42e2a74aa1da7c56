"""A coordinator's database and its witnesses, reached without a network."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.coordinator.chain import sealer, witnessing
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.metrics import COSIGNATURES
from aitbc.coordinator.process.cosigning import Cosigner
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.clock import SystemClock
from aitbc.core.log.block import origin_of
from aitbc.core.log.note import COSIGNATURE_V1, Verifier
from aitbc.core.signing import PrivateKey
from aitbc.witness.server import create_app
from aitbc.witness.service import Witness
from aitbc.witness.state import WitnessState
from tests.coordinator.chain.logs import append, seal
from tests.support.flows import CHAIN, KEY, context

LOG = Verifier(origin_of(CHAIN), KEY.public_bytes)
Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]
sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


def key_of(name: str) -> PrivateKey:
    return PrivateKey.from_seed(name.encode().ljust(32, b"."))


def verifier_of(name: str) -> Verifier:
    return Verifier(name, key_of(name).public_bytes, COSIGNATURE_V1)


def honest(name: str, path: Path) -> Handler:
    """The real witness, through its ASGI application."""
    transport = httpx.ASGITransport(
        app=create_app(Witness(name, key_of(name), [LOG], WitnessState(path / f"{name}.db")))
    )
    return transport.handle_async_request


class Net(httpx.AsyncBaseTransport):
    """Witnesses by host name."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.handlers = handlers
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        answer = await self.handlers[request.url.host](request)
        if answer.is_stream_consumed:  # made from bytes; on a wire it would still be to read
            return httpx.Response(
                answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content)
            )
        return answer


def runtime_of(db: Database, net: Net, *names: str) -> Runtime:
    """A coordinator over `db` whose WITNESSES are these (default: all of the net)."""
    witnesses = ",".join(f"{verifier_of(name).vkey}@http://{name}/" for name in names or net.handlers)
    settings = Settings(database_url="sqlite:///unused.db", api_keys="", witnesses=witnesses)
    return Runtime(settings, db, context(), SystemClock(), IdleMiners())


def cosigner_of(db: Database, net: Net, *names: str) -> Cosigner:
    """What brings its blocks to them."""
    return Cosigner(runtime_of(db, net, *names), httpx.AsyncClient(transport=net))


def grow(db: Database, count: int) -> sealer.BlockRow:
    """One more block."""
    db.write_sync(append, count)
    assert seal(db)
    head = db.read_sync(sealer.head)
    assert head is not None
    return head


def run(db: Database, *cosigners: Cosigner) -> None:
    """A round of each, one after another."""

    async def main() -> None:
        for cosigner in cosigners:
            assert await cosigner.run_once() is False

    asyncio.run(asyncio.wait_for(main(), 20))


def signed_by(db: Database) -> set[str]:
    head = db.read_sync(sealer.head)
    assert head is not None
    return db.read_sync(witnessing.witnesses_of, head.height)


def counted(name: str) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in COSIGNATURES.collect()
        for sample in metric.samples
        if sample.labels["witness"] == name
    }


def copied(db: Database, path: Path) -> Database:
    """The database as it stands, as a coordinator that goes its own way has it."""
    source: Any = db.backend
    with sqlite3.connect(source.path) as old, sqlite3.connect(path) as new:
        old.backup(new)
    return Database.open(f"sqlite:///{path}", clock=db.clock)
