"""What the miner asks of an engine, and how an engine's failures are named.

An engine takes a canonical request (`{"type", "model", "input", "params"}`, see `aitbc.core.jobspec`) and
gives a result or raises `EngineError`. It never gives a result for a failure: an empty or missing answer is
an error. Cancelling the task that awaits `Engine.run` stops the generation where the engine can be stopped.
"""

from __future__ import annotations

import ipaddress
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

LLM_INFERENCE = "llm_inference"
EMBEDDING = "embedding"

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""More than this from one job is a runaway engine, not an answer."""

MAX_ERROR_CHARS = 500
"""An engine's own words are cut to this before they go into a cause's message."""

CONNECT_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 10.0

Progress = Callable[[int], None]
"""Called with the number of pieces (about tokens) generated so far."""


class Cause(StrEnum):
    """Why a job failed, as the coordinator records it."""

    ENGINE_ERROR = "ENGINE_ERROR"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    BAD_REQUEST = "BAD_REQUEST"
    TIMEOUT = "TIMEOUT"
    SHUTTING_DOWN = "SHUTTING_DOWN"


class EngineError(Exception):
    """A job failed in the engine, or the engine cannot be used at all.

    `message` may quote the engine, never the prompt. `retryable` None leaves the choice to the coordinator's
    table of causes.
    """

    def __init__(self, cause: Cause, message: str, *, retryable: bool | None = None) -> None:
        self.cause = cause
        self.message = message[:MAX_ERROR_CHARS]
        self.retryable = retryable
        super().__init__(f"{cause}: {self.message}")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model that the engine has now. `context_length` in tokens; None where the engine does not say."""

    name: str
    engine: str
    context_length: int | None = None
    quantisation: str | None = None
    job_types: frozenset[str] = frozenset({LLM_INFERENCE})


@dataclass(frozen=True, slots=True)
class EngineResult:
    """What one job gave. Token counts are the engine's own; None where it gave none.

    `result` is `{"text", "finish_reason"}` or `{"embeddings"}`, as `aitbc.core.jobspec` has it.
    """

    result: dict[str, Any]
    prompt_tokens: int | None
    completion_tokens: int | None


class Engine(ABC):
    """Something that runs models: a server reached over HTTP, or llama.cpp in this process."""

    name: ClassVar[str]

    @abstractmethod
    async def start(self) -> None:
        """Make the engine ready. Raises EngineError where it cannot be."""

    @abstractmethod
    async def models(self) -> list[ModelInfo]:
        """The models that the engine has now, by name. Raises EngineError (ENGINE_UNAVAILABLE) where it is
        down."""

    @abstractmethod
    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        """Run one canonical request. Raises EngineError, and nothing else but CancelledError."""

    @abstractmethod
    async def close(self) -> None:
        """Free what the engine holds."""


def classify(status: int, message: str, kind: str = "") -> EngineError:
    """The error for an HTTP answer of an engine: its status, its words, and its own error type where it has
    one."""
    text = message.lower()
    said = message or f"HTTP {status}"
    if kind == "exceed_context_size_error" or (status >= 400 and _says_context(text)):
        return EngineError(Cause.CONTEXT_LENGTH_EXCEEDED, said)
    if _says_memory(text):
        return EngineError(Cause.OUT_OF_MEMORY, said)
    if status == 404 or ("model" in text and ("not found" in text or "does not exist" in text)):
        return EngineError(Cause.MODEL_NOT_FOUND, said)
    if status in (400, 413, 422):
        return EngineError(Cause.BAD_REQUEST, said)
    if status in (401, 403):
        return EngineError(Cause.ENGINE_UNAVAILABLE, f"the engine refused our key: {said}", retryable=True)
    if status in (408, 429, 502, 503, 504):
        return EngineError(Cause.ENGINE_UNAVAILABLE, said)
    return EngineError(Cause.ENGINE_ERROR, said)


