"""Ollama, by its own API (`/api/tags`, `/api/show`, `/api/ps`, `/api/chat`, `/api/embed`).

Source: docs/api.md of the Ollama project. Its OpenAI-compatible routes say neither what context a model has
nor how it is quantised, and cut a prompt that is too long without a word; the API of its own can be told not
to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar

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
    EngineUnreachable,
    ModelInfo,
    Progress,
    context_of,
    http_client,
    messages_of,
    unreachable,
)
from aitbc.miner.engines.framing import END, frames
from aitbc.miner.engines.names import LATEST, Selection
from aitbc.miner.engines.verdict import (
    Completion,
    count,
    decode_object,
    embeddings,
    object_of,
    raise_error_in,
    refusal,
    text_of,
)

DEFAULT_URL = "http://127.0.0.1:11434"
EMBEDDING_FAMILIES = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2"})


class OllamaEngine(Engine):
    """The Ollama server at `url`, offering only the models in `only` (MODEL or NAME=MODEL) where any are
    named.

    Models go by the names that Ollama lists, `llama3.2:latest`; one tagged `:latest` may be named without the
    tag too. `context_length` (tokens) is asked for with every job; None leaves it to Ollama's own setting.
    """

    name: ClassVar[str] = "ollama"

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        only: Collection[str] = (),
        context_length: int | None = None,
        job_types: frozenset[str] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.selection = Selection(only)
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
        rows = {
            row["name"]: row
            for row in _list(tags.get("models"))
            if isinstance(row, Mapping) and isinstance(row.get("name"), str) and row["name"]
        }
        found: list[ModelInfo] = []
        skipped: dict[str, str] = {}
        for name, model in self.selection.choose(rows).items():
            try:
                shown = self._as_served(await self._show(model, rows[model]))
            except EngineUnreachable:
                raise
            except EngineError as error:
                skipped[name] = error.message  # one odd model is no reason to offer none
                continue
            if shown.job_types:
                found.append(replace(shown, name=name))
            else:
                skipped[name] = "it neither completes nor embeds"
        self.skipped = skipped
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
        details = _object(data.get("details")) or _object(row.get("details"))
        quantisation = details.get("quantization_level")
        info = ModelInfo(
            name=name,
            engine=self.name,
            context_length=_context_of(_object(data.get("model_info")), data.get("parameters")),
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
        for row in _list(data.get("models")):
            context = context_of(row.get("context_length")) if isinstance(row, Mapping) else None
            if context:
                self._served_context[str(row.get("name"))] = context

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        try:
            reply = await self._http.request(method, path, json=body, timeout=LIST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        if reply.status_code != 200:
            refused = refusal(reply.status_code, reply.content)
            if isinstance(refused, EngineNotReady):
                raise refused
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{path}: HTTP {reply.status_code} {refused.message}")
        return decode_object(reply.content)

    async def _chat(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        model = self.selection.engine_name(request["model"])
        body = {
            "model": model,
            "messages": messages_of(request),
            "stream": True,
            "truncate": False,  # say that a prompt is too long, do not cut it
            "shift": False,  # stop at the end of the context, do not forget its beginning
            "options": self._options(request["params"]),
        }
        completion = Completion(progress)
        prompt_tokens: int | None = None
        try:
            async with self._http.stream("POST", "/api/chat", json=body) as reply:
                if not reply.is_success:
                    raise refusal(reply.status_code, await reply.aread())
                async for frame in frames(reply.aiter_bytes()):
                    if frame.value is not END:
                        tokens = _read_line(frame.value, frame.is_error, completion)
                        prompt_tokens = tokens or prompt_tokens
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        result = completion.result()
        self._refuse_a_cut_prompt(model, prompt_tokens)
        return result

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
        model = self.selection.engine_name(request["model"])
        body = {"model": model, "input": inputs, "truncate": False}
        try:
            reply = await self._http.post("/api/embed", json=body)
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        if not reply.is_success:
            raise refusal(reply.status_code, reply.content)
        data = decode_object(reply.content)
        raise_error_in(data)
        return embeddings(data.get("embeddings"), len(inputs), data.get("prompt_eval_count"))


def _read_line(value: object, is_error: bool, completion: Completion) -> int | None:
    """One line of a chat's stream into the words of a verdict; gives the prompt's tokens where it says them.
    Raises EngineError."""
    if is_error and not isinstance(value, Mapping):
        value = {"error": str(value)}
    line = object_of(value)
    raise_error_in(line, is_error=is_error)
    message = line.get("message")
    if isinstance(message, Mapping):
        completion.say(text_of(message.get("content")))
    if line.get("done") is not True:
        return None
    completion.end()
    completion.say("", line.get("done_reason"))
    completion.count(line.get("prompt_eval_count"), line.get("eval_count"))
    return count(line.get("prompt_eval_count"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _context_of(facts: Mapping[str, Any], parameters: Any) -> int | None:
    """The context that a model is served with: `num_ctx` of its Modelfile, else what it was trained for."""
    for line in parameters.splitlines() if isinstance(parameters, str) else []:
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdecimal() and len(words[1]) < 12:
            return context_of(int(words[1]))
    architecture = facts.get("general.architecture")
    return context_of(facts.get(f"{architecture}.context_length"))


def _job_types_of(capabilities: Any, family: Any) -> frozenset[str]:
    """Versions before `capabilities` do not say: there the family tells an embedding model from the rest."""
    if isinstance(capabilities, list):
        known = {"completion": LLM_INFERENCE, "embedding": EMBEDDING}
        return frozenset(known[word] for word in known if word in capabilities)
    is_embedding = isinstance(family, str) and family in EMBEDDING_FAMILIES
    return frozenset({EMBEDDING if is_embedding else LLM_INFERENCE})
