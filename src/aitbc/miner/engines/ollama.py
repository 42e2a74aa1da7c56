"""Ollama, by its own API (`/api/tags`, `/api/show`, `/api/ps`, `/api/chat`, `/api/embed`).

Source: docs/api.md of the Ollama project. Its OpenAI-compatible routes say neither what context a model has
nor how it is quantised, and cut a prompt that is too long without a word; the API of its own can be told not
to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

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

DEFAULT_URL = "http://127.0.0.1:11434"
LATEST = ":latest"
EMBEDDING_FAMILIES = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2"})


class OllamaEngine(Engine):
    """The Ollama server at `url`, offering only the models in `only` where any are named.

    Models go by the names that Ollama lists, `llama3.2:latest`; one tagged `:latest` may be named without the
    tag too. `context_length` (tokens) is asked for with every job; None leaves it to Ollama's own setting.
    """

    name: ClassVar[str] = "ollama"

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        only: frozenset[str] = frozenset(),
        context_length: int | None = None,
        job_types: frozenset[str] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._only = only
        self._context_length = context_length
        self._job_types = job_types
        self._http = http_client(self.url)
        self._shown: dict[
            str, tuple[str, ModelInfo]
        ] = {}  # model name -> (digest, what /api/show said of it)
        self._served_context: dict[str, int] = {}  # model name -> the context it was last seen loaded with

    async def start(self) -> None:
        """Nothing to start: the server is somebody else's, and `models` says whether it answers."""

    async def models(self) -> list[ModelInfo]:
        tags = await self._call("GET", "/api/tags")
        await self._note_loaded()
        found: list[ModelInfo] = []
        for row in tags.get("models") or []:
            if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
                continue
            name = row["name"]
            if not self._only or name in self._only or name.removesuffix(LATEST) in self._only:
                found.append(self._as_served(await self._show(name, row)))
        return sorted(found, key=lambda model: model.name)

    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        if request["type"] == EMBEDDING:
            return await self._embed(request)
        if request["type"] != LLM_INFERENCE:
            raise EngineError(Cause.BAD_REQUEST, f"this engine does not run {request['type']} jobs")
        return await self._chat(request, progress)

    async def close(self) -> None:
        await self._http.aclose()

    def _as_served(self, shown: ModelInfo) -> ModelInfo:
        """The model with the context that it has here, which may be less than it was trained for."""
        limits = (shown.context_length, self._context_length, self._served_context.get(shown.name))
        return replace(
            shown,
            context_length=min((limit for limit in limits if limit), default=None),
            job_types=self._job_types or shown.job_types,
        )

    async def _show(self, name: str, row: Mapping[str, Any]) -> ModelInfo:
        digest = str(row.get("digest") or "")
        cached = self._shown.get(name)
        if cached and digest and cached[0] == digest:
            return cached[1]
        data = await self._call("POST", "/api/show", {"model": name})
        facts = data.get("model_info") if isinstance(data.get("model_info"), Mapping) else {}
        details = data.get("details") or row.get("details") or {}
        quantisation = details.get("quantization_level")
        info = ModelInfo(
            name=name,
            engine=self.name,
            context_length=_context_of(facts or {}, data.get("parameters")),
            quantisation=quantisation
            if isinstance(quantisation, str) and quantisation != "unknown"
            else None,
            job_types=_job_types_of(data.get("capabilities"), details.get("family")),
        )
        self._shown[name] = (digest, info)
        return info

    async def _note_loaded(self) -> None:
        """A loaded model may have less context than it could have: note what it was given."""
        try:
            data = await self._call("GET", "/api/ps")
        except EngineError:
            return  # older versions have no such route, and the model's own figure still stands
        for row in data.get("models") or []:
            context = count(row.get("context_length")) if isinstance(row, Mapping) else None
            if context:
                self._served_context[str(row.get("name"))] = context

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            reply = await self._http.request(method, path, json=body, timeout=LIST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if reply.status_code != 200:
            message, _ = error_in_body(reply.content)
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{path}: HTTP {reply.status_code} {message}")
        return _decode(reply.content)

    async def _chat(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        body = {
            "model": request["model"],
            "messages": messages_of(request),
            "stream": True,
            "truncate": False,  # say that a prompt is too long, do not cut it
            "shift": False,  # stop at the end of the context, do not forget its beginning
            "options": self._options(request["params"]),
        }
        pieces: list[str] = []
        chars = 0
        last: dict[str, Any] = {}
        try:
            async with self._http.stream("POST", "/api/chat", json=body) as reply:
                if reply.status_code != 200:
                    message, kind = error_in_body(await reply.aread())
                    raise classify(reply.status_code, message, kind)
                async for line in reply.aiter_lines():
                    if not line.strip():
                        continue
                    last = _decode(line)
                    _raise_error_in(last)
                    text = (last.get("message") or {}).get("content")
                    if isinstance(text, str) and text:
                        pieces.append(text)
                        chars += len(text)
                        progress(len(pieces))
                    if chars > MAX_RESULT_BYTES:
                        raise EngineError(Cause.ENGINE_ERROR, "the answer is larger than a result may be")
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if last.get("done") is not True:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, "Ollama broke off in the middle of its answer")
        prompt_tokens = count(last.get("prompt_eval_count"))
        self._refuse_a_cut_prompt(request["model"], prompt_tokens)
        return EngineResult(
            text_result("".join(pieces), last.get("done_reason")),
            prompt_tokens,
            count(last.get("eval_count")),
        )

    def _options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {"num_predict": params["max_tokens"]}
        for name in ("temperature", "top_p", "seed", "stop"):
            if params.get(name) is not None:
                options[name] = params[name]
        if self._context_length:
            options["num_ctx"] = self._context_length
        return options

    def _refuse_a_cut_prompt(self, model: str, prompt_tokens: int | None) -> None:
        """Versions that do not know `truncate` cut a long prompt to exactly the context: that answers another
        question."""
        context = self._context_length or self._served_context.get(model if ":" in model else model + LATEST)
        if context and prompt_tokens is not None and prompt_tokens >= context:
            raise EngineError(
                Cause.CONTEXT_LENGTH_EXCEEDED, f"the prompt does not fit the context of {context} tokens"
            )

    async def _embed(self, request: Mapping[str, Any]) -> EngineResult:
        inputs = request["input"]["input"]
        body = {"model": request["model"], "input": inputs, "truncate": False}
        try:
            reply = await self._http.post("/api/embed", json=body)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if reply.status_code != 200:
            message, kind = error_in_body(reply.content)
            raise classify(reply.status_code, message, kind)
        data = _decode(reply.content)
        _raise_error_in(data)
        result = embeddings_result(data.get("embeddings"), len(inputs))
        return EngineResult(result, count(data.get("prompt_eval_count")), 0)


def _context_of(facts: Mapping[str, Any], parameters: Any) -> int | None:
    """The context that a model is served with: `num_ctx` of its Modelfile, else what it was trained for."""
    for line in parameters.splitlines() if isinstance(parameters, str) else []:
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdigit():
            return int(words[1])
    architecture = facts.get("general.architecture")
    return count(facts.get(f"{architecture}.context_length"))


def _job_types_of(capabilities: Any, family: Any) -> frozenset[str]:
    """Versions before `capabilities` do not say: there the family tells an embedding model from the rest."""
    if isinstance(capabilities, list):
        known = {"completion": LLM_INFERENCE, "embedding": EMBEDDING}
        return frozenset(known[word] for word in capabilities if word in known)
    return frozenset({EMBEDDING if family in EMBEDDING_FAMILIES else LLM_INFERENCE})


def _raise_error_in(data: Mapping[str, Any]) -> None:
    """An error after the stream began comes as one line of it, under status 200."""
    if data.get("error"):
        message, kind = describe_error(data)
        raise classify(500, message or "Ollama reported an error", kind)


def _decode(data: bytes | str) -> dict[str, Any]:
    try:
        decoded = json.loads(data)
    except ValueError as error:
        raise EngineError(Cause.ENGINE_ERROR, "Ollama's answer is not JSON") from error
    if not isinstance(decoded, dict):
        raise EngineError(Cause.ENGINE_ERROR, "Ollama's answer is not a JSON object")
    return decoded
