"""Waiting miners and an open-loop client: how long after a submission a waiting miner has the job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from benchmarks.client.actors import Client, Miner
from benchmarks.client.http import BadAnswer, Connection
from benchmarks.client.throughput import Usage

POLL_S = 55
SUBMITTERS = 200  # enough for a stall of two seconds at 100 a second


class WaitingRoom:
    """Every miner polls on a connection of its own; one that gets a job answers it and polls again."""

    def __init__(self, connections: list[Connection], miners: list[Miner]) -> None:
        self.submitted_s: dict[str, float] = {}
        self.latencies_s: list[float] = []
        self.finished = 0
        self._tasks = [
            asyncio.create_task(self._poll(connection, miner))
            for connection, miner in zip(connections, miners, strict=True)
        ]

    async def _poll(self, connection: Connection, miner: Miner) -> None:
        poll = miner.take(1, POLL_S)
        while True:
            body = await connection.send(poll)
            received_s = connection.received_s
            if connection.status != 200:
                raise BadAnswer(f"a poll was answered with {connection.status}: {body[:300]!r}")
            for job in orjson.loads(body)["jobs"]:
                tag = job["parameters"]["prompt"].rsplit(" ", 1)[-1]
                self.latencies_s.append(received_s - self.submitted_s.pop(tag))
                await connection.json(miner.result(job))
                self.finished += 1

    def check(self) -> None:
        """Raises what ended a poll that should have gone on."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def submit_steadily(
    room: WaitingRoom,
    connections: list[Connection],
    client: Client,
    per_s: float,
    seconds: float,
    server_pid: int,
) -> dict[str, Any]:
    """Submits at a fixed rate, whatever the answers take; latencies from the sending to the poll's answer.

    `lag_ms_p99`: how late the client itself was against its schedule (not part of the latency).
    """
    room.latencies_s.clear()
    finished_before = room.finished
    free = list(connections)
    lags: list[float] = []
    tasks: set[asyncio.Task[None]] = set()
    total = round(per_s * seconds)
    usage = Usage(server_pid)

    async def submit(connection: Connection, tag: str) -> None:
        request = client.submit(tag)
        room.submitted_s[tag] = time.perf_counter()
        await connection.json(request, 201)
        free.append(connection)

    start = time.perf_counter() + 0.05
    for number in range(total):
        due = start + number / per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        lags.append(time.perf_counter() - due)
        if not free:
            raise BadAnswer(f"{len(connections)} submissions are unanswered: the server cannot keep up")
        task = asyncio.create_task(submit(free.pop(), f"n{time.perf_counter_ns()}"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    until = time.perf_counter() + 5
    while room.finished - finished_before < total and time.perf_counter() < until:
        room.check()
        await asyncio.sleep(0.01)
    if room.finished - finished_before < total:
        raise BadAnswer(f"{total} jobs were submitted, {room.finished - finished_before} were answered")
    found, lags = sorted(room.latencies_s), sorted(lags)
    return {
        "jobs": total,
        "p50_ms": found[len(found) // 2] * 1000,
        "p90_ms": found[len(found) * 90 // 100] * 1000,
        "p99_ms": found[len(found) * 99 // 100] * 1000,
        "max_ms": found[-1] * 1000,
        "lag_ms_p99": lags[len(lags) * 99 // 100] * 1000,
        **usage.cores(),
    }
