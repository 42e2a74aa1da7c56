"""What an engine's answer means, decided here for all engines: whole, cut at the limit, failed; its tokens.

The adapters translate their protocols into the words of `Completion` and no more. An answer is sold only if
the engine said that it is whole ("stop") or that it ends at the limit that the client set ("length"; the
result says so). Everything else, an engine that says nothing included, is a failure with a cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aitbc.core.causes import Cause
from aitbc.miner.engines.base import EngineError, EngineNotReady, EngineResult, Progress, clean_text
from aitbc.miner.engines.framing import TOO_LARGE, decode_json

MAX_RESULT_CHARS = 64 * 1024 * 1024
"""More than this from one job is a runaway engine, not an answer."""

MAX_COUNT = 2**53 - 1
"""The largest token count that a result's statement can carry."""

WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
"""Words of engines for: the model ended its answer itself (or met a stop string of the client)."""

AT_LIMIT = frozenset({"length", "max_tokens", "model_length"})
"""Words of engines for: the answer ends where the client's or the model's limit is."""

LOADING = frozenset({"load"})
"""Ollama's word for: the model was loaded, and nothing was generated."""


class Completion:
    """One completion as an engine tells it, piece by piece. `result` is the verdict.

    `say` takes text and the engine's word for how it ended, `count` its token counts, `fail` its errors.
    """

    def __init__(self, progress: Progress) -> None:
        self.has_text = False
        self._progress = progress
        self._pieces: list[str] = []
        self._chars = 0
        self._reason = ""
        self._ended = False
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None

    def say(self, text: str, reason: object = None) -> None:
        """More of the answer, and how it ended where the engine says so. An ending with text after it was
        none."""
        if text:
            self._reason = ""
            self.has_text = True
            self._pieces.append(text)
            self._chars += len(text)
            if self._chars > MAX_RESULT_CHARS:
                raise EngineError(Cause.ENGINE_ERROR, TOO_LARGE)
            self._progress(len(self._pieces))
        if isinstance(reason, str) and reason:
            self._reason = reason

    def count(self, prompt_tokens: object, completion_tokens: object) -> None:
        """The engine's token counts; the last ones count."""
        self._prompt_tokens = count(prompt_tokens)
        self._completion_tokens = count(completion_tokens)

    def end(self) -> None:
        """The engine ended its answer as its protocol demands (a stream's last word, a whole document)."""
        self._ended = True

    def result(self) -> EngineResult:
        """The answer. Raises EngineError where it is not one that can be sold."""
        reason = self._reason.lower()
        if reason in LOADING and not self.has_text:
            raise EngineNotReady("the engine was loading the model", is_loading=True)
        if not reason and not self._ended:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, "the engine broke off in the middle of its answer")
        if not self.has_text and (not reason or reason in WHOLE | AT_LIMIT):
            why = " before it wrote any of its answer" if reason in AT_LIMIT else ""
            raise EngineError(Cause.ENGINE_ERROR, f"the engine stopped{why} and gave an empty answer")
        if not reason:
            raise EngineError(
                Cause.ENGINE_ERROR, "the engine did not say that its answer is whole (no finish reason)"
            )
        if reason not in WHOLE | AT_LIMIT:
            said = clean_text(self._reason, 64)
            raise EngineError(Cause.ENGINE_ERROR, f"the engine did not finish its answer ({said})")
        # An engine that cuts a surrogate pair in two leaves half a character, which has no UTF-8 form to hash.
        whole = "".join(self._pieces).encode("utf-8", "replace").decode("utf-8")
        # Both counts or none, and a full answer has some of each: a zero is a count that was not made.
        prompt, completion = self._prompt_tokens or None, self._completion_tokens or None
        if prompt is None or completion is None:
            prompt = completion = None
        finish_reason = "length" if reason in AT_LIMIT else "stop"
        return EngineResult({"text": whole, "finish_reason": finish_reason}, prompt, completion)


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts of it. Raises EngineError for a part that is no
    text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_text_of_part(part) for part in parts)


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    if kind in ("thinking", "reasoning", "reasoning_content"):
        return ""  # thinking aloud is no part of the answer
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in ("text", "output_text") or not isinstance(text, str):
        named = clean_text(kind, 32) if isinstance(kind, str) else "unknown"
        raise EngineError(Cause.ENGINE_ERROR, f"the engine's answer has a part that is no text ({named})")
    return text


def embeddings(vectors: object, expected: int, prompt_tokens: object) -> EngineResult:
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
    result = {"embeddings": [[float(value) for value in vector] for vector in vectors]}
    tokens = count(prompt_tokens) or None
    return EngineResult(result, tokens, None if tokens is None else 0)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_COUNT


def count(value: object) -> int | None:
    """A token count as the engine gave it, or None where it is no count."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        return None
    return value


def object_of(value: object) -> Mapping[str, Any]:
    """A decoded body, which must be a JSON object (or, as some proxies send it, a list of just that). Raises
    EngineError."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        raise EngineError(Cause.ENGINE_ERROR, "the engine's answer is not a JSON object")
    return value


