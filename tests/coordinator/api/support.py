"""Drives the application from synchronous tests: its event loop runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import orjson
from pydantic import TypeAdapter

from aitbc.coordinator.api.app import create_app
from aitbc.coordinator.config import Settings
from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.miners import standing
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.clock import Clock, ManualClock

Headers = dict[str, str]

ERROR_KEYS = {"detail", "error_code", "error", "request_id"}


_adapters: dict[str, TypeAdapter[Any]] = {}


def held_to(form: Any, value: Any) -> Any:
    """A body that has exactly this form."""
    adapter = _adapters.get(str(form)) or _adapters.setdefault(str(form), TypeAdapter(form))
    adapter.validate_python(value, strict=True)
    return value


class Api:
    """One application and its clients. `key(...)` makes a key and gives the headers that show it."""

    def __init__(self, database_url: str, home: Path, clock: Clock, settings: Mapping[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        limits = {"rate_limit_client": 0, "rate_limit_miner": 0, "rate_limit_user": 0}
        chosen = {"home": home, "database_url": database_url, **limits, **settings}
        self.runtime = Runtime.open(Settings(_env_file=None, **chosen), clock)
        self.app = create_app(self.runtime)
        self.run(self.runtime.start())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://api", timeout=30
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(60)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def write(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.run(self.runtime.db.write(act, *args, **kwargs))

    def key(self, role: str, account: str | None = None, **options: Any) -> Headers:
        options = {"grant_units": 1000 * 10**8, **options}
        made = self.write(lambda tx: issue_key(tx, role=role, account_id=account, **options))
        return {"X-Api-Key": made.key}

    def call(self, method: str, path: str, headers: Headers | None = None, **options: Any) -> httpx.Response:
        sent = httpx.Headers(headers, encoding="latin-1")  # tests also send what is no header
        answer: httpx.Response = self.run(self.client.request(method, path, headers=sent, **options))
        self._hold(method, answer)
        return answer

    def _hold(self, method: str, answer: httpx.Response) -> None:
        """Whatever a test asks for: a success has the form that the OpenAPI document gives it."""
        found = self.app._routes.find(answer.request.url.path.removeprefix("/api"))
        route = found[0][method][0] if found is not None and method in found[0] else None
        kind = answer.headers.get("content-type")
        model = route.options.get("response_model") if route is not None else None
        if model is not None and answer.is_success and kind == "application/json":
            held_to(model, orjson.loads(answer.content))

    def get(self, path: str, headers: Headers | None = None, **options: Any) -> httpx.Response:
        return self.call("GET", path, headers, **options)

    def post(self, path: str, headers: Headers | None = None, **options: Any) -> httpx.Response:
        return self.call("POST", path, headers, **options)

    def stop(self) -> None:
        self.run(self.client.aclose())
        self.run(self.runtime.stop())
        self.run(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _end_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def expect_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Holds an answer to the one error body; gives it back."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body.keys() == ERROR_KEYS
    assert body["error_code"] == body["error"]["code"] == code, body
    assert body["detail"] == body["error"]["message"]
    assert body["error"].keys() == {"code", "message", "details"}
    assert isinstance(body["error"]["details"], dict)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


class Market(Api):
    """Words for the usual scenes."""

    def miner(self, headers: Headers, miner_id: str = "m1", **fields: Any) -> dict[str, Any]:
        body = {"miner_id": miner_id, "capabilities": ["llama3.2"], "concurrency": 8, **fields}
        answer = self.post("/v1/miners/register", headers, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def approve(self, account: str) -> None:
        """The operator trusts the account with as many leases as it wants."""
        self.write(standing.set_approval, account, "approved")

    def wait(self, clock: ManualClock, seconds: float) -> None:
        """Time passes, and the loop comes by."""
        clock.advance(seconds)
        self.write(expiry.expire_due, self.runtime.context)

    def job(self, headers: Headers, **fields: Any) -> str:
        answer = self.post("/v1/jobs", headers, json={"prompt": "Hello?", **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    def claim(self, headers: Headers, job_id: str, miner_id: str = "m1") -> dict[str, Any]:
        answer = self.post(f"/v1/jobs/{job_id}/claim", headers, json={"miner_id": miner_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def complete(
        self, headers: Headers, job_id: str, miner_id: str = "m1", result: Any = "Hi."
    ) -> httpx.Response:
        return self.post(
            f"/v1/jobs/{job_id}/complete", headers, json={"miner_id": miner_id, "result": result}
        )
