"""Any server of the OpenAI API: vLLM, llama.cpp's server, LM Studio, and others.

Source: the OpenAI API reference (`/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`),
and what vLLM (`max_model_len`), llama.cpp (`meta`) and LM Studio (`/api/v0/models`) say beyond it about a
model.

Every completion is streamed, so that an abandoned job stops the generation (the connection closes) and a
server that dies half way is seen. What the chunks mean is decided in `verdict`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from aitbc.core.causes import Cause
from aitbc.miner.engines.base import (
    EMBEDDING,
    LIST_TIMEOUT_S,
    LLM_INFERENCE,
    Engine,
    EngineError,
    EngineNotReady,
    EngineResult,
    ModelInfo,
    Progress,
    context_of,
    http_client,
    messages_of,
    unreachable,
)
from aitbc.miner.engines.framing import END, decode_json, frames
from aitbc.miner.engines.names import Selection
from aitbc.miner.engines.verdict import (
    Completion,
    decode_object,
    embeddings,
    object_of,
    raise_error_in,
    refusal,
    text_of,
)


def base_url(url: str) -> str:
    """The API's root: `/v1` is added where `url` has no path of its own."""
    trimmed = url.rstrip("/")
    return trimmed if urlsplit(trimmed).path else f"{trimmed}/v1"