def decode_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object that a body is. Raises EngineError."""
    try:
        return object_of(decode_json(body))
    except ValueError as error:
        raise EngineError(Cause.ENGINE_ERROR, "the engine's answer is not JSON") from error


# -- errors, in a body or in a status


def refusal(status: int, body: bytes) -> EngineError:
    """The error for an HTTP answer that is none of the 200s."""
    message, kind, _ = _error_in(body)
    return classify(status, message, kind)


def raise_error_in(data: Mapping[str, Any], *, is_error: bool = False) -> None:
    """Raises EngineError where `data`, which came under status 200, is an error and no answer.

    Engines say so in many ways: `{"error": {...}}`, `{"error": "..."}`, `{"object": "error", "message"}`,
    `{"type": "error"}`, `{"status": "error"}`, `{"detail"}`, `{"message": "...", "code"}`, an event of
    the type "error", each of them also as the only element of a list.
    """
    named = bool(data.get("error")) or bool(data.get("errors"))
    named = named or data.get("object") == "error" or data.get("type") == "error"
    named = named or data.get("success") is False or data.get("status") in ("error", "failed", "fail")
    plain = any(isinstance(data.get(name), str) for name in ("message", "detail"))
    listed = isinstance(data.get("detail"), list)
    if not (is_error or named or ((plain or listed) and "choices" not in data)):
        return
    message, kind, code = describe_error(data)
    raise classify(code or _status_of(kind), message or "the engine reported an error", kind)


def classify(status: int, message: str, kind: str = "") -> EngineError:
    """The error for an HTTP answer of an engine: its status, its words, and its own error type where it has
    one."""
    text = message.lower()
    said = message or f"HTTP {status}"
    if kind in ("exceed_context_size_error", "context_length_exceeded") or (
        status >= 400 and _has(text, CONTEXT_WORDS)
    ):
        return EngineError(Cause.CONTEXT_LENGTH_EXCEEDED, said)
    if _has(text, MEMORY_WORDS):
        return EngineError(Cause.OUT_OF_MEMORY, said)
    if status == 404 or ("model" in text and ("not found" in text or "does not exist" in text)):
        return EngineError(Cause.MODEL_NOT_FOUND, said)
    if status in (429, 500, 503) and "model" in text and "loading" in text and "error loading" not in text:
        return EngineNotReady(said, is_loading=True)
    # Some say 400 to a bad key; the request, and its client, are not to blame for that.
    if status in (401, 403) or (status == 400 and _has(text, KEY_WORDS)):
        return EngineError(Cause.ENGINE_UNAVAILABLE, f"the engine refused our key: {said}", retryable=True)
    if status in (400, 413, 422):
        return EngineError(Cause.BAD_REQUEST, said)
    if status in (429, 503):
        return EngineNotReady(said, is_loading=False)
    if status in (408, 502, 504):
        return EngineError(Cause.ENGINE_UNAVAILABLE, said)
    return EngineError(Cause.ENGINE_ERROR, said)


CONTEXT_WORDS = (
    "context length",
    "context size",
    "context window",
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context",
    "too large to process",
    "prompt is too long",
)
KEY_WORDS = ("api key", "api_key", "apikey")
MEMORY_WORDS = (
    "out of memory",
    "more system memory",
    "more memory",
    "insufficient memory",
    "not enough memory",
    "cudamalloc failed",
    "failed to allocate",
    "unable to allocate",
)


def _has(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


def _error_in(body: bytes | str) -> tuple[str, str, int | None]:
    try:
        return describe_error(decode_json(body))
    except ValueError:
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return ("" if text.lstrip().startswith("<") else text.strip()), "", None  # a page is nothing to quote


def describe_error(data: object) -> tuple[str, str, int | None]:
    """(message, type, HTTP status) of a decoded error body; "" and None for what it does not say.

    Ollama hands on llama-server's error object as a JSON string inside its own; that is opened too.
    """
    if isinstance(data, str):
        return data, "", None
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, Mapping):
        return "", "", None
    inner = data.get("error") or data.get("errors") or data.get("detail")
    if isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        return _error_in(inner)
    source = inner if isinstance(inner, Mapping) else data
    message = (
        inner
        if isinstance(inner, str)
        else source.get("message") or source.get("msg") or source.get("reason")
    )
    kind = source.get("type") if source.get("type") != "error" else ""
    return (
        message if isinstance(message, str) else "",
        str(kind or source.get("code") or ""),
        next((status for name in ("code", "status") if (status := _http_status(source.get(name)))), None),
    )


def _http_status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 400 <= value <= 599 else None


def _status_of(kind: str) -> int:
    """The HTTP status that an error type stands for, where it came without one."""
    name = kind.lower().replace("_", "")
    for word, status in (
        ("badrequest", 400),
        ("invalidrequest", 400),
        ("notfound", 404),
        ("authentication", 401),
        ("permission", 403),
        ("ratelimit", 429),
        ("unavailable", 503),
        ("overloaded", 503),
    ):
        if word in name:
            return status
    return 500
