"""FakeCoordinator: a fake with scripted answers, for what a real server cannot be made to do on demand.

That is to refuse, to break off, to lose an answer. test_real_server.py holds the SDK against the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from aitbc.sdk import AsyncClient, Client

JOB_ID = "01900000-0000-7000-8000-000000000001"
Script = Callable[[httpx.Request], httpx.Response]


def job_json(status: str = "pending", **changes: Any) -> dict[str, Any]:
    """A job as the coordinator sends it."""
    job: dict[str, Any] = {
        "job_id": JOB_ID,
        "id": JOB_ID,
        "status": status,
        "job_type": "llm_inference",
        "model": "llama3.2",
        "prompt": "hello",
        "messages": None,
        "parameters": {"max_tokens": 256, "temperature": 0.7},
        "params": {"max_tokens": 256, "temperature": 0.7},
        "constraints": {},
        "priority": 5,
        "result": None,
        "output": None,
        "miner_id": None,
        "client_id": "alice",
        "attempts": 0,
        "cause": None,
        "actor": None,
        "error": None,
        "created_at": "2026-01-02T03:04:05.678Z",
        "started_at": None,
        "completed_at": None,
        "updated_at": "2026-01-02T03:04:05.678Z",
        "expires_at": "2026-01-02T04:04:05.678Z",
        "price_held": 0.00012345,
        "unit_price": None,
        "price": None,
        "receipt_id": None,
        "progress": 0,
        "queue_position": 1,
    }
    if status in {"running", "completed"}:
        job |= {
            "miner_id": "miner-1",
            "started_at": "2026-01-02T03:04:06Z",
            "attempts": 1,
            "queue_position": None,
        }
    if status == "completed":
        job |= {
            "result": "hi",
            "output": {"text": "hi", "finish_reason": "stop"},
            "price": 0.1,
            "progress": 1,
        }
        job |= {"completed_at": "2026-01-02T03:04:07Z", "receipt_id": "r-1", "unit_price": 0.02}
    return job | changes


def error_reply(
    status: int, code: str, message: str = "no", headers: dict[str, str] | None = None
) -> httpx.Response:
    """An error in the API's one body."""
    body = {
        "detail": message,
        "error_code": code,
        "error": {"code": code, "message": message, "details": {"why": "test"}},
        "request_id": "req-1",
    }
    return httpx.Response(status, json=body, headers=headers)


class FakeCoordinator:
    """Answers from a script: each request takes the next reply (a response, an exception or a function)."""

    def __init__(self, replies: Iterable[httpx.Response | Exception | Script]) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, httpx.Response):
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
        return reply(request)

    def body(self, index: int = -1) -> Any:
        """The JSON of a request received."""
        return json.loads(self.requests[index].content)


class Caller:
    """Either client behind blocking calls; `slept` lists what it would have slept."""

    def __init__(self, kind: str, handler: Script, **options: Any) -> None:
        self.kind = kind
        self.handler = handler
        self.options: dict[str, Any] = {"url": "http://coordinator.test", "api_key": "k"} | options
        self.slept: list[float] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.call(operation, *args, **kwargs)

    def call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Perform one operation with a fresh client."""
        transport = httpx.MockTransport(self.handler)
        if self.kind == "sync":
            with Client(transport=transport, sleep=self.slept.append, **self.options) as client:
                return getattr(client, operation)(*args, **kwargs)

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        async def run() -> Any:
            async with AsyncClient(transport=transport, sleep=sleep, **self.options) as client:
                return await getattr(client, operation)(*args, **kwargs)

        return asyncio.run(run())
