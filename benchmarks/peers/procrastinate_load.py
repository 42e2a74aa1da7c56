"""`python -m benchmarks.peers.procrastinate_load TASKS IN_FLIGHT`: whole tasks per second, as JSON.

A whole task: deferred, run by the worker (a process of its own), marked as succeeded. Procrastinate keeps no
results, so this process looks in the table for when a task is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import psycopg

from benchmarks.peers.procrastinate_app import answer, app

LOOK_S = 0.001
TIMEOUT_S = 60
DONE = "SELECT count(*) FROM procrastinate_jobs WHERE id > %s AND status = 'succeeded'"
LAST = "SELECT coalesce(max(id), 0) FROM procrastinate_jobs"


async def one_at_a_time(connection: psycopg.AsyncConnection, tasks: int) -> float:
    started = time.perf_counter()
    for _ in range(tasks):
        job_id = await answer.defer_async(prompt="prompt")
        await until_done(connection, job_id - 1, 1)
    return tasks / (time.perf_counter() - started)


async def all_at_once(connection: psycopg.AsyncConnection, tasks: int, in_flight: int) -> float:
    """`in_flight` loops defer as fast as they can; the worker runs as many at a time."""
    last = int((await (await connection.execute(LAST)).fetchone())[0])
    left = iter(range(tasks))

    async def defer() -> None:
        for _ in left:
            await answer.defer_async(prompt="prompt")

    started = time.perf_counter()
    await asyncio.gather(*(defer() for _ in range(in_flight)))
    await until_done(connection, last, tasks)
    return tasks / (time.perf_counter() - started)


async def until_done(connection: psycopg.AsyncConnection, after_id: int, tasks: int) -> None:
    until = time.monotonic() + TIMEOUT_S
    while int((await (await connection.execute(DONE, (after_id,))).fetchone())[0]) < tasks:
        if time.monotonic() > until:
            raise TimeoutError("the worker does not finish")
        await asyncio.sleep(LOOK_S)


async def measure(tasks: int, in_flight: int) -> float:
    async with (
        app.open_async(),
        await psycopg.AsyncConnection.connect(os.environ["BENCH_POSTGRES"], autocommit=True) as connection,
    ):
        await all_at_once(connection, max(10, tasks // 10), in_flight)
        if in_flight == 1:
            return await one_at_a_time(connection, tasks)
        return await all_at_once(connection, tasks, in_flight)


if __name__ == "__main__":
    print(json.dumps({"per_s": asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2])))}))
