"""Fills a database with GPUs, miners and bookings, as they are after years, and asks for what costs most."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from aitbc.coordinator.database import Database, sqlite_path
from aitbc.coordinator.flows.acts import market
from aitbc.coordinator.flows.acts.onboarding import issue_key
from benchmarks.databases import Prepared
from benchmarks.explorer import percentiles_ms
from benchmarks.fill import flow_context
from benchmarks.processes import Coordinator

OWNERS = 1_000
BOOKERS = 1_000
OWNER_KEY = "bench-owner"
ORDER_EVERY_MS = 8_640  # 10,000 a day
PRICES = "prices of a model"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
MODELS = ("rtx4090", "rtx3090", "a100", "h100", "mi300x", "rtx6000adageneration", "l40s", "t4")
REGIONS = ("eu", "us", "asia", "africa")


def execute(url: str, statements: list[str]) -> None:
    """In one transaction."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
        connection.execute("BEGIN")
        for text in statements:
            connection.execute(text)
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    with psycopg.connect(url) as database:
        for text in statements:
            database.execute(text.encode())
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(b"VACUUM ANALYZE gpus, bookings, miners, accounts")


def choice(values: tuple[str, ...], by: str) -> str:
    """SQL: one of the texts, by a number."""
    cases = " ".join(f"WHEN {number} THEN '{value}'" for number, value in enumerate(values))
    return f"CASE ({by}) % {len(values)} {cases} END"


def market_rows(gpus: int, orders: int, booked: int, now_ms: int) -> list[str]:
    """SQL that makes so many GPUs, each with its miner, and bookings: `booked` of them are open, and heard of."""
    gpu, miner = "CAST(1000000 + {} AS TEXT)", "'rig-' || CAST(1000000 + {} AS TEXT)"
    owner, booker = (
        "'owner-' || CAST(10000 + ({}) % 1000 AS TEXT)",
        "'booker-' || CAST(10000 + ({}) % 1000 AS TEXT)",
    )
    i, of_gpu = "i", f"(i % {gpus})"
    active = f"i < {booked}"
    before = f"({now_ms - 3_600_000} - ({orders} - i) * CAST({ORDER_EVERY_MS} AS BIGINT))"
    start, end = f"CASE WHEN {active} THEN {now_ms - 3_600_000} ELSE {before} END", ""
    end = f"CASE WHEN {active} THEN {now_ms + 3_600_000} ELSE {before} + 3600000 END"
    return [
        f"{NUMBERS.format(last=OWNERS - 1)} INSERT INTO accounts (id, kind, balance_units, held_units, created_at_ms)"
        f" SELECT {owner.format(i)}, 'user', 0, 0, 0 FROM n UNION ALL"
        f" SELECT {booker.format(i)}, 'user', 0, 0, 0 FROM n",
        "INSERT INTO providers (account_id, approval, allowance, delivered, strikes, paused_until_ms)"
        " SELECT id, 'approved', 8, 0, 0, 0 FROM accounts WHERE id LIKE 'owner-%'",
        f"{NUMBERS.format(last=gpus - 1)} INSERT INTO miners (id, account_id, status, revision, deregistered,"
        " capabilities, job_types, gpus, load, region, memory_mb, concurrency, public_key, address, endpoint,"
        " registered_at_ms, last_heartbeat_ms, reservation)"
        f" SELECT {miner.format(i)}, {owner.format(i)}, 'active', i + 1, 0, '[]', '[]', '[]', '{{}}', 'eu', 24576, 1,"
        f" '', '', '', 0, {now_ms}, CASE WHEN {active} THEN {gpu.format(i)} ELSE '' END FROM n",
        f"{NUMBERS.format(last=gpus - 1)} INSERT INTO gpus SELECT {gpu.format(i)}, {owner.format(i)},"
        f" {miner.format(i)}, 'GPU', {choice(MODELS, 'i * 7919 / 13')}, 8192 * (1 + i * 104729 % 10), 1, '12.4',"
        f" {choice(REGIONS, 'i * 31 / 7')}, 1000000 + (i * 15485863 % 1000003) * 100, '[]', 'a box',"
        f" CASE WHEN {active} THEN 'booked' ELSE 'available' END, CASE WHEN {active} THEN {gpu.format(i)} ELSE '' END,"
        f" 10, 0, 0, 5000 + i * 611953 % 5000, 3, 12, 1000 + i * 32452843 % 4000, 0, 0 FROM n",
        f"{NUMBERS.format(last=orders - 1)} INSERT INTO bookings SELECT {gpu.format(i)}, {gpu.format(of_gpu)},"
        f" {miner.format(of_gpu)}, {booker.format('i * 7')}, {owner.format(of_gpu)},"
        f" CASE WHEN {active} THEN 'active' ELSE 'completed' END, CASE WHEN {active} THEN 'running' ELSE 'ran_out' END,"
        f" {start}, {end}, 100, 250, 'h' || {gpu.format(i)}, 100, '', 0, '',"
        f" CASE WHEN {active} THEN 1 ELSE 0 END, 0, CASE WHEN {active} THEN {now_ms - 15_000} ELSE 0 END, 1000, 0, 0,"
        f" '', CASE WHEN {active} THEN '' ELSE 'coordinator' END,"
        f" CASE WHEN {active} THEN NULL ELSE {before} + 3600000 END, 0, 0,"
        f" {choice(MODELS, f'{of_gpu} * 7919 / 13')} FROM n",
    ]


