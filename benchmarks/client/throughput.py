"""Closed loops: each connection does its operation over and over; what ends within the window counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.client.actors import Client, Miner
from benchmarks.client.http import BadAnswer, Connection, request_head, with_body
from benchmarks.proc import busy_s, cpu_s

EMPTY_LOOKS = 100  # how often a claim may find nothing before the measurement is given up


class Usage:
    """What a span of time cost in processor time, by process: ours, the server's, everybody else's."""

    def __init__(self, server_pid: int) -> None:
        self._pid = server_pid
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        return time.perf_counter(), time.process_time(), cpu_s(self._pid), busy_s()

    def cores(self) -> dict[str, float]:
        """Cores in use since the start, on average."""
        took, client, server, busy = (
            now - then for now, then in zip(self._read(), self._before, strict=True)
        )
        return {
            "client_cores": client / took,
            "server_cores": server / took,
            "other_cores": max(0.0, busy - client - server) / took,
        }


async def closed_loops(
    operations: list[Callable[[], Awaitable[int]]], warm_up_s: float, seconds: float, server_pid: int
) -> dict[str, Any]:
    """Runs every operation over and over; how many units they came to in `seconds` after the warm-up."""
    done = 0
    latencies: list[float] = []
    start = time.perf_counter() + warm_up_s
    end = start + seconds

    async def run(operation: Callable[[], Awaitable[int]]) -> None:
        nonlocal done
        before = time.perf_counter()
        while before < end:
            units = await operation()
            after = time.perf_counter()
            if start <= after < end:
                done += units
                latencies.append(after - before)
            before = after

    async def watch() -> dict[str, float]:
        await asyncio.sleep(warm_up_s)
        usage = Usage(server_pid)
        await asyncio.sleep(seconds)
        return usage.cores()

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(run(operation) for operation in operations))
    cores = await watcher
    latencies.sort()
    return {
        "count": done,
        "seconds": seconds,
        "per_s": done / seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1000 if latencies else None,
        "server_us_each": cores["server_cores"] * seconds * 1e6 / done if done else None,
        **cores,
    }


def no_ops(connections: list[Connection], path: str, body: bytes) -> list[Callable[[], Awaitable[int]]]:
    """A POST that does nothing, on each connection."""
    request = with_body(request_head("POST", path, None), body)

    def on(connection: Connection) -> Callable[[], Awaitable[int]]:
        async def operation() -> int:
            await connection.send(request)
            if connection.status != 200:
                raise BadAnswer(f"POST {path}: {connection.status}")
            return 1

        return operation

    return [on(connection) for connection in connections]


def whole_jobs(
    connections: list[Connection], client: Client, miners: list[Miner]
) -> list[Callable[[], Awaitable[int]]]:
    """Three requests for each job: submit, take one, send the signed result. A miner for each connection.

    Whoever takes may get a job that another connection submitted; each has submitted one before it takes.
    """
    submission = client.submit()

    def on(connection: Connection, miner: Miner) -> Callable[[], Awaitable[int]]:
        take = miner.take(1)

        async def operation() -> int:
            await connection.json(submission, 201)
            for _ in range(EMPTY_LOOKS):
                jobs = (await connection.json(take))["jobs"]
                if jobs:
                    break
            else:
                raise BadAnswer("no job could be taken though one was submitted")
            receipt = await connection.json(miner.result(jobs[0]))
            if not receipt["signature"]["sig"] or receipt["job_id"] != jobs[0]["job_id"]:
                raise BadAnswer("the result was not answered with its receipt")
            return 1

        return operation

    return [on(connection, miner) for connection, miner in zip(connections, miners, strict=True)]


def batches(
    connections: list[Connection], client: Client, miners: list[Miner], size: int
) -> list[Callable[[], Awaitable[int]]]:
    """Three requests for `size` jobs."""
    submission = client.submit_batch(size)

    def on(connection: Connection, miner: Miner) -> Callable[[], Awaitable[int]]:
        take = miner.take(size)

        async def operation() -> int:
            submitted = await connection.json(submission)
            if not all(item["ok"] for item in submitted["items"]):
                raise BadAnswer("a job of a batch was refused")
            jobs = (await connection.json(take))["jobs"]
            if not jobs:
                return 0
            done = await connection.json(miner.results(jobs))
            if not all(item["ok"] for item in done["items"]):
                raise BadAnswer(f"a result of a batch was refused: {done['items'][0]}")
            return len(jobs)

        return operation

    return [on(connection, miner) for connection, miner in zip(connections, miners, strict=True)]
