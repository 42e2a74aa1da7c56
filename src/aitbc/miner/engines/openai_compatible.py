"""Any server of the OpenAI API: vLLM, llama.cpp's server, LM Studio, and others.

Source: the OpenAI API reference (`/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`),
and what vLLM (`max_model_len`), llama.cpp (`meta`) and LM Studio (`/api/v0/models`) say beyond it about a
model.

Every completion is streamed, so that an abandoned job stops the generation (the connection closes) and a
server that dies half way is seen: a stream that ends without a finish reason or `[DONE]` is a failure, never
a shorter answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from aitbc.miner.engines.base import (
    EMBEDDING,
    LIST_TIMEOUT_S,
    LLM_INFERENCE,
    MAX_RESULT_BYTES,
    Cause,
    Engine,
    EngineError,
    EngineResult,
    ModelInfo,
    Progress,
    classify,
    count,
    describe_error,
    embeddings_result,
    error_in_body,
    http_client,
    messages_of,
    text_result,
    unreachable,
)


def base_url(url: str) -> str:
    """The API's root: `/v1` is added where `url` has no path of its own."""
    trimmed = url.rstrip("/")
    return trimmed if urlsplit(trimmed).path else f"{trimmed}/v1"


class OpenAIEngine(Engine):
    """An OpenAI-compatible server at `url`, offering only the models in `only` where any are named."""

    name: ClassVar[str] = "openai"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        only: frozenset[str] = frozenset(),
        job_types: frozenset[str] | None = None,
    ) -> None:
        self.url = base_url(url)
        self._only = only
        self._job_types = job_types
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = http_client(self.url, headers)
        self._without_template: set[str] = set()
        self._asks_for_usage = True

    async def start(self) -> None:
        """Nothing to start: the server is somebody else's, and `models` says whether it answers."""

    async def models(self) -> list[ModelInfo]:
        data = await self._get_json(f"{self.url}/models")
        rows = data.get("data") if isinstance(data, Mapping) else None
        if not isinstance(rows, list):
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{self.url}/models is not a list of models")
        more = await self._lm_studio_models()
        found = [self._describe(row, more.get(row["id"], {})) for row in rows if _is_model(row)]
        return sorted((m for m in found if not self._only or m.name in self._only), key=lambda m: m.name)

    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        if request["type"] == EMBEDDING:
            return await self._embed(request)
        if request["type"] != LLM_INFERENCE:
            raise EngineError(Cause.BAD_REQUEST, f"this engine does not run {request['type']} jobs")
        return await self._complete(request, progress)

    async def close(self) -> None:
        await self._http.aclose()

    def _describe(self, row: Mapping[str, Any], more: Mapping[str, Any]) -> ModelInfo:
        meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
        assert isinstance(meta, Mapping)
        context = (
            count(more.get("loaded_context_length"))
            or count(more.get("max_context_length"))
            or count(row.get("max_model_len"))
            or count(meta.get("n_ctx"))
            or count(meta.get("n_ctx_train"))
        )
        quantisation = more.get("quantization") or _short_ftype(meta.get("ftype"))
        return ModelInfo(
            name=row["id"],
            engine=self.name,
            context_length=context,
            quantisation=quantisation if isinstance(quantisation, str) else None,
            job_types=self._job_types or _job_types_by_name(row["id"], more.get("type")),
        )

    async def _lm_studio_models(self) -> dict[str, Mapping[str, Any]]:
        """LM Studio's own listing by model id; empty where the server is another."""
        parts = urlsplit(self.url)
        try:
            data = await self._get_json(f"{parts.scheme}://{parts.netloc}/api/v0/models")
        except EngineError:
            return {}  # only LM Studio has this route, and only some versions of it
        rows = data.get("data") if isinstance(data, Mapping) else None
        return {row["id"]: row for row in rows or [] if _is_model(row)}

    async def _get_json(self, url: str) -> Any:
        try:
            reply = await self._http.get(url, timeout=LIST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if reply.status_code != 200:
            message, _ = error_in_body(reply.content)
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{url}: HTTP {reply.status_code} {message}")
        try:
            return reply.json()
        except ValueError as error:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{url} did not answer with JSON") from error

    async def _complete(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        try:
            return await self._stream(*self._call_for(request), progress)
        except EngineError as error:
            said = error.message.lower()
            if "stream_options" in said and self._asks_for_usage:
                self._asks_for_usage = False  # an older server; the coordinator then estimates
            elif "chat template" in said and "prompt" in request["input"]:
                self._without_template.add(request["model"])  # a base model; a plain prompt needs no template
            else:
                raise
        return await self._stream(*self._call_for(request), progress)

    def _call_for(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The route and the body for a completion."""
        params = request["params"]
        body: dict[str, Any] = {"model": request["model"], "stream": True}
        for name in ("max_tokens", "temperature", "top_p", "seed", "stop"):
            if params.get(name) is not None:
                body[name] = params[name]
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        if "prompt" in request["input"] and request["model"] in self._without_template:
            return "completions", body | {"prompt": request["input"]["prompt"]}
        return "chat/completions", body | {"messages": messages_of(request)}

    async def _stream(self, path: str, body: Mapping[str, Any], progress: Progress) -> EngineResult:
        gathered = _Gathered(progress)
        try:
            async with self._http.stream("POST", f"{self.url}/{path}", json=body) as reply:
                if reply.status_code != 200:
                    message, kind = error_in_body(await reply.aread())
                    raise classify(reply.status_code, message, kind)
                if "json" in reply.headers.get("content-type", ""):
                    # A server that does not stream answers in one piece.
                    gathered.add(_decode(await reply.aread()))
                    gathered.ended = True
                else:
                    async for chunk in _events(reply):
                        gathered.add(chunk)
                    gathered.ended = gathered.ended or gathered.finish_reason is not None
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        return gathered.result()

    async def _embed(self, request: Mapping[str, Any]) -> EngineResult:
        inputs = request["input"]["input"]
        try:
            reply = await self._http.post(
                f"{self.url}/embeddings",
                json={"model": request["model"], "input": inputs, "encoding_format": "float"},
            )
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if reply.status_code != 200:
            message, kind = error_in_body(reply.content)
            raise classify(reply.status_code, message, kind)
        data = _decode(reply.content)
        _raise_error_in(data)
        rows = data.get("data")
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
            rows = [row.get("embedding") for row in sorted(rows, key=lambda row: int(row.get("index") or 0))]
        usage = data.get("usage") or {}
        return EngineResult(embeddings_result(rows, len(inputs)), count(usage.get("prompt_tokens")), 0)


class _Gathered:
    """A completion as its chunks come in."""

    def __init__(self, progress: Progress) -> None:
        self.finish_reason: str | None = None
        self.ended = False
        self._pieces: list[str] = []
        self._chars = 0
        self._usage: Mapping[str, Any] = {}
        self._progress = progress

    def add(self, chunk: Mapping[str, Any] | None) -> None:
        """Take one chunk; None is the stream's `[DONE]`."""
        if chunk is None:
            self.ended = True
            return
        _raise_error_in(chunk)
        if isinstance(chunk.get("usage"), Mapping):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            return
        choice = choices[0]
        part = choice.get("delta") or choice.get("message") or {}
        text = part.get("content") if "text" not in choice else choice["text"]
        if isinstance(text, str) and text:
            self._pieces.append(text)
            self._chars += len(text)
            self._progress(len(self._pieces))
        if self._chars > MAX_RESULT_BYTES:
            raise EngineError(Cause.ENGINE_ERROR, "the answer is larger than a result may be")
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]

    def result(self) -> EngineResult:
        """The whole completion. Raises EngineError where it broke off or has no text."""
        if not self.ended:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, "the engine broke off in the middle of its answer")
        return EngineResult(
            text_result("".join(self._pieces), self.finish_reason),
            count(self._usage.get("prompt_tokens")),
            count(self._usage.get("completion_tokens")),
        )


async def _events(reply: httpx.Response) -> AsyncIterator[Mapping[str, Any] | None]:
    """The chunks of a stream of server-sent events; None for `[DONE]`."""
    async for line in reply.aiter_lines():
        if line.startswith("data:"):
            data = line[5:].strip()
            if data == "[DONE]":
                yield None
            elif data:
                yield _decode(data)
        elif line.startswith("error:"):
            yield _decode(line[6:].strip())


def _decode(data: bytes | str) -> dict[str, Any]:
    try:
        decoded = json.loads(data)
    except ValueError as error:
        raise EngineError(Cause.ENGINE_ERROR, "the engine's answer is not JSON") from error
    if not isinstance(decoded, dict):
        raise EngineError(Cause.ENGINE_ERROR, "the engine's answer is not a JSON object")
    return decoded


def _raise_error_in(data: Mapping[str, Any]) -> None:
    """Some servers answer 200 and then an error object; that is no result."""
    if data.get("error"):
        message, kind = describe_error(data)
        inner = data["error"]
        code = inner.get("code") if isinstance(inner, Mapping) else None
        raise classify(
            code if isinstance(code, int) else 500, message or "the engine reported an error", kind
        )


def _short_ftype(ftype: Any) -> str | None:
    """llama.cpp's words for a file type ("Q4_K - Medium", "all F32") as the files are named ("Q4_K_M",
    "F32")."""
    if not isinstance(ftype, str):
        return None
    kind, _, size = ftype.removeprefix("all ").partition(" (")[0].partition(" - ")
    return f"{kind}_{size[0]}" if size else kind


def _is_model(row: Any) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("id"), str) and bool(row["id"])


def _job_types_by_name(name: str, kind: Any) -> frozenset[str]:
    """The OpenAI listing does not say what a model is for; LM Studio does (`kind`), and names mostly do."""
    if kind == "embeddings" or "embed" in name.lower():
        return frozenset({EMBEDDING})
    return frozenset({LLM_INFERENCE})
