"""Fakes for the miner's tests: a coordinator, an Ollama, an OpenAI-compatible server, and an engine in
Python.

Each speaks the documented protocol over a real socket (the engine apart), and does what a test tells it to.
None of them is used outside these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aitbc.core import jobspec
from aitbc.core.receipt import result_statement
from aitbc.core.signing import decode_b64, public_from_text, verify

CHAIN_ID = "ait-test"
NETWORK_ID = "4e" * 32


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class FakeServer:
    """Serves a Starlette app on one port of loopback; may go away and come back on the same port."""

    def __init__(self, routes: list[Route]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._app = Starlette(routes=routes)
        self._server: uvicorn.Server | None = None

    async def start(self) -> None:
        config = uvicorn.Config(self._app, "127.0.0.1", self.port, log_level="critical", lifespan="off")
        config.load()
        # Without `serve`: its loop looks ten times a second whether to end, and takes the test's signals.
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.force_exit = True
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            await self._server.shutdown()
            self._server = None

    async def __aenter__(self) -> FakeServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def error(status: int, code: str, message: str = "no") -> JSONResponse:
    body = {"detail": message, "error_code": code, "error": {"code": code, "message": message, "details": {}}}
    return JSONResponse({**body, "request_id": "r"}, status)


@dataclass
class FakeJob:
    """A job at the fake coordinator. `status`: pending, running, completed, failed, cancelled."""

    job_id: str
    request: dict[str, Any]
    status: str = "pending"
    lease: int = 0
    completion: dict[str, Any] | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)


class FakeCoordinator(FakeServer):
    """The coordinator's miner routes, with leases that end only when a test ends them."""

    def __init__(self, *, heartbeat_s: float = 0.05) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.registrations: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.deregistered = 0
        self.polls = 0
        self.batches = 0
        self.is_registered = False
        self.network_id = NETWORK_ID
        self.status = "active"
        self.key = "aitbc_miner_k"
        self.refuse_complete: list[JSONResponse] = []
        self.refuse_fail: list[JSONResponse] = []
        self.fail_bodies: list[dict[str, Any]] = []
        self.break_batches = 0
        self.no_work: dict[str, Any] = {}
        self.told: dict[str, Any] = {}  # what a lease says beside the job
        self.default_cap = 0.05
        self._heartbeat_s = heartbeat_s
        self._wake = asyncio.Event()
        super().__init__(
            [
                Route("/v1/miner/register", self._register, methods=["POST"]),
                Route("/v1/miner/heartbeat", self._heartbeat, methods=["POST"]),
                Route("/v1/miner/deregister", self._deregister, methods=["POST"]),
                Route("/v1/miner/jobs", self._take),
                Route("/v1/miner/results", self._complete_batch, methods=["POST"]),
                Route("/v1/jobs/{job_id}/complete", self._complete, methods=["POST"]),
                Route("/v1/jobs/{job_id}/fail", self._fail, methods=["POST"]),
            ]
        )

    def submit(self, prompt: str = "hello", *, model: str = "tiny", **params: Any) -> FakeJob:
        request = jobspec.build_request("llm_inference", model=model, body={"prompt": prompt}, params=params)
        return self._add(request)

    def submit_embedding(self, texts: list[str], model: str = "tiny") -> FakeJob:
        return self._add(jobspec.build_request("embedding", model=model, body={"input": texts}))

    def take_back(self, job: FakeJob, status: str = "cancelled") -> None:
        job.status = status

    @property
    def registration(self) -> dict[str, Any]:
        last: dict[str, Any] = self.registrations[-1]["capabilities"]
        return last

    def _add(self, request: dict[str, Any]) -> FakeJob:
        job = FakeJob(f"job-{len(self.jobs)}", request)
        self.jobs[job.job_id] = job
        self._wake.set()
        return job

    def _denied(self, request: Request) -> Response | None:
        return None if request.headers.get("x-api-key") == self.key else error(401, "UNAUTHORIZED")

    async def _register(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        body = await request.json()
        self.registrations.append(body)
        self.is_registered = True
        self.status = "active"
        return JSONResponse(
            {
                "miner_id": body["miner_id"],
                "chain_id": CHAIN_ID,
                "network_id": self.network_id,
                "heartbeat_interval_s": self._heartbeat_s,
                "lease_s": 60,
                "default_max_price_per_1k": self.default_cap,
            }
        )

    async def _heartbeat(self, request: Request) -> Response:
        body = await request.json()
        if not self.is_registered:
            return error(404, "MINER_NOT_FOUND")
        self.heartbeats.append(body)
        self.status = body["status"]
        self._wake.set()
        gone = [each for each in body["jobs"] if each not in self.jobs or self.jobs[each].status != "running"]
        return JSONResponse({"status": body["status"], "leases": [], "cancelled": gone, "server_time": "x"})

    async def _deregister(self, request: Request) -> Response:
        self.deregistered += 1
        return JSONResponse({"status": "inactive", "requeued": 0})

    async def _take(self, request: Request) -> Response:
        if denied := self._denied(request):
            return denied
        if not self.is_registered:
            return error(404, "MINER_NOT_FOUND")
        self.polls += 1
        known = set(filter(None, request.query_params.get("known", "").split(",")))
        limit = int(request.query_params["max"])
        if self.no_work:
            return JSONResponse({"jobs": [], **self.no_work})
        deadline = asyncio.get_running_loop().time() + float(request.query_params["wait"])
        while True:
            jobs = list(self.jobs.values())
            found = [job for job in jobs if job.status == "running" and job.job_id not in known]
            if self.status == "active":
                found += [job for job in jobs if job.status == "pending"]
            found = found[:limit]
            left_s = deadline - asyncio.get_running_loop().time()
            if found or left_s <= 0 or await request.is_disconnected():
                return JSONResponse({"jobs": [self._lease(job) for job in found]})
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left_s, 0.05))

    def _lease(self, job: FakeJob) -> dict[str, Any]:
        if job.status == "pending":
            job.lease += 1
        job.status = "running"
        return {
            "job_id": job.job_id,
            "job_type": job.request["type"],
            "model": job.request["model"],
            "request": job.request,
            "prompt_hash": jobspec.prompt_hash(job.request),
            "lease_id": f"lease-{job.lease}",
            "attempt": job.lease,
            **self.told,
        }

    async def _complete_batch(self, request: Request) -> Response:
        self.batches += 1
        if self.break_batches:
            self.break_batches -= 1
            return error(500, "INTERNAL_ERROR")
        items: list[dict[str, Any]] = []
        for body in (await request.json())["results"]:
            answer = json.loads(self._completed(self.jobs[body["job_id"]], body).body)
            head = {"job_id": body["job_id"]}
            if "error" in answer:
                items.append(head | {"ok": False, "error": answer["error"]})
            else:
                items.append(head | {"ok": True, "receipt_id": answer["receipt_id"], "receipt": answer})
        return JSONResponse({"items": items})

    async def _complete(self, request: Request) -> Response:
        return self._completed(self.jobs[request.path_params["job_id"]], await request.json())

    def _completed(self, job: FakeJob, body: dict[str, Any]) -> JSONResponse:
        if self.refuse_complete:
            return self.refuse_complete.pop(0)
        if job.status != "running" or body["lease_id"] != f"lease-{job.lease}":
            return error(409, "LEASE_LOST")
        self._check_signature(job, body)
        job.status, job.completion = "completed", body
        self._wake.set()
        return JSONResponse({"receipt_id": f"r-{job.job_id}", "price": 0.5, "fee": 0.01, "units": 7})

    def _check_signature(self, job: FakeJob, body: Mapping[str, Any]) -> None:
        usage = body.get("usage") or {"prompt_tokens": 0, "completion_tokens": 0}
        statement = result_statement(
            chain_id=CHAIN_ID,
            job_id=job.job_id,
            miner_id=body["miner_id"],
            prompt_hash=jobspec.prompt_hash(job.request),
            result_hash=jobspec.result_hash(job.request["type"], body["result"]),
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            network_id=self.network_id,
        )
        public = public_from_text(self.registration["public_key"])
        assert verify(public, statement, decode_b64(body["signature"]["sig"]))

    async def _fail(self, request: Request) -> Response:
        body = await request.json()
        job = self.jobs[request.path_params["job_id"]]
        self.fail_bodies.append(body)
        if self.refuse_fail:
            return self.refuse_fail.pop(0)
        if job.status != "running":
            return error(409, "LEASE_LOST")
        job.failures.append(body)
        job.status = "failed"
        self._wake.set()
        return JSONResponse({"job_id": job.job_id, "status": "pending"})
