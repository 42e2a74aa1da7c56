"""`python -m benchmarks.client`: reads commands from standard input, a JSON object a line, and answers each.

The first line is the set-up: {host, port, client_key, miner_keys, chain_id, server_pid}.
Every answer is {"ok": ...} or {"error": text}. The process ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from typing import Any

import orjson
import uvloop

from benchmarks.client.actors import Client, Miner, registered
from benchmarks.client.dispatch import SUBMITTERS, WaitingRoom, submit_steadily
from benchmarks.client.http import Connection, connect_many
from benchmarks.client.throughput import batches, closed_loops, no_ops, whole_jobs


class LoadClient:
    """What the commands work on: miners once registered and the open connections."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self._server_pid: int = setup["server_pid"]
        self._miners: dict[str, list[Miner]] = {}
        self._room: WaitingRoom | None = None
        self._room_connections: list[Connection] = []

    async def run(self, command: dict[str, Any]) -> Any:
        action = getattr(self, "do_" + command.pop("do"))
        return await action(**command)

    async def _connections(self, count: int) -> list[Connection]:
        return await connect_many(self.setup["host"], self.setup["port"], count)

    async def _fleet(self, model: str, count: int, concurrency: int) -> list[Miner]:
        """The miners of a model, registered when they are first asked for."""
        known = self._miners.setdefault(model, [])
        if len(known) < count:
            names = [f"{model}-{number}" for number in range(len(known), count)]
            connections = await self._connections(min(8, len(names)))
            keys, chain = self.setup["miner_keys"], self.setup["chain_id"]
            known += await registered(connections, keys, chain, names, model, concurrency)
            for connection in connections:
                connection.close()
        return known[:count]

    async def do_noop(self, path: str, connections: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
        opened = await self._connections(connections)
        body = orjson.dumps(Client("", "bench-none").job())
        result = await closed_loops(no_ops(opened, path, body), warm_up_s, seconds, self._server_pid)
        return self._closed(opened, result)

    async def do_whole(
        self, connections: int, warm_up_s: float, seconds: float, model: str = "bench-whole"
    ) -> dict[str, Any]:
        opened = await self._connections(connections)
        miners = await self._fleet(model, connections, 1)
        client = Client(self.setup["client_key"], model)
        result = await closed_loops(whole_jobs(opened, client, miners), warm_up_s, seconds, self._server_pid)
        return self._closed(opened, result)

    async def do_batch(self, connections: int, size: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
        opened = await self._connections(connections)
        model = f"bench-batch-{size}"
        miners = await self._fleet(model, connections, size)
        client = Client(self.setup["client_key"], model)
        result = await closed_loops(
            batches(opened, client, miners, size), warm_up_s, seconds, self._server_pid
        )
        return self._closed(opened, result)

    async def do_wait(self, miners: int) -> dict[str, Any]:
        """Opens the polls of so many miners; they stay open until `leave`."""
        fleet = await self._fleet("bench-wait", miners, 1)
        self._room_connections = await self._connections(miners)
        self._room = WaitingRoom(self._room_connections, fleet)
        return {"miners": miners}

    async def do_dispatch(self, per_s: float, seconds: float) -> dict[str, Any]:
        assert self._room is not None, "nobody waits"
        self._room.check()
        opened = await self._connections(SUBMITTERS)
        client = Client(self.setup["client_key"], "bench-wait")
        result = await submit_steadily(self._room, opened, client, per_s, seconds, self._server_pid)
        return self._closed(opened, result)

    async def do_leave(self) -> dict[str, Any]:
        assert self._room is not None, "nobody waits"
        await self._room.leave()
        return self._closed(self._room_connections, {})

    @staticmethod
    def _closed(opened: list[Connection], result: dict[str, Any]) -> dict[str, Any]:
        for connection in opened:
            connection.close()
        return result


async def serve() -> None:
    loop = asyncio.get_running_loop()
    setup = orjson.loads(sys.stdin.readline())
    client = LoadClient(setup)
    gc.freeze()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = {"ok": await client.run(orjson.loads(line))}
        except Exception as error:  # noqa: BLE001 - the runner gets the text and decides; this process serves on
            answer = {"error": f"{error!r}\n{traceback.format_exc(limit=4)}"}
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
        sys.stdout.flush()
        gc.collect()


if __name__ == "__main__":
    uvloop.run(serve())
