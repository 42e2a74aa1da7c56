"""Long polls: woken at once, ended by shutdown, given up when the caller goes away."""

import asyncio
import time
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from aitbc.coordinator.api.schemas import replies
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.metrics import WAITING_POLLS
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error, held_to

PROMPT_S = 5.0
"""Far below the 30 s that these polls ask for, far above what a busy machine needs."""


def waiting() -> float:
    value: float = WAITING_POLLS._value.get()
    return value


def begin_poll(api: Market, path: str, headers: Headers) -> "Future[httpx.Response]":
    """A poll that is known to wait."""
    before = waiting()
    poll: Future[httpx.Response] = api.begin(api.client.get(path, headers=headers))
    until = time.monotonic() + PROMPT_S
    while waiting() <= before:
        assert time.monotonic() < until
        time.sleep(0.005)
    return poll


def prompt_result(poll: "Future[httpx.Response]") -> Any:
    answer = poll.result(PROMPT_S)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def test_a_miner_is_woken_by_a_job(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    take = begin_poll(api, "/v1/miner/jobs?miner_id=m1&wait=30", miner)
    job_id = api.job(client)
    assert [lease["job_id"] for lease in prompt_result(take)["jobs"]] == [job_id]
    look = begin_poll(api, "/v1/jobs/available?miner_id=m1&wait=30", miner)
    second = api.job(client)
    assert prompt_result(look)["job_id"] == second


def test_a_client_is_woken_by_the_result(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    job_id = api.job(client)
    api.claim(miner, job_id)
    poll = begin_poll(api, f"/v1/jobs/{job_id}/result?wait=30", client)
    api.complete(miner, job_id)
    shown = prompt_result(poll)
    held_to(replies.Result, shown)
    assert (shown["status"], shown["result"]) == ("completed", "Hi.")


@sqlite_only
def test_a_wait_ends_with_nothing(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    assert api.get("/v1/miner/jobs?wait=0.05", miner).json() == {"jobs": []}
    assert api.get("/v1/jobs/available?miner_id=m1&wait=0.05", miner).json() is None
    job_id = api.job(client, constraints={"max_price": 0})
    answer = api.get(f"/v1/jobs/{job_id}/result?wait=0.05", client)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert waiting() == 0


@sqlite_only
def test_a_wait_is_capped(start_api: Any) -> None:
    api = start_api(max_wait_s=0.1)
    miner = api.key("miner")
    api.miner(miner)
    started = time.monotonic()
    assert api.get("/v1/miner/jobs?wait=60", miner).json() == {"jobs": []}
    assert time.monotonic() - started < PROMPT_S


def test_shutdown_ends_every_poll(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    job_id = api.job(client, constraints={"max_price": 0})
    polls = [
        begin_poll(api, "/v1/miner/jobs?miner_id=m1&wait=30", miner),
        begin_poll(api, "/v1/jobs/available?miner_id=m1&wait=30", miner),
        begin_poll(api, f"/v1/jobs/{job_id}/result?wait=30", client),
    ]

    async def shut() -> None:
        api.runtime.begin_shutdown()

    api.run(shut())
    for poll, empty in zip(polls, ({"jobs": []}, None, "pending"), strict=True):
        answer = poll.result(PROMPT_S)
        if answer.status_code == 503:
            expect_error(answer, 503, "SHUTTING_DOWN")
        else:
            body = answer.json()
            assert (body["status"] if empty == "pending" else body) == empty
    assert api.get("/v1/miner/jobs?miner_id=m1&wait=30", miner).json() == {"jobs": []}
    assert api.get("/health").status_code == 503


@sqlite_only
def test_a_caller_that_goes_away_is_noticed(api: Market) -> None:
    client, miner = api.key("client"), api.key("miner")
    api.miner(miner)
    sent: list[dict[str, Any]] = []

    async def poll_and_go() -> None:
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/miner/jobs",
            "query_string": b"miner_id=m1&wait=30",
            "headers": [(b"x-api-key", miner["X-Api-Key"].encode())],
            "client": ("10.0.0.1", 1),
        }
        request = asyncio.ensure_future(api.app(scope, receive, send))
        while not waiting():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        gone.set()
        await asyncio.wait_for(request, PROMPT_S)

    api.run(poll_and_go())
    assert sent == []
    assert waiting() == 0
    assert len(api.runtime.idle_miners) == 0
    job_id = api.job(client)
    assert api.get(f"/v1/jobs/{job_id}", client).json()["status"] == "pending"


@sqlite_only
def test_shutdown_ends_a_poll_that_does_not_end_itself(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    miner = api.key("miner")
    api.miner(miner)

    async def stuck(*_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("aitbc.coordinator.api.dialects.by_role.miner.take", stuck)
    poll = begin_poll(api, "/v1/miner/jobs?miner_id=m1&wait=30", miner)

    async def shut() -> None:
        api.runtime.begin_shutdown()

    api.run(shut())
    expect_error(poll.result(PROMPT_S), 503, "SHUTTING_DOWN")


@sqlite_only
def test_a_cancelled_server_task_stays_cancelled(api: Market) -> None:
    """A cancellation that is not the caller's leaving is not swallowed."""
    from aitbc.coordinator.api.plumbing.polling import wait_for
    from aitbc.coordinator.api.plumbing.requests import ApiRequest

    async def cancel_it() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(30)
            return {"type": "http.disconnect"}

        caller = Principal("somebody", "client", "k", frozenset({"client"}))
        request = ApiRequest(
            {"type": "http", "headers": [], "aitbc.polls": api.app.polls}, receive, api.runtime, "r"
        )
        task = asyncio.ensure_future(wait_for(request, caller, asyncio.sleep(30)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    api.run(cancel_it())
