"""Races for jobs and for money, between threads and between processes: the database decides, and only once."""

import asyncio
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.acts.idempotency import once
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.miners import standing
from aitbc.core.clock import ManualClock
from tests.conftest import START_MS
from tests.support.flows import Market, Provider, in_loop, spec_of

pytestmark = pytest.mark.faults
JOB_UNITS = 25  # what the market's default submission holds


def race(acts: list[Callable[[], Any]]) -> list[Any]:
    """All at once, each in a thread of its own; the codes of our errors in place of results."""
    start = threading.Barrier(len(acts))
    answers: list[Any] = [None] * len(acts)

    def run(index: int, act: Callable[[], Any]) -> None:
        start.wait(20)
        try:
            answers[index] = act()
        except AitbcError as error:
            answers[index] = error.code
        except Exception as error:  # noqa: BLE001 - shown by the test
            answers[index] = repr(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def codes(answers: list[Any]) -> Counter[str]:
    return Counter(answer if isinstance(answer, str) else "ok" for answer in answers)


def test_fifty_miners_claim_ten_jobs(market: Market) -> None:
    client = market.client()
    miners = [market.miner(f"m{n}", concurrency=10) for n in range(50)]
    jobs = [market.submit(client).id for _ in range(10)]
    answers = race([lambda m=miner, n=n: market.claim(m, jobs[n % 10]) for n, miner in enumerate(miners)])
    assert codes(answers) == {"ok": 10, "JOB_NOT_AVAILABLE": 40}
    held = {job.id: job.miner_id for job in answers if not isinstance(job, str)}
    assert set(held) == set(jobs)
    for job_id, miner_id in held.items():
        row = market.job(job_id)
        assert (row.status, row.miner_id, row.attempts) == ("running", miner_id, 1)
        assert market.history(job_id) == [("created", "pending"), ("claimed", "running")]


def test_fifty_miners_take_ten_jobs(market: Market) -> None:
    """The ten go to ten miners: none is passed over because another one looked at it."""
    client = market.client()
    miners = [market.miner(f"m{n}") for n in range(50)]
    jobs = [market.submit(client).id for _ in range(10)]
    answers = race([lambda m=miner: market.take(m) for miner in miners])
    taken = [job for answer in answers for job in answer]
    assert sorted(job.id for job in taken) == sorted(jobs)
    assert len({job.miner_id for job in taken}) == 10


def test_one_miner_asking_many_times_at_once_stays_within_its_places(market: Market) -> None:
    client, miner = market.client(), market.miner(concurrency=3)
    jobs = [market.submit(client).id for _ in range(20)]
    race([lambda: market.take(miner, 3) for _ in range(10)])
    running = [job_id for job_id in jobs if market.job(job_id).status == "running"]
    assert len(running) == 3
    race([lambda j=job_id: market.claim(miner, j) for job_id in jobs if job_id not in running])
    assert len([job_id for job_id in jobs if market.job(job_id).status == "running"]) == 3


def test_money_for_n_jobs_admits_n_of_4n(market: Market) -> None:
    n = 10
    client = market.client(units=JOB_UNITS * n + JOB_UNITS - 1)
    answers = race([lambda: market.submit(client) for _ in range(4 * n)])
    assert codes(answers) == {"ok": n, "INSUFFICIENT_FUNDS": 3 * n}
    assert market.balance("alice").held_units == JOB_UNITS * n
    market.check()


def test_a_key_with_a_limit_for_n_jobs_admits_n_of_4n(market: Market) -> None:
    n = 8
    client = market.client(limit=JOB_UNITS * n + 1)
    answers = race([lambda: market.submit(client) for _ in range(4 * n)])
    assert codes(answers) == {"ok": n, "KEY_LIMIT_EXCEEDED": 3 * n}
    market.check()


def test_cancel_against_complete_has_one_winner(market: Market) -> None:
    client, miner = market.client(), market.miner(concurrency=20)
    ends = Counter()
    for n in range(10):
        job = market.submit(client)
        market.take(miner, 1, known=[])
        acts: list[Callable[[], Any]] = [
            lambda j=job: market.cancel(client, j.id),
            lambda j=job: market.complete(miner, j.id),
        ]
        answers = race(acts if n % 2 else acts[::-1])
        ends[market.job(job.id).status] += 1
        assert sum(not isinstance(answer, str) for answer in answers) == 1
        loser = next(answer for answer in answers if isinstance(answer, str))
        assert loser in ("JOB_NOT_CANCELLABLE", "JOB_NOT_RUNNING")
    paid = sum(receipt.price_units for receipt in market.receipts())
    assert len(market.receipts()) == ends["completed"]
    assert market.balance("alice").balance_units == 1_000_000_000 - paid
    assert market.balance("alice").held_units == 0
    market.check()


def test_two_completions_make_one_receipt(market: Market) -> None:
    client, miner = market.client(), market.miner()
    for texts, expected in ((["same"] * 6, {"ok": 6}), (list("abcdef"), {"ok": 1, "JOB_NOT_RUNNING": 5})):
        job = market.submit(client)
        market.take(miner)
        before = market.balance(miner.principal.account_id).balance_units
        answers = race([lambda t=text, j=job: market.complete(miner, j.id, t) for text in texts])
        assert codes(answers) == expected
        assert len({answer.id for answer in answers if not isinstance(answer, str)}) == 1
        assert market.balance(miner.principal.account_id).balance_units == before + 1
    assert len(market.receipts()) == 2
    market.check()


def test_complete_against_the_end_of_the_lease(market: Market) -> None:
    client, miner = market.client(), market.miner()
    market.miner("other")
    for _ in range(6):
        job = market.submit(client)
        market.take(miner)
        market.clock.advance(61)
        answers = race([lambda j=job: market.complete(miner, j.id), lambda: market.expire()])
        status = market.job(job.id).status
        assert (answers[0] == "JOB_NOT_RUNNING") == (status == "pending")
        if status == "pending":
            market.cancel(client, job.id)
    assert market.balance("alice").held_units == 0
    market.check()


def test_one_idempotency_key_makes_one_job(market: Market) -> None:
    client = market.client()

    def submit(tx: Tx, key: str, request_hash: str) -> Answer:
        def act(tx: Tx) -> Answer:
            return Answer(201, job_lifecycle.submit(tx, market.ctx, client, spec_of()).id.encode())

        return once(tx, IdempotencyKey("alice POST /v1/jobs", key, request_hash), act, lambda answer: answer)

    answers = race([lambda: market.db.write_sync(submit, "k1", "a" * 64) for _ in range(12)])
    assert len({answer.body for answer in answers}) == 1
    assert sum(answer.replayed for answer in answers) == 11
    bodies = ["a" * 64, "b" * 64] * 4
    answers = race([lambda h=body: market.db.write_sync(submit, "k2", h) for body in bodies])
    assert codes(answers) == {"ok": 4, "IDEMPOTENCY_CONFLICT": 4}
    jobs, total, _ = market.db.read_sync(queries.listed, "alice", status=None, limit=10, offset=0)
    assert total == len(jobs) == 2
    assert market.balance("alice").held_units == 2 * JOB_UNITS


def test_a_key_whose_first_use_failed_is_free_again(market: Market) -> None:
    client = market.client(units=JOB_UNITS)

    def submit(tx: Tx, key: str) -> Answer:
        def act(tx: Tx) -> Answer:
            return Answer(201, job_lifecycle.submit(tx, market.ctx, client, spec_of()).id.encode())

        return once(tx, IdempotencyKey("scope", key, "a" * 64), act, lambda answer: answer)

    answers = race([lambda n=n: market.db.write_sync(submit, f"k{n}") for n in range(6)])
    assert codes(answers) == {"ok": 1, "INSUFFICIENT_FUNDS": 5}
    market.cancel(client, next(answer.body.decode() for answer in answers if isinstance(answer, Answer)))
    again = [codes([attempt(lambda n=n: market.db.write_sync(submit, f"k{n}"))]) for n in range(6)]
    assert sum(one["ok"] for one in again) == 2, "the first key replays, one of the others is admitted"


def attempt(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except AitbcError as error:
        return error.code


# --- processes ----------------------------------------------------------------------------------------------


def contender(url: str, kind: str, number: int, start: Any, out: Any) -> None:
    """Runs in a process of its own; sends what it got."""
    clock = ManualClock(START_MS)
    market = Market(Database.open(url, clock=clock), clock, fee_bps=None)
    miner = Provider(Principal(f"owner-m{number}", "miner", "k", frozenset({"miner"})), f"m{number}")
    client = Principal("alice", "client", "k", frozenset({"client"}))
    answers: list[str] = []
    start.wait(30)
    for _ in range(40):
        try:
            if kind == "claim":
                answers += [job.id for job in market.take(miner, 20)]
            else:
                answers.append(market.submit(client).id)
        except AitbcError as error:
            answers.append(error.code)
    market.db.close()
    out.send(answers)
    out.close()


def contend(url: str, kind: str, count: int = 4) -> list[list[str]]:
    """What each of `count` processes got. Nothing of the database may be open here while they are forked."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count)
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=contender, args=(url, kind, number, start, out), daemon=True)
        for number, (_into, out) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        return [into.recv() if into.poll(60) else [] for into, _out in pipes]
    finally:
        for process in processes:
            process.join(20)
            process.kill()


@contextmanager
def opened(url: str) -> Iterator[Market]:
    clock = ManualClock(START_MS)
    database = Database.open(url, clock=clock)
    try:
        yield Market(database, clock)
    finally:
        database.close()


def test_four_processes_claim_each_job_once(database_url: str) -> None:
    with opened(database_url) as market:
        client = market.client()
        for number in range(4):
            miner = market.miner(f"m{number}", concurrency=30)
            market.db.write_sync(standing.set_approval, miner.principal.account_id, "approved")
        jobs = [market.submit(client).id for _ in range(60)]
    # What a miner holds comes again each time it asks, so each process names the same ones many times.
    got = [set(answers) for answers in contend(database_url, "claim")]
    assert sorted(job for some in got for job in some) == sorted(jobs)
    with opened(database_url) as market:
        for number, some in enumerate(got):
            assert {job_id for job_id in jobs if market.job(job_id).miner_id == f"m{number}"} == some


def test_four_processes_spend_each_unit_once(database_url: str) -> None:
    with opened(database_url) as market:
        market.client(units=JOB_UNITS * 40 + 3)
    answers = [answer for some in contend(database_url, "submit") for answer in some]
    refused = Counter(answer for answer in answers if not answer.startswith("0"))
    assert refused == {"INSUFFICIENT_FUNDS": 120}
    with opened(database_url) as market:
        assert market.balance("alice").held_units == JOB_UNITS * 40
        market.check()


def test_a_group_commit_admits_exactly_n(market: Market) -> None:
    """Through one coordinator's writer, where a batch shares its commit."""
    database: Database = market.db
    client = market.client(units=JOB_UNITS * 10)

    async def main() -> None:
        answers = await asyncio.gather(
            *(database.write(job_lifecycle.submit, market.ctx, client, spec_of()) for _ in range(40)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, AitbcError)]
        assert [error.code for error in refused] == ["INSUFFICIENT_FUNDS"] * 30
        await asyncio.to_thread(market.check)

    in_loop(database, main())
