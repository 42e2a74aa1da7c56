"""Fakes of engines: an Ollama and an OpenAI-compatible server over a real socket, and an engine in Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aitbc.core.causes import Cause
from aitbc.miner.engines.base import Engine, EngineError, EngineResult, ModelInfo, Progress
from tests.miner.fakes import FakeServer

Handler = Callable[[dict[str, Any]], Awaitable[Response]]


class FakeOllama(FakeServer):
    """Ollama's native routes. `on_chat` and `on_embed` answer; `models` is what it has."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {
            "llama3.2:latest": {
                "details": {"family": "llama", "quantization_level": "Q4_K_M"},
                "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
                "capabilities": ["completion", "tools"],
            },
            "nomic-embed-text:latest": {
                "details": {"family": "nomic-bert", "quantization_level": "F16"},
                "model_info": {"general.architecture": "nomic-bert", "nomic-bert.context_length": 2048},
                "capabilities": ["embedding"],
            },
        }
        self.loaded: dict[str, int] = {}
        self.chats: list[dict[str, Any]] = []
        self.on_show: Handler | None = None
        self.shows = 0
        self.on_chat: Handler = self.answer
        self.on_embed: Handler = self.embed
        super().__init__(
            [
                Route("/api/tags", self._tags),
                Route("/api/ps", self._ps),
                Route("/api/show", self._show, methods=["POST"]),
                Route("/api/chat", self._chat, methods=["POST"]),
                Route("/api/embed", self._embed, methods=["POST"]),
            ]
        )

    async def answer(self, body: dict[str, Any]) -> Response:
        if body["model"] not in self.models and f"{body['model']}:latest" not in self.models:
            return JSONResponse({"error": f"model '{body['model']}' not found"}, 404)
        return ndjson(
            [
                {"message": {"role": "assistant", "content": "Hi "}, "done": False},
                {"message": {"role": "assistant", "content": "there"}, "done": False},
                {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
                | {"prompt_eval_count": 26, "eval_count": 5},
            ]
        )

    async def embed(self, body: dict[str, Any]) -> Response:
        vectors = [[0.5, float(len(text))] for text in body["input"]]
        return JSONResponse({"model": body["model"], "embeddings": vectors, "prompt_eval_count": 9})

    async def _tags(self, request: Request) -> Response:
        rows = [{"name": name, "model": name, "digest": f"d-{name}"} for name in self.models]
        return JSONResponse(
            {"models": [row | {"details": self.models[row["name"]]["details"]} for row in rows]}
        )

    async def _ps(self, request: Request) -> Response:
        rows = [{"name": name, "context_length": context} for name, context in self.loaded.items()]
        return JSONResponse({"models": rows})

    async def _show(self, request: Request) -> Response:
        self.shows += 1
        body = await request.json()
        if self.on_show is not None:
            return await self.on_show(body)
        return JSONResponse(self.models[body["model"]])

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.chats.append(body)
        return await self.on_chat(body)

    async def _embed(self, request: Request) -> Response:
        return await self.on_embed(await request.json())


class FakeOpenAI(FakeServer):
    """An OpenAI-compatible server. `on_chat`, `on_completion` and `on_embed` answer; `models` is its
    listing."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = [{"id": "qwen", "object": "model", "max_model_len": 4096}]
        self.lm_studio: list[dict[str, Any]] | None = None
        self.bodies: list[dict[str, Any]] = []
        self.closed_early = asyncio.Event()
        self.health = 200
        self.refuses = 0
        self.on_chat: Handler = self.answer
        self.on_completion: Handler = self.answer
        self.on_embed: Handler = self.embed
        super().__init__(
            [
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/api/v0/models", self._lm_studio),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completion, methods=["POST"]),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
            ]
        )

    async def answer(self, body: dict[str, Any]) -> Response:
        part = (
            (lambda text: {"text": text}) if "prompt" in body else (lambda text: {"delta": {"content": text}})
        )
        usage = {"prompt_tokens": 11, "completion_tokens": 3}
        return sse(
            [
                {"choices": [{"index": 0, **part("Hel"), "finish_reason": None}]},
                {"choices": [{"index": 0, **part("lo"), "finish_reason": None}]},
                {"choices": [{"index": 0, **part(""), "finish_reason": "stop"}]},
                {"choices": [], "usage": usage},
            ]
        )

    async def answer_for_ever(self, body: dict[str, Any]) -> Response:
        async def chunks() -> AsyncIterator[str]:
            try:
                while True:
                    yield f"data: {json.dumps({'choices': [{'delta': {'content': 'x'}}]})}\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.closed_early.set()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    async def embed(self, body: dict[str, Any]) -> Response:
        rows = [{"index": i, "embedding": [1.0, i]} for i, _ in enumerate(body["input"])]
        return JSONResponse({"data": rows[::-1], "usage": {"prompt_tokens": 4, "total_tokens": 4}})

    async def _models(self, request: Request) -> Response:
        if self.refuses:
            return JSONResponse({"error": {"message": "Invalid API key"}}, self.refuses)
        return JSONResponse({"object": "list", "data": self.models})

    async def _health(self, request: Request) -> Response:
        return JSONResponse(
            {"error": {"message": "Loading model"}} if self.health == 503 else {}, self.health
        )

    async def _lm_studio(self, request: Request) -> Response:
        if self.lm_studio is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        return JSONResponse({"object": "list", "data": self.lm_studio})

    async def _chat(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        return await self.on_chat(self.bodies[-1])

    async def _completion(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        return await self.on_completion(self.bodies[-1])

    async def _embed(self, request: Request) -> Response:
        return await self.on_embed(await request.json())


def sse(chunks: list[Any], *, done: bool = True) -> StreamingResponse:
    """A stream of server-sent events; without `done` it ends as that of a server that died."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + (["data: [DONE]\n\n"] if done else [])
    return StreamingResponse(_each(lines), media_type="text/event-stream")


def ndjson(lines: list[dict[str, Any]]) -> StreamingResponse:
    return StreamingResponse(
        _each([json.dumps(line) + "\n" for line in lines]), media_type="application/x-ndjson"
    )


async def _each(lines: list[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


class FakeEngine(Engine):
    """An engine in Python: `behave` is awaited for each request and gives its result."""

    name: ClassVar[str] = "fake"

    def __init__(self, behave: Callable[[Mapping[str, Any]], Awaitable[EngineResult]] | None = None) -> None:
        self.behave = behave or self.echo
        self.offers = [ModelInfo("tiny", "fake", 512, "Q8_0")]
        self.running = 0
        self.most_running = 0
        self.ran: list[str] = []
        self.is_closed = False

    async def start(self) -> None:
        """Always ready."""

    async def models(self) -> list[ModelInfo]:
        return list(self.offers)

    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.ran.append(request["input"].get("prompt", ""))
        progress(1)
        try:
            return await self.behave(request)
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.is_closed = True

    @staticmethod
    async def echo(request: Mapping[str, Any]) -> EngineResult:
        return EngineResult({"text": request["input"]["prompt"].upper(), "finish_reason": "stop"}, 3, 4)


def failing(cause: Cause, message: str = "no") -> FakeEngine:
    """An engine that fails every job."""

    async def behave(request: Mapping[str, Any]) -> EngineResult:
        raise EngineError(cause, message)

    return FakeEngine(behave)


def gated() -> tuple[FakeEngine, asyncio.Event]:
    """An engine whose jobs finish once the event is set."""
    gate = asyncio.Event()

    async def behave(request: Mapping[str, Any]) -> EngineResult:
        await gate.wait()
        return await FakeEngine.echo(request)

    return FakeEngine(behave), gate
