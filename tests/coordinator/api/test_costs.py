"""What everybody may read costs the same however much there is, and delays nobody else."""

import asyncio
import itertools
import threading
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.api.plumbing.metrics import LEVELS_S
from aitbc.coordinator.database import Tx
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs import queries
from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Headers, Market

COPY = """
INSERT INTO jobs SELECT {columns} FROM jobs, {numbers} WHERE jobs.id = '{job}'
"""


def many(api: Market, job_id: str, count: int) -> None:
    """So many more jobs like this one, queued behind it."""
    from aitbc.coordinator.jobs.models import Job

    names = [column.name for column in table_of(Job).columns]
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


def paged(api: Market, client: Headers, status: str, limit: int) -> tuple[list[str], list[int], set[str]]:
    """The ids of all pages, the length of each, and what they said that there were in all."""
    found: list[str] = []
    lengths: list[int] = []
    totals: set[str] = set()
    cursor = ""
    while not lengths or cursor:
        query = {"status": status, "limit": limit, **({"cursor": cursor} if cursor else {})}
        page = api.get("/v1/jobs", client, params=query)
        found += [job["job_id"] for job in page.json()]
        lengths.append(len(page.json()))
        totals.add(page.headers["x-total-count"])
        cursor = page.headers.get("x-next-cursor", "")
    return found, lengths, totals


def test_jobs_that_were_not_answered_are_found_without_looking(
    api: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "LOOKED_AT", 4)
    client = api.key("client", "alice")
    made = [api.job(client) for _ in range(11)]
    wanted = [made[9], made[2], made[0]]
    for job_id in wanted:
        api.post(f"/v1/jobs/{job_id}/cancel", client)
    for who in (client, api.key("admin")):
        assert paged(api, who, "cancelled", 2) == (wanted, [2, 1], {"3"})
        assert paged(api, who, "cancelled", 20) == (wanted, [3], {"3"})
        assert paged(api, who, "failed", 20) == ([], [0], {"0"})


def test_completed_jobs_are_looked_for_so_far_and_go_on_below(
    api: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "LOOKED_AT", 4)
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    api.miner(miner)
    made = [api.job(client) for _ in range(11)]
    wanted = [made[9], made[2], made[0]]
    for job_id in wanted:
        api.claim(miner, job_id)
        assert api.complete(miner, job_id).status_code == 200
    api.claim(miner, made[8])
    for job_id in made[3:5]:
        api.post(f"/v1/jobs/{job_id}/cancel", client)
    for who in (client, api.key("admin")):
        for limit in (1, 2, 20):
            found, _, totals = paged(api, who, "completed", limit)
            assert (found, totals) == (wanted, {"3"})
    monkeypatch.setattr(queries, "MAX_COUNTED", 4)
    assert paged(api, client, "completed", 20)[2] == {"1"}, "of the newest four"


STATES = ("pending", "running", "completed", "failed", "cancelled")


def steps(api: Market, act: Any, *args: Any, **kwargs: Any) -> int:
    """How many steps SQLite takes for a read, in hundreds: what it costs, whatever else the machine does."""

    def counted(tx: Tx) -> int:
        taken = [0]

        def step() -> None:
            taken[0] += 1

        connection = tx._cursor.connection  # type: ignore[attr-defined]
        connection.set_progress_handler(step, 100)
        try:
            act(tx, *args, **kwargs)
        finally:
            connection.set_progress_handler(None, 0)
        return taken[0]

    return api.runtime.db.read_sync(counted)


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
@pytest.mark.parametrize("state", STATES)
def test_no_list_of_jobs_costs_more_where_there_are_more(
    api: Market, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Whoever asks, for whatever state, and wherever in the list: with many jobs of `state`, and with four times as
    many, older and newer than the others."""
    monkeypatch.setattr(queries, "MAX_COUNTED", 100)
    monkeypatch.setattr(queries, "LOOKED_AT", 100)
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    api.miner(miner)
    of = {one: api.job(client) for one in STATES}
    for one in ("running", "completed"):
        api.claim(miner, of[one])
    assert api.complete(miner, of["completed"]).status_code == 200
    api.post(f"/v1/jobs/{of['cancelled']}/cancel", client)
    api.write(lambda tx: tx.change(text(FAILED.format(of["failed"]))))
    spread = [api.job(client) for _ in range(3)]

    def costs() -> dict[tuple[Any, ...], int]:
        return {
            (who, status, before, offset): steps(
                api,
                queries.listed,
                who,
                status=status,
                limit=20,
                offset=offset,
                before_id=before,
            )
            for who, status, before, offset in itertools.product(
                ("alice", None), (None, *STATES), (None, spread[0]), (0, 40)
            )
        }

    many(api, of[state], 1_000)
    few = costs()
    api.write(lambda tx: tx.change(text(RENAMED.format(of[state]))))  # makes room for the ids of more copies
    many(api, of[state], 3_000)
    # What runs is bounded by the miners that are here: it is looked through whole.
    grown = {
        which: (before, after)
        for which, after in costs().items()
        if after > (before := few[which]) + 30
        and not (state == "running" and which[1] in ("running", "completed"))
    }
    assert not grown


FAILED = (
    "UPDATE jobs SET status = 'failed', queued = 0, finished_at_ms = 1, cause = 'EXPIRED' WHERE id = '{}'"
)
RENAMED = "UPDATE jobs SET id = id || '-x' WHERE id LIKE '{}-%'"