def _says_context(text: str) -> bool:
    words = (
        "context length",
        "context size",
        "context window",
        "context_length_exceeded",
        "exceed_context_size",
        "maximum context",
        "too large to process",
        "prompt is too long",
    )
    return any(word in text for word in words)


def _says_memory(text: str) -> bool:
    words = (
        "out of memory",
        "more system memory",
        "more memory",
        "insufficient memory",
        "not enough memory",
        "cudamalloc failed",
        "failed to allocate",
        "unable to allocate",
    )
    return any(word in text for word in words)


def error_in_body(body: bytes | str) -> tuple[str, str]:
    """(message, type) out of an engine's error body: `{"error": {...}}`, `{"error": "..."}`, `{"message"}`,
    `{"detail"}`.

    Ollama hands on llama-server's error object as a JSON string inside its own; that is opened too.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        data = json.loads(text)
    except ValueError:
        return text.strip(), ""
    return describe_error(data)


def describe_error(data: Any) -> tuple[str, str]:
    """(message, type) of a decoded error body; see `error_in_body`."""
    if isinstance(data, Mapping):
        inner = data.get("error", data.get("detail"))
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            return error_in_body(inner)
        if isinstance(inner, str):
            return inner, ""
        source = inner if isinstance(inner, Mapping) else data
        message = source.get("message")
        return (message if isinstance(message, str) else ""), str(
            source.get("type") or source.get("code") or ""
        )
    return "", ""


def unreachable(url: str, error: Exception) -> EngineError:
    """The error for a connection that could not be made or that broke."""
    words = str(error) or type(error).__name__
    return EngineError(Cause.ENGINE_UNAVAILABLE, f"{url}: {words}")


def http_client(url: str, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client for an engine at `url`. No read timeout: a job's own time limit cuts it off.

    On loopback the environment's proxies are left out of it.
    """
    return httpx.AsyncClient(
        base_url=url,
        headers=dict(headers or {}),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        # A connection for each job: llama.cpp's server gives one of its few threads to every open connection,
        # and one that it closes just as it is used again would look like an engine that died.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        verify=url.startswith("https://"),  # reading the certificates costs as much as a short job
        trust_env=not is_loopback(url),
    )


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def count(value: Any) -> int | None:
    """A token count as the engine gave it, or None where it is no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_result(text: str, finish_reason: Any) -> dict[str, Any]:
    """The result of an llm_inference job. Raises EngineError where there is no text."""
    if not text:
        why = " before it wrote any of its answer" if finish_reason == "length" else ""
        raise EngineError(Cause.ENGINE_ERROR, f"the engine stopped{why} and gave an empty answer")
    if len(text) > MAX_RESULT_BYTES:
        raise EngineError(Cause.ENGINE_ERROR, "the answer is larger than a result may be")
    # An engine that cuts a surrogate pair in two leaves half a character, which has no UTF-8 form to hash.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return {"text": whole, "finish_reason": finish_reason if finish_reason in ("stop", "length") else None}


def embeddings_result(vectors: Any, expected: int) -> dict[str, Any]:
    """The result of an embedding job of `expected` inputs. Raises EngineError where a vector is missing or
    not numbers."""
    if not isinstance(vectors, list) or len(vectors) != expected:
        got = len(vectors) if isinstance(vectors, list) else 0
        raise EngineError(Cause.ENGINE_ERROR, f"the engine gave {got} embeddings for {expected} inputs")
    for vector in vectors:
        if not isinstance(vector, list) or not vector:
            raise EngineError(Cause.ENGINE_ERROR, "the engine gave an empty embedding")
        if not all(_is_finite(value) for value in vector):
            raise EngineError(Cause.ENGINE_ERROR, "the engine gave an embedding that is not finite numbers")
    return {"embeddings": [[float(value) for value in vector] for vector in vectors]}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def messages_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chat messages of an llm_inference request; a bare prompt is one message of the user."""
    given = request["input"]
    if "messages" in given:
        return [dict(message) for message in given["messages"]]
    return [{"role": "user", "content": given["prompt"]}]