def pages(gpus: int) -> dict[str, Callable[[random.Random], str]]:
    """By name: makes the path of one request. Those of few finds look through whole indexes."""
    base = "/v1/marketplace/gpu/list?limit=100"
    prices = lambda d: f"{1_000_000 + d.randrange(1_000_003) * 100}~{1_000_000 + d.randrange(gpus)}"  # noqa: E731
    return {
        "cheapest": lambda d: f"{base}&available=true",
        "anywhere by price": lambda d: f"{base}&cursor={prices(d)}",
        "a model": lambda d: f"{base}&model={d.choice(MODELS)}&available=true&cursor={prices(d)}",
        "a model by rating": lambda d: f"{base}&model={d.choice(MODELS)}&sort=-rating",
        "by reliability in a region": lambda d: f"{base}&region={d.choice(REGIONS)}&sort=-reliability",
        "large and cheap": lambda d: f"{base}&memory=72&max_price=0.05&sort=-memory",
        "hardly any": lambda d: f"{base}&memory=80&rating=4.99&reliability=0.98&region=eu",
        "none": lambda d: f"{base}&model=none-such&sort=-rating",
        "no such region": lambda d: f"{base}&region=nowhere&sort=reliability",
        "newest": lambda d: f"{base}&sort=newest&cursor=0~{1_000_000 + d.randrange(gpus)}",
        PRICES: lambda d: f"/v1/marketplace/pricing/{d.choice(MODELS)}",
        "a GPU": lambda d: f"/v1/marketplace/gpu/{1_000_000 + d.randrange(gpus)}",
    }


def orders_of(orders: int) -> dict[str, Callable[[random.Random], str]]:
    """The same for orders, which need a key."""
    base = "/v1/marketplace/orders?limit=100"
    return {
        "own orders": lambda d: f"{base}&cursor={1_000_000 + d.randrange(orders)}",
        "own active orders": lambda d: f"{base}&status=active",
        "own cancelled orders": lambda d: f"{base}&status=cancelled",
        "orders of own GPUs": lambda d: f"{base}&role=owner&cursor={1_000_000 + d.randrange(orders)}",
    }


def pages_ms(
    prepared: Prepared, home: Path, gpus: int, orders: int, count: int
) -> dict[str, dict[str, float]]:
    """p50, p99 and worst of each kind of page, in ms."""
    execute(prepared.url, market_rows(gpus, orders, min(10_000, gpus), int(time.time() * 1000)))
    database = Database.open(prepared.url)
    booker = database.write_sync(lambda tx: issue_key(tx, role="client", account_id="booker-10007")).key
    owner = database.write_sync(lambda tx: issue_key(tx, role="miner", account_id="owner-10007")).key
    database.close()
    found = {}
    with Coordinator(prepared, home) as coordinator:
        public = pages(gpus)
        for name, make in {**public, **orders_of(orders)}.items():
            key = "" if name in public else owner if "GPUs" in name else booker
            found[name] = percentiles_ms(coordinator.port, make, count, key)
    return found


def pass_ms(prepared: Prepared, bookings: int, rounds: int) -> list[float]:
    """What a round of the market's clock takes with so many open bookings, all heard of since the last, in ms."""
    ctx, now_ms = flow_context(), int(time.time() * 1000)
    execute(prepared.url, market_rows(bookings, bookings, bookings, now_ms))
    database = Database.open(prepared.url)
    took = []
    try:
        for number in range(rounds + 1):
            execute(prepared.url, [f"UPDATE miners SET last_heartbeat_ms = {now_ms + number + 1}"])
            began = time.perf_counter()
            moved = database.write_sync(market.count, ctx)
            database.write_sync(market.end_due, ctx)
            database.write_sync(market.begin_due)
            database.write_sync(market.clear_jobs)
            database.read_sync(market.moved, ctx)
            took.append((time.perf_counter() - began) * 1000)
            if moved != bookings:
                raise RuntimeError(f"{moved} of {bookings} bookings moved on")
    finally:
        database.close()
    return took[1:]
