"""A miner in the test's own loop, with everything it reported."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from aitbc.miner.agent import MinerAgent
from aitbc.miner.engines.base import Engine
from aitbc.miner.gpu import Gpu
from aitbc.miner.progress import MinerView
from aitbc.miner.settings import MinerSettings
from tests.miner.fakes import FakeCoordinator

TIMEOUT_S = 10.0


class Events:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        self.view = MinerView()
        self.is_closed = False

    def event(self, name: str, **facts: Any) -> None:
        self.all.append((name, facts))

    def refresh(self, view: MinerView) -> None:
        self.view = view

    def close(self) -> None:
        self.is_closed = True

    def named(self, name: str) -> list[dict[str, Any]]:
        return [facts for each, facts in self.all if each == name]


async def until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until `condition` holds."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came about"
        await asyncio.sleep(0.005)


class RunningMiner:
    """A miner under test: `agent`, its `events`, and its `task`, whose result is the exit status."""

    def __init__(self, agent: MinerAgent, events: Events) -> None:
        self.agent = agent
        self.events = events
        self.task = asyncio.create_task(agent.run())

    async def stop(self) -> int:
        self.agent.stop()
        return await asyncio.wait_for(self.task, TIMEOUT_S)


def miner_settings(coordinator: FakeCoordinator, home: Path, **changes: Any) -> MinerSettings:
    values: dict[str, Any] = {
        "coordinator": coordinator.url,
        "key": coordinator.key,
        "home": home,
        "miner_id": "m1",
        "poll_wait_s": 1.0,
        "refresh_s": 0.05,
        "backoff_min_s": 0.02,
        "backoff_max_s": 0.1,
        "flush_grace_s": 0.3,
        "drain_grace_s": 2.0,
    }
    return MinerSettings(**values | changes)


@contextlib.asynccontextmanager
async def mining(
    coordinator: FakeCoordinator,
    home: Path,
    engine: Engine,
    *,
    gpus: list[Gpu] | None = None,
    **changes: Any,
) -> AsyncIterator[RunningMiner]:
    """A miner that has registered; stopped at the end where the test has not done so."""
    events = Events()
    agent = MinerAgent(miner_settings(coordinator, home, **changes), engine, events, gpus=gpus or [])
    miner = RunningMiner(agent, events)
    try:
        await until(lambda: events.named("registered") or miner.task.done())
        yield miner
    finally:
        if not miner.task.done():
            agent.stop()
            agent.stop()
        await asyncio.gather(miner.task, return_exceptions=True)
        await until(lambda: events.is_closed)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a test's scenario, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(TIMEOUT_S * 2):
            await scenario

    asyncio.run(limited())


def outbox_of(home: Path) -> list[Path]:
    """The answers on disk of the miner "m1"."""
    return list((home / "miner" / "m1" / "outbox").glob("*.json"))
