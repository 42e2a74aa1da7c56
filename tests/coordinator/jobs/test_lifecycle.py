"""A job's states: the table in code, the flows and the database's CHECKs all know the same."""

import re
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
from sqlalchemy import text

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import AitbcError, JobNotCancellable, JobNotFound, JobNotRunning
from aitbc.coordinator.flows.shared import retries
from aitbc.coordinator.jobs import claims
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.lifecycle import (
    ACTORS,
    CAUSES,
    EVENT_TYPES,
    MINER_CAUSES,
    MOVES,
    STATUSES,
    TERMINAL,
    TRANSITIONS,
)
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.core import causes
from tests.support.flows import Market, Provider


class Stage:
    """A client, a miner, and a way into every state."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.client: Principal = market.client()
        self.miner: Provider = market.miner(concurrency=50)

    def pending(self) -> JobRow:
        return self.market.submit(self.client)

    def running(self) -> JobRow:
        job = self.pending()
        self.market.take(self.miner, 50)
        return self.market.job(job.id)

    def completed(self) -> JobRow:
        return self.after(self.running(), lambda job: self.market.complete(self.miner, job.id))

    def failed(self) -> JobRow:
        return self.after(self.running(), self.fail_for_good)

    def fail_for_good(self, job: JobRow) -> None:
        """As a client sees it where one miner is here: its word stands when nobody else came."""
        self.market.fail(self.miner, job.id, "BAD_REQUEST")
        self.market.clock.advance(retries.OPINION_MS / 1000)
        self.market.expire()

    def cancelled(self) -> JobRow:
        return self.after(self.pending(), lambda job: self.market.cancel(self.client, job.id))

    def after(self, job: JobRow, act: Callable[[JobRow], Any]) -> JobRow:
        act(job)
        return self.market.job(job.id)

    def moves(self) -> dict[str, Callable[[JobRow], Any]]:
        """Everything that anybody may try with a job."""
        market = self.market
        return {
            "claim": lambda job: market.claim(self.miner, job.id),
            "take": lambda job: market.take(self.miner, 50),
            "complete": lambda job: market.complete(self.miner, job.id),
            "fail": lambda job: market.fail(self.miner, job.id),
            "fail_for_good": self.fail_for_good,
            "cancel": lambda job: market.cancel(self.client, job.id),
            "leave": lambda job: market.leave(self.miner),
            "expire": lambda job: (market.clock.advance(100_000), market.expire()),
        }


@pytest.fixture
def stage(market: Market) -> Stage:
    return Stage(market)


def test_the_table_is_closed() -> None:
    assert set(TRANSITIONS) == set(STATUSES)
    assert {status for status in STATUSES if not TRANSITIONS[status]} == set(TERMINAL)
    assert TERMINAL == ("completed", "failed", "cancelled")
    assert {after for moves in TRANSITIONS.values() for after in moves} == set(STATUSES)
    assert set(MINER_CAUSES) >= causes.FINAL
    assert "running" in TRANSITIONS["pending"]
    assert "pending" not in TRANSITIONS["completed"]


def test_guarded_updates_come_from_the_table() -> None:
    """Each names the state before and the state after as MOVES has it, on both databases."""
    updates = {
        "claimed": [claims.QUEUE.claim],
        "completed": [jobs.COMPLETE],
        "requeued": [jobs.REQUEUE],
    }
    for event, made in updates.items():
        for update, dialect in product(made, ("sqlite", "postgresql")):
            program = update.on(dialect).sql
            change, guard = program.split("WHERE", 1)
            (before,) = MOVES[event].before
            assert re.findall(r"SET status ?= ?'(\w+)'", change) == [MOVES[event].after]
            assert re.findall(r"jobs\.status = '(\w+)'", guard) == [before]


@pytest.mark.parametrize("event", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("status", STATUSES)
def test_an_end_is_made_from_the_states_that_the_table_names(stage: Stage, event: str, status: str) -> None:
    """Whatever its caller believes, and with the row as it is."""
    job = getattr(stage, status)()
    moved = stage.market.db.write_sync(jobs.end, job, event, "EXPIRED", "coordinator")
    assert moved is (status in MOVES[event].before)
    after = stage.market.job(job.id)
    assert after.status == (MOVES[event].after if moved else status)
    assert moved or after == job


@pytest.mark.parametrize("status", STATUSES)
def test_what_the_flows_do_is_what_the_table_says(stage: Stage, status: str) -> None:
    """Every act on a job in every state: it moves as TRANSITIONS allows, or is refused and changes nothing."""
    reached = set()
    for name in stage.moves():
        stage.market.leave(stage.miner)  # else its word would be waited for
        stage.miner = stage.market.miner(f"m-{name}", concurrency=50)
        job = getattr(stage, status)()
        assert job.status == status
        try:
            stage.moves()[name](job)
        except AitbcError as error:
            assert error.status in (404, 409)
            assert stage.market.job(job.id) == job
        after = stage.market.job(job.id)
        if after.status != job.status:
            reached.add(after.status)
        if after.status in TERMINAL:
            assert after.cause in CAUSES
            assert after.actor in ACTORS
            assert after.finished_at_ms is not None
        elif status in TERMINAL:
            raise AssertionError(f"{name} moved an ended job")
        if after.status in ("pending", "running"):
            stage.market.cancel(stage.client, job.id)
    assert reached == set(TRANSITIONS[status])
    stage.market.check()


def test_history_walks_through_the_table(stage: Stage) -> None:
    for status in STATUSES:
        job = getattr(stage, status)()
        history = stage.market.history(job.id)
        assert history[0] == ("created", "pending")
        assert history[-1][1] == job.status
        assert len(history) == job.event_count
        assert all(kind in EVENT_TYPES for kind, _ in history)
        states = [state for _, state in history]
        assert all(after in TRANSITIONS[before] for before, after in pairwise(states))


@pytest.mark.parametrize("cause", MINER_CAUSES)
def test_a_miners_word_alone_ends_no_job_at_once(stage: Stage, cause: str) -> None:
    """It waits a moment for another miner; then what was called hopeless fails, and the rest is tried again."""
    market = stage.market
    for number, (retryable, hopeless) in enumerate(
        ((None, cause in causes.FINAL), (True, False), (False, True))
    ):
        model = f"model-{number}"
        miner = market.miner(f"m-{number}", models={model: 1})
        job = market.submit(stage.client, model=model)
        market.take(miner)
        row = market.fail(miner, job.id, cause, retryable)
        assert (row.status, row.cause) == ("pending", cause)
        assert market.take(miner) == []
        market.clock.advance(retries.OPINION_MS / 1000)
        assert market.take(miner) == [], "only a review lets it have the job again"
        market.expire()
        row = market.job(job.id)
        assert (row.status, row.cause) == ("failed" if hopeless else "pending", cause)
        assert market.balance("alice").held_units == (0 if hopeless else job.held_units)
        if not hopeless:
            assert [one.id for one in market.take(miner)] == [job.id]
            market.cancel(stage.client, job.id)


# --- the database's own rules -----------------------------------------------------------------------------


def refused(stage: Stage, job: JobRow, change: str) -> None:
    with pytest.raises(Exception, match=r"(?i)constraint|append-only"):
        stage.market.db.write_sync(
            lambda tx: tx.change(text(f"UPDATE jobs SET {change} WHERE id = '{job.id}'"))
        )
    assert stage.market.job(job.id) == job


@pytest.mark.parametrize("before", STATUSES)
def test_a_state_without_what_belongs_to_it_is_refused(stage: Stage, before: str) -> None:
    """No row can say that it is in another state by a changed word alone."""
    job = getattr(stage, before)()
    for after in (*STATUSES, "paused", ""):
        if after == before or {before, after} == {"failed", "cancelled"}:
            continue
        refused(stage, job, f"status = '{after}'")


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("pending", "queued = 1, status = 'failed', finished_at_ms = 1"),
        ("pending", "lease_id = 'x'"),
        ("pending", "receipt_id = 'x'"),
        ("pending", "finished_at_ms = 1"),
        ("pending", "held_units = -1"),
        ("pending", "max_price_units = -1"),
        ("pending", "cause = 'BORED'"),
        ("pending", "actor = 'nobody'"),
        ("running", "lease_id = ''"),
        ("running", "queued = 1"),
        ("running", "price_units = held_units + 1"),
        ("running", "price_units = -1"),
        ("completed", "receipt_id = ''"),
        ("completed", "finished_at_ms = NULL"),
        ("completed", "lease_id = 'x'"),
        ("completed", "price_units = held_units + 1"),
        ("failed", "receipt_id = 'x'"),
        ("cancelled", "queued = 1"),
        ("cancelled", "finished_at_ms = NULL"),
    ],
)
def test_the_database_refuses(stage: Stage, status: str, change: str) -> None:
    refused(stage, getattr(stage, status)(), change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE job_events SET type = 'completed'",
        "DELETE FROM job_events",
        "UPDATE receipts SET price_units = 0",
        "DELETE FROM receipts",
    ],
)
def test_history_and_receipts_cannot_be_rewritten(stage: Stage, change: str) -> None:
    stage.completed()
    with pytest.raises(Exception, match="append-only"):
        stage.market.db.write_sync(lambda tx: tx.change(text(change)))


def test_a_second_receipt_for_a_job_is_refused(stage: Stage) -> None:
    stage.completed()
    columns = (
        "job_id, client_id, provider_id, miner_id, model, units, price_units, created_at_ms, body, key_id"
    )
    copy = (
        f"INSERT INTO receipts (id, {columns}, signature) SELECT 'second', {columns}, signature FROM receipts"
    )
    with pytest.raises(Exception, match=r"(?i)unique"):
        stage.market.db.write_sync(lambda tx: tx.change(text(copy)))


# --- whose job it is --------------------------------------------------------------------------------------


def test_only_its_client_and_admins_cancel(stage: Stage) -> None:
    market = stage.market
    stranger = market.client("mallory")
    admin = Principal("root", "admin", "key-root", frozenset({"admin"}))
    job = stage.running()
    with pytest.raises(JobNotFound):
        market.cancel(stranger, job.id)
    with pytest.raises(JobNotFound):
        market.cancel(stage.client, "no-such-job")
    row = market.cancel(admin, job.id)
    assert (row.status, row.cause, row.actor) == ("cancelled", "CANCELLED_BY_ADMIN", "admin")
    with pytest.raises(JobNotCancellable):
        market.cancel(stage.client, job.id)
    with pytest.raises(JobNotRunning):
        market.complete(stage.miner, job.id)
    assert market.balance("alice").held_units == 0
    own = market.cancel(stage.client, stage.pending().id)
    assert (own.cause, own.actor) == ("CANCELLED_BY_CLIENT", "client")
