"""What everybody may read costs the same however much there is, and delays nobody else."""

import asyncio
import threading

import httpx
import pytest
from sqlalchemy import text

from aitbc.api.metrics import LEVELS_S
from aitbc.core.clock import ManualClock
from aitbc.database import Tx
from aitbc.flows import explorer
from aitbc.jobs import queries
from tests.api.support import Market

COPY = """
INSERT INTO jobs SELECT {columns} FROM jobs, {numbers} WHERE jobs.id = '{job}'
"""


def many(api: Market, job_id: str, count: int) -> None:
    """So many more jobs like this one, queued behind it."""
    from aitbc.jobs.models import Job

    names = [column.name for column in Job.__table__.columns]  # type: ignore[attr-defined]
    sqlite = api.runtime.db.dialect == "sqlite"
    series = (
        f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n) AS n"
        if sqlite
        else f"generate_series(1, {count}) AS n(i)"
    )
    new_id = (
        "jobs.id || '-' || substr('00000000' || n.i, -8)"
        if sqlite
        else "jobs.id || '-' || lpad(n.i::text, 8, '0')"
    )
    columns = ", ".join(new_id if name == "id" else f"jobs.{name}" for name in names)
    api.write(lambda tx: tx.change(text(COPY.format(columns=columns, numbers=series, job=job_id))))
    if not sqlite:
        api.write(lambda tx: tx.change(text("ANALYZE jobs")))


def test_a_place_in_the_queue_is_counted_so_far(api: Market) -> None:
    """And a job at the queue's head is not slowed by what waits behind it."""
    client = api.key("client", "alice")
    head = api.job(client)
    many(api, head, 3 * queries.MAX_POSITION)
    last = api.job(client)
    first_of_all = api.job(client, priority=9)
    assert api.get(f"/v1/jobs/{head}", client).json()["queue_position"] == 2
    assert api.get(f"/v1/jobs/{first_of_all}", client).json()["queue_position"] == 1
    assert api.get(f"/v1/jobs/{last}", client).json()["queue_position"] == queries.MAX_POSITION
    listed = api.get("/v1/jobs", client)
    assert listed.headers["x-total-count"] == str(3 * queries.MAX_POSITION + 3)


def test_a_list_counts_no_further_than_it_says(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_COUNTED", 7)
    client = api.key("client", "alice")
    many(api, api.job(client), 20)
    assert api.get("/v1/jobs", client).headers["x-total-count"] == "7"
    assert api.get("/v1/jobs", client, params={"status": "pending"}).headers["x-total-count"] == "7"
    assert len(api.get("/v1/jobs", client, params={"limit": 20}).json()) == 20


def gauge(api: Market, name: str) -> float:
    lines = api.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_gauges_are_read_once_in_a_while(api: Market, clock: ManualClock) -> None:
    client = api.key("client", "alice")
    first = api.job(client)
    clock.advance(5)
    assert gauge(api, "aitbc_queue_depth") == 1
    assert gauge(api, "aitbc_queue_age_seconds") == 5
    api.job(client, priority=9)
    assert gauge(api, "aitbc_queue_depth") == 1, "not yet"
    clock.advance(LEVELS_S)
    assert gauge(api, "aitbc_queue_depth") == 2
    assert gauge(api, "aitbc_queue_age_seconds") == 5 + LEVELS_S, "the oldest, of whatever rank"
    api.post(f"/v1/jobs/{first}/cancel", client)
    clock.advance(LEVELS_S)
    assert gauge(api, "aitbc_queue_age_seconds") == LEVELS_S * 2


def test_slow_reads_delay_neither_health_nor_who_is_calling(api: Market) -> None:
    """Every reader is busy with something endless; a new key is looked at and /health answers all the same."""
    stop, begun = threading.Event(), threading.Semaphore(0)

    def slow(_tx: Tx) -> None:
        begun.release()
        assert stop.wait(30)

    async def start() -> list[asyncio.Task[None]]:
        return [asyncio.create_task(api.runtime.db.read(slow)) for _ in range(32)]

    busy = api.run(start())
    try:
        assert begun.acquire(timeout=10)
        miner = api.key("miner", "mill")
        assert api.get("/health").status_code == 200
        answer = api.post("/v1/miners/register", miner, json={"miner_id": "m1", "capabilities": ["x"]})
        assert answer.status_code == 201, "a write, by a key that nobody has seen before"
    finally:
        stop.set()
        api.run(asyncio.wait_for(_all(busy), 30))


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


def test_jobs_of_one_end_are_looked_for_so_far_and_go_on_below(
    api: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_COUNTED", 4)
    client = api.key("client", "alice")
    made = [api.job(client) for _ in range(11)]
    wanted = [made[9], made[2], made[0]]
    for job_id in wanted:
        api.post(f"/v1/jobs/{job_id}/cancel", client)
    for limit in (1, 2, 20):
        found, cursor = [], ""
        for _ in range(20):
            query = {"status": "cancelled", "limit": limit, **({"cursor": cursor} if cursor else {})}
            page = api.get("/v1/jobs", client, params=query)
            found += [job["job_id"] for job in page.json()]
            assert page.headers["x-total-count"] == "1", "of the newest four"
            cursor = page.headers.get("x-next-cursor", "")
            if not cursor:
                break
        assert found == wanted


def test_slow_reads_of_one_caller_leave_a_reader_to_others(
    api: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger has every reader that he may have busy with something endless, gives up, and asks again."""
    stop, begun = threading.Event(), threading.Semaphore(0)

    def slow(_tx: Tx, _text: str) -> list[object]:
        begun.release()
        assert stop.wait(30)
        return []

    monkeypatch.setattr(explorer, "search", slow)

    async def ask(count: int) -> list[asyncio.Task[httpx.Response]]:
        url = "/v1/explorer/search?q=alice"
        return [asyncio.create_task(api.client.get(url)) for _ in range(count)]

    async def give_up(tasks: list[asyncio.Task[httpx.Response]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    client = api.key("client", "alice")
    try:
        for _ in range(3):
            waiting = api.run(ask(32))
            assert begun.acquire(timeout=10)
            assert api.get("/v1/jobs", client).status_code == 200
            api.run(give_up(waiting))
    finally:
        stop.set()
    assert [answer.json() for answer in api.run(_answers(api.run(ask(8))))] == [[]] * 8


async def _answers(tasks: list[asyncio.Task[httpx.Response]]) -> list[httpx.Response]:
    return await asyncio.gather(*tasks)