class OpenAIEngine(Engine):
    """An OpenAI-compatible server at `url`, offering only the models in `only` (MODEL or NAME=MODEL) where
    any are named."""

    name: ClassVar[str] = "openai"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        only: Collection[str] = (),
        job_types: frozenset[str] | None = None,
    ) -> None:
        self.url = base_url(url)
        self.selection = Selection(only)
        self._job_types = job_types
        self._api_key = api_key
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = http_client(self.url, headers)
        self._without_template: set[str] = set()
        self._asks_for_usage = True

    async def start(self) -> None:
        """Nothing to start: the server is somebody else's, and `models` says whether it answers."""

    async def models(self) -> list[ModelInfo]:
        rows = _rows_of(await self._get_json(f"{self.url}/models"))
        if rows is None:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{self.url}/models is not a list of models")
        await self._refuse_while_loading()
        more = await self._lm_studio_models()
        known = {row["id"]: row for row in rows if _is_model(row)}
        chosen = self.selection.choose(known)
        return sorted(
            (self._describe(name, known[model], more.get(model, {})) for name, model in chosen.items()),
            key=lambda model: model.name,
        )

    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        try:
            if request["type"] == EMBEDDING:
                return await self._embed(request)
            if request["type"] != LLM_INFERENCE:
                raise EngineError(Cause.BAD_REQUEST, f"this engine does not run {request['type']} jobs")
            return await self._complete(request, progress)
        except EngineError as error:
            error.message = self.selection.hide(error.message)
            if self._api_key:
                error.message = error.message.replace(self._api_key, "***")  # some quote the key they refuse
            raise

    async def close(self) -> None:
        await self._http.aclose()

    def _describe(self, name: str, row: Mapping[str, Any], more: Mapping[str, Any]) -> ModelInfo:
        given = row.get("meta")
        meta: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        context = (
            context_of(more.get("loaded_context_length"))
            or context_of(more.get("max_context_length"))
            or context_of(row.get("max_model_len"))
            or context_of(meta.get("n_ctx"))
            or context_of(meta.get("n_ctx_train"))
        )
        quantisation = more.get("quantization") or _short_ftype(meta.get("ftype"))
        return ModelInfo(
            name=name,
            engine=self.name,
            context_length=context,
            quantisation=quantisation if isinstance(quantisation, str) else None,
            job_types=self._job_types or _job_types_by_name(name, more.get("type")),
        )

    async def _refuse_while_loading(self) -> None:
        """llama.cpp, vLLM and others list models that they are still loading; `/health` tells. Raises
        EngineNotReady."""
        parts = urlsplit(self.url)
        try:
            reply = await self._http.get(f"{parts.scheme}://{parts.netloc}/health", timeout=LIST_TIMEOUT_S)
        except httpx.HTTPError:
            return  # the listing was answered: a job will tell
        if reply.status_code == 503:
            error = refusal(503, reply.content)
            raise EngineNotReady(error.message, is_loading=True)

    async def _lm_studio_models(self) -> dict[str, Mapping[str, Any]]:
        """LM Studio's own listing by model id; empty where the server is another."""
        parts = urlsplit(self.url)
        try:
            rows = _rows_of(await self._get_json(f"{parts.scheme}://{parts.netloc}/api/v0/models"))
        except EngineError:
            return {}  # only LM Studio has this route, and only some versions of it
        return {row["id"]: row for row in rows or [] if _is_model(row)}

    async def _get_json(self, url: str) -> Any:
        try:
            reply = await self._http.get(url, timeout=LIST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        if reply.status_code != 200:
            refused = refusal(reply.status_code, reply.content)
            if isinstance(refused, EngineNotReady):
                raise refused
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{url}: HTTP {reply.status_code} {refused.message}")
        try:
            return decode_json(reply.content)
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
        body: dict[str, Any] = {"model": self.selection.engine_name(request["model"]), "stream": True}
        for name in ("max_tokens", "temperature", "top_p", "seed", "stop"):
            if params.get(name) is not None:
                body[name] = params[name]
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        if "prompt" in request["input"] and request["model"] in self._without_template:
            return "completions", body | {"prompt": request["input"]["prompt"]}
        return "chat/completions", body | {"messages": messages_of(request)}

    async def _stream(self, path: str, body: Mapping[str, Any], progress: Progress) -> EngineResult:
        completion = Completion(progress)
        try:
            async with self._http.stream("POST", f"{self.url}/{path}", json=body) as reply:
                if not reply.is_success:
                    raise refusal(reply.status_code, await reply.aread())
                async for frame in frames(reply.aiter_bytes()):
                    if frame.value is END:
                        completion.end()
                    else:
                        _read_chunk(frame.value, frame.is_error, completion)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        return completion.result()

    async def _embed(self, request: Mapping[str, Any]) -> EngineResult:
        inputs = request["input"]["input"]
        model = self.selection.engine_name(request["model"])
        body = {"model": model, "input": inputs, "encoding_format": "float"}
        try:
            reply = await self._http.post(f"{self.url}/embeddings", json=body)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        if not reply.is_success:
            raise refusal(reply.status_code, reply.content)
        data = decode_object(reply.content)
        raise_error_in(data)
        rows = data.get("data")
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
            if all(type(row.get("index")) is int for row in rows):
                rows = sorted(rows, key=lambda row: row["index"])
            rows = [row.get("embedding") for row in rows]
        usage = data.get("usage")
        return embeddings(
            rows, len(inputs), usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        )


def _read_chunk(value: object, is_error: bool, completion: Completion) -> None:
    """One chunk of a stream, or a whole completion, into the words of a verdict. Raises EngineError."""
    if is_error and not isinstance(value, Mapping):
        value = {"error": str(value)}
    chunk = object_of(value)
    raise_error_in(chunk, is_error=is_error)
    usage = chunk.get("usage")
    if isinstance(usage, Mapping):
        completion.count(usage.get("prompt_tokens"), usage.get("completion_tokens"))
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if not isinstance(choice, Mapping) or choice.get("index") not in (None, 0, "0"):
            continue  # one answer was asked for, and that is the first
        if choice.get("error"):
            raise_error_in({"error": choice["error"]})
        part = choice.get("delta")
        if not part and not completion.has_text:
            part = choice.get("message")  # the whole answer at once; after its pieces it only repeats them
        said = choice.get("text")
        if said is None and isinstance(part, Mapping):
            said = part.get("content")
        completion.say(text_of(said), choice.get("finish_reason"))


def _rows_of(listing: object) -> list[Any] | None:
    """The rows of a listing of models: `{"data": [...]}`, as most write it, `{"models": [...]}` or the bare
    list; of objects with an `id` (or `name`, or `model`), or of names. None where it is no listing."""
    rows = listing
    if isinstance(listing, Mapping):
        rows = listing.get("data") if "data" in listing else listing.get("models")
    return [_row_of(row) for row in rows] if isinstance(rows, list) else None


def _row_of(row: object) -> object:
    if isinstance(row, str):
        return {"id": row}
    if isinstance(row, Mapping) and "id" not in row:
        return {**row, "id": row.get("name") or row.get("model")}
    return row


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
