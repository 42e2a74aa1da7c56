"""What the miner asks of an engine, and how an engine's failures are named.

An engine takes a canonical request (`{"type", "model", "input", "params"}`, see `aitbc.core.jobspec`) and
gives a result or raises `EngineError`. It never gives a result for a failure: an empty or missing answer is
an error. Cancelling the task that awaits `Engine.run` stops the generation where the engine can be stopped.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from aitbc.core.causes import Cause
from aitbc.miner.engines.names import Selection

LLM_INFERENCE = "llm_inference"
EMBEDDING = "embedding"

MAX_ERROR_CHARS = 500
"""An engine's own words are cut to this before they go into a cause's message."""

MAX_CONTEXT_LENGTH = 2**31
"""The longest that the coordinator takes in a registration; what says more is no context length."""

CONNECT_TIMEOUT_S = 5.0
LIST_TIMEOUT_S = 10.0

_ROOT = r"(?<![\w.:/\\~-])(?:file:/*|~?/|[A-Za-z]:[\\/])"
_PLACE = re.compile(_ROOT + r"""(?:[^\s/\\'"`<>|]+[\\/]+)+([^\s/\\'"`<>|]*)""")
_QUOTED_PLACE = re.compile(r"""(['"`])""" + _ROOT + r"""(?:[^/\\'"`]+[\\/]+)+([^/\\'"`]*)\1""")
"""A file's place on a disk, of two parts at least, and the last of them; between quotes with spaces in it."""

Progress = Callable[[int], None]
"""Called with the number of pieces (about tokens) generated so far."""


def clean_text(text: str, limit: int = MAX_ERROR_CHARS) -> str:
    """Somebody else's words as they may go into a report: valid Unicode, no control characters, cut."""
    whole = text[: limit * 2].encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char.isprintable() else " " for char in whole).strip()[:limit]


def without_paths(text: str) -> str:
    """`text` with the places of files replaced by the files' own names: what a miner's disk looks like is
    nobody's business but its owner's. Addresses (`http://…`) and names with slashes (`org/model`) stay."""
    return _PLACE.sub(r"\1", _QUOTED_PLACE.sub(r"\1\2\1", text))


class EngineError(Exception):
    """A job failed in the engine, or the engine cannot be used at all.

    `message` may quote the engine, never the prompt. `retryable` None leaves the choice to the coordinator's
    table of causes.
    """

    def __init__(self, cause: Cause, message: str, *, retryable: bool | None = None) -> None:
        self.cause = cause
        self.message = clean_text(message)
        self.retryable = retryable
        super().__init__(f"{cause}: {self.message}")


class EngineUnreachable(EngineError):
    """No connection to the engine, or one that broke. `why`: refused, no such host, no answer."""

    def __init__(self, why: str) -> None:
        super().__init__(Cause.ENGINE_UNAVAILABLE, f"the engine does not answer: {why}")
        self.why = why


class EngineNotReady(EngineError):
    """The engine is there but takes no job yet: it loads its model (`is_loading`), or has its hands full.

    Nothing of the job has begun, so that waiting costs nobody an attempt.
    """

    def __init__(self, message: str, *, is_loading: bool) -> None:
        super().__init__(Cause.ENGINE_UNAVAILABLE, message)
        self.is_loading = is_loading


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
    url: str = ""
    """Where its server listens; "" where it runs in this process."""

    selection: Selection = Selection()
    """Which of its models are offered, and as what."""

    skipped: Mapping[str, str] = MappingProxyType({})
    """Models that cannot be offered, and why not."""

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


def unreachable(error: httpx.HTTPError) -> EngineUnreachable:
    """The error for a connection that could not be made or that broke.

    The message goes to the job's client: the engine's address stays here.
    """
    return EngineUnreachable(why_unreachable(error))


def why_unreachable(error: BaseException) -> str:
    """What a failed call found, in a few words: refused, no such host, no answer, broken off."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, httpx.TimeoutException):
        return "it took the connection and said nothing"
    for inner in _causes(error):
        if isinstance(inner, ConnectionRefusedError):
            return "connection refused"
        if isinstance(inner, socket.gaierror):
            return "no such host"
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {inner.reason or inner}"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return f"the connection broke off ({error})" if str(error) else "the connection broke off"
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it; groups (one error for each address tried) opened."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [inner for inner in (each.__cause__, each.__context__) if inner is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


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


def context_of(value: object) -> int | None:
    """A context length as an engine gave it, or None where it is none that could be offered."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= MAX_CONTEXT_LENGTH else None


def messages_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chat messages of an llm_inference request; a bare prompt is one message of the user."""
    given = request["input"]
    if "messages" in given:
        return [dict(message) for message in given["messages"]]
    return [{"role": "user", "content": given["prompt"]}]
