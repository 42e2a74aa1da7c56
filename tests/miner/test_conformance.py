"""One table of what engines say and what it means, held by every engine through its own protocol.

A row says what the engine tells (text, its word for the end, its counts); each dialect writes that as its
protocol has it, and the meaning must be the same. No network: `httpx`'s own transport in memory.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.core import jobspec
from aitbc.core.causes import Cause
from aitbc.miner.engines.base import Engine, EngineError, EngineNotReady, EngineResult
from aitbc.miner.engines.llamacpp import LlamaCppEngine
from aitbc.miner.engines.ollama import OllamaEngine
from aitbc.miner.engines.openai_compatible import OpenAIEngine
from tests.miner.harness import run

MISSING = object()


@dataclass(frozen=True)
class Said:
    """What an engine tells. `reason` MISSING: it does not say; `is_cut`: its body stops after the text."""

    pieces: tuple[Any, ...] = ("Hi ", "there")
    reason: Any = "stop"
    usage: Any = (3, 2)
    is_cut: bool = False


def openai_stream(said: Said) -> bytes:
    def choice(content: Any, reason: Any = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}

    chunks: list[Any] = [choice(piece) for piece in said.pieces]
    if not said.is_cut:
        chunks += [choice("", said.reason)] if said.reason is not MISSING else []
        chunks += [{"choices": [], "usage": _usage(said.usage)}]
    body = "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks)
    return (body + ("" if said.is_cut else "data: [DONE]\n\n")).encode("utf-8", "surrogatepass")


def openai_whole(said: Said) -> bytes:
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": _joined(said.pieces)}}
    if said.reason is not MISSING:
        choice["finish_reason"] = said.reason
    whole = json.dumps(
        {"object": "chat.completion", "choices": [choice], "usage": _usage(said.usage)}, indent=1
    )
    return whole.encode()[: -20 if said.is_cut else None]


def ollama(said: Said) -> bytes:
    lines: list[dict[str, Any]] = [
        {"message": {"role": "assistant", "content": each}, "done": False} for each in said.pieces
    ]
    if not said.is_cut:
        last: dict[str, Any] = {"message": {"role": "assistant", "content": ""}, "done": True}
        last |= {} if said.reason is MISSING else {"done_reason": said.reason}
        if said.usage is not None:
            last |= {"prompt_eval_count": said.usage[0], "eval_count": said.usage[1]}
        lines.append(last)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return text.encode("utf-8", "surrogatepass")


def _usage(usage: Any) -> Any:
    return None if usage is None else {"prompt_tokens": usage[0], "completion_tokens": usage[1]}


def _joined(pieces: tuple[Any, ...]) -> Any:
    return "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else list(pieces)


class Sliced(httpx.AsyncByteStream):
    """A body that comes in slices of `size` bytes."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body, self._size = body, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._body), self._size):
            yield self._body[at : at + self._size]


def answering(engine: Any, status: int, kind: str, body: bytes, size: int = 10_000) -> None:
    """Whatever `engine` asks is answered so."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind}, stream=Sliced(body, size))

    inner = engine._api if isinstance(engine, LlamaCppEngine) else engine
    inner._http = httpx.AsyncClient(base_url="http://engine", transport=httpx.MockTransport(answer))


def in_process() -> LlamaCppEngine:
    """llama.cpp's engine with its server replaced: what it makes of the answers is its own."""
    engine = LlamaCppEngine(Path("tiny.gguf"), model_name="tiny")
    engine._api = OpenAIEngine("http://engine")
    return engine


DIALECTS: dict[str, tuple[Callable[[], Engine], Callable[[Said], bytes], str]] = {
    "openai": (lambda: OpenAIEngine("http://engine"), openai_stream, "text/event-stream"),
    "openai-whole": (lambda: OpenAIEngine("http://engine"), openai_whole, "application/json"),
    "ollama": (lambda: OllamaEngine("http://engine"), ollama, "application/x-ndjson"),
    "llamacpp": (in_process, openai_stream, "text/event-stream"),
}
REQUEST = jobspec.build_request("llm_inference", model="tiny", body={"prompt": "hello"})


async def meaning(engine: Engine) -> EngineResult | EngineError:
    try:
        return await engine.run(REQUEST, lambda pieces: None)
    except EngineError as error:
        return error


def whole(text: str = "Hi there", reason: str = "stop", usage: Any = (3, 2)) -> EngineResult:
    return EngineResult({"text": text, "finish_reason": reason}, *(usage or (None, None)))


SOLD: list[tuple[Said, EngineResult]] = [
    (Said(), whole()),
    (Said(reason="length"), whole(reason="length")),
    (Said(reason="max_tokens"), whole(reason="length")),
    (Said(reason="eos_token"), whole()),
    (Said(usage=None), whole(usage=None)),
    (Said(usage=(0, 0)), whole(usage=None)),
    (Said(usage=(3, 0)), whole(usage=None)),
    (Said(usage=(0, 2)), whole(usage=None)),
    (Said(usage=("3", 2.5)), whole(usage=None)),
    (Said(usage=(-3, 2)), whole(usage=None)),
    (Said(usage=(True, 2**53)), whole(usage=None)),
    (Said(pieces=("one\u2028two\u0085", "three\r\nfour")), whole("one\u2028two\u0085three\r\nfour")),
    (Said(pieces=("a\x00b\x0bc\x1ed",)), whole("a\x00b\x0bc\x1ed")),
    (Said(pieces=("data: [DONE]\n\ndata: x\n\n",)), whole("data: [DONE]\n\ndata: x\n\n")),
    (Said(pieces=([{"type": "text", "text": "Hi "}], [{"type": "text", "text": "there"}])), whole()),
    (Said(pieces=({"type": "text", "text": "Hi "}, "there")), whole()),
    (Said(pieces=([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}],)), whole("Hi")),
]

NOT_SOLD: list[tuple[Said, Cause]] = [
    *((Said(reason=reason), Cause.ENGINE_ERROR) for reason in
      ("abort", "error", "cancelled", "canceled", "content_filter", "tool_calls", "function_call", "unload",
       "insufficient_system_resource", "ABORT", "stop?", " ", "null", "x" * 10_000)),
    (Said(reason=""), Cause.ENGINE_ERROR),
    (Said(reason=None), Cause.ENGINE_ERROR),
    (Said(reason=MISSING), Cause.ENGINE_ERROR),
    (Said(reason=7), Cause.ENGINE_ERROR),
    (Said(reason=["stop"]), Cause.ENGINE_ERROR),
    (Said(pieces=("",)), Cause.ENGINE_ERROR),
    (Said(pieces=("",), reason="length"), Cause.ENGINE_ERROR),
    (Said(pieces=(None,)), Cause.ENGINE_ERROR),
    (Said(pieces=([{"type": "image_url", "image_url": {"url": "x"}}],)), Cause.ENGINE_ERROR),
    (Said(pieces=(7,)), Cause.ENGINE_ERROR),
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_engine_means_the_same(dialect: str) -> None:
    make, write, kind = DIALECTS[dialect]

    async def scenario() -> None:
        for said, expected in SOLD:
            body = write(said)
            if dialect == "openai-whole" and isinstance(said.pieces[0], list):
                body = write(
                    Said(tuple(part for piece in said.pieces for part in piece), said.reason, said.usage)
                )
            for size in (1, 7, 10_000):
                engine = make()
                answering(engine, 200, kind, body, size)
                assert await meaning(engine) == expected, (said, size)
        for said, cause in NOT_SOLD:
            engine = make()
            answering(engine, 200, kind, write(said))
            got = await meaning(engine)
            assert isinstance(got, EngineError) and got.cause == cause, (said, got)
            assert len(got.message) <= 500

    run(scenario())


@pytest.mark.parametrize("dialect", ["openai", "ollama", "llamacpp"])
def test_a_body_that_just_ends_is_no_answer_wherever_it_ends(dialect: str) -> None:
    make, write, kind = DIALECTS[dialect]

    async def scenario() -> None:
        body = write(Said(usage=None))
        ends = body.index(b"stop")  # until here nothing says that the answer is whole
        for at in range(ends):
            engine = make()
            answering(engine, 200, kind, body[:at])
            got = await meaning(engine)
            assert isinstance(got, EngineError), (at, got)
            assert got.cause in (Cause.ENGINE_ERROR, Cause.ENGINE_UNAVAILABLE)

    run(scenario())


LABELS = ["application/json", "text/event-stream", "application/x-ndjson", "text/plain; charset=latin-1", ""]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_labels_boms_and_line_ends_change_nothing(dialect: str) -> None:
    make, write, _ = DIALECTS[dialect]

    async def scenario() -> None:
        said = Said(pieces=("gr\u00fc\u00df ", "dich\u2028"))
        body = write(said)
        bodies = [body, b"\xef\xbb\xbf" + body, body.replace(b"\n", b"\r\n"), b"\n\n" + body]
        if dialect in ("openai", "llamacpp"):
            comments = b": ping\n\n" + body.replace(b"\n\n", b"\n\n: ping\n\nevent: ping\ndata:\n\n")
            bodies += [body.replace(b"\n", b"\r"), comments, body.replace(b"data: ", b"data:")]
            bodies += [
                body.replace(b', "finish_reason"', b',\ndata: "finish_reason"'),
                body.replace(b"\n\n", b"\n"),
            ]
        for number, each in enumerate(bodies):
            for kind in LABELS:
                engine = make()
                answering(engine, 200, kind, each, 11)
                assert await meaning(engine) == whole("gr\u00fc\u00df dich\u2028"), (number, kind)

    run(scenario())


def test_text_after_an_ending_makes_it_none() -> None:
    async def scenario() -> None:
        first = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
        more = b'data: {"choices":[{"delta":{"content":" there"},"finish_reason":null}]}\n\n'
        engine = OpenAIEngine("http://engine")
        answering(engine, 200, "text/event-stream", first + more)
        got = await meaning(engine)
        assert isinstance(got, EngineError) and got.cause == Cause.ENGINE_UNAVAILABLE
        answering(engine, 200, "text/event-stream", first + more + first)
        assert isinstance(await meaning(engine), EngineResult)

    run(scenario())


@pytest.mark.parametrize("delta", [{}, None, {"content": None}, {"content": ""}])
def test_a_whole_message_after_its_pieces_repeats_them(delta: Any) -> None:
    pieces = {"choices": [{"index": "0", "delta": {"content": "Hi there"}}]}
    last = {"choices": [{"delta": delta, "message": {"content": "Hi there"}, "finish_reason": "stop"}]}

    async def scenario() -> None:
        for chunks in ([pieces, last], [last]):
            engine = OpenAIEngine("http://engine")
            body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
            answering(engine, 200, "text/event-stream", body)
            got = await meaning(engine)
            if chunks == [last] and delta:
                assert isinstance(got, EngineError), "nothing was said where this stream says things"
            else:
                assert got == whole(usage=None)

    run(scenario())


@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_a_refused_key_is_the_miner_s_trouble_and_is_not_quoted(status: int) -> None:
    said = {"error": {"code": max(status, 400), "message": "API key not valid: sk-very-secret-key"}}

    async def scenario() -> None:
        engine = OpenAIEngine("http://engine", api_key="sk-very-secret-key")
        answering(engine, status, "application/json", json.dumps(said).encode())
        got = await meaning(engine)
        assert isinstance(got, EngineError)
        assert got.cause == Cause.ENGINE_UNAVAILABLE and got.retryable
        assert "very-secret" not in got.message and "refused our key" in got.message

    run(scenario())


ERRORS: list[tuple[int, Any, Cause]] = [
    (200, {"error": {"message": "no", "code": 400}}, Cause.BAD_REQUEST),
    (200, {"error": {"message": "no", "type": "invalid_request_error"}}, Cause.BAD_REQUEST),
    (200, {"error": "boom"}, Cause.ENGINE_ERROR),
    (200, {"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, Cause.BAD_REQUEST),
    (
        200,
        {"object": "error", "message": "no", "type": "NotFoundError", "code": "404"},
        Cause.MODEL_NOT_FOUND,
    ),
    (200, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Cause.ENGINE_UNAVAILABLE),
    (200, {"detail": "something"}, Cause.ENGINE_ERROR),
    (200, {"detail": [{"loc": ["body"], "msg": "field required"}]}, Cause.ENGINE_ERROR),
    (200, {"message": "maximum context length is 4096", "code": 400}, Cause.CONTEXT_LENGTH_EXCEEDED),
    (200, {"errors": [{"message": "CUDA out of memory"}]}, Cause.OUT_OF_MEMORY),
    (200, {"error": {}}, Cause.ENGINE_ERROR),
    (200, [], Cause.ENGINE_ERROR),
    (200, [{"error": {"message": "no", "code": 400}}], Cause.BAD_REQUEST),
    (200, {"status": "error", "reason": "CUDA out of memory"}, Cause.OUT_OF_MEMORY),
    (200, {"success": False, "message": "no", "code": 404}, Cause.MODEL_NOT_FOUND),
    (400, [{"error": {"message": "maximum context length is 4096"}}], Cause.CONTEXT_LENGTH_EXCEEDED),
    (200, "sorry", Cause.ENGINE_ERROR),
    (200, {}, Cause.ENGINE_ERROR),
    (307, {}, Cause.ENGINE_ERROR),
    (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, Cause.CONTEXT_LENGTH_EXCEEDED),
    (400, {"error": "\x00\ud800"}, Cause.BAD_REQUEST),
    (404, {"error": "model 'x' not found"}, Cause.MODEL_NOT_FOUND),
    (422, {"detail": [{"msg": "bad"}]}, Cause.BAD_REQUEST),
    (500, {"error": {"message": ["not", "words"], "code": {}}}, Cause.ENGINE_ERROR),
    (500, None, Cause.ENGINE_ERROR),
]
NOT_READY: list[tuple[int, Any, bool]] = [
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, True),
    (503, {"error": "Model tiny is currently loading", "estimated_time": 20.0}, True),
    (500, {"error": "llm server loading model"}, True),
    (503, {"error": "server busy, please try again. maximum pending requests exceeded"}, False),
    (429, {"error": {"message": "too many requests"}}, False),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_has_its_cause_whatever_form_it_has(dialect: str) -> None:
    make, _, _ = DIALECTS[dialect]

    async def scenario() -> None:
        for status, data, cause in ERRORS:
            body = json.dumps(data).encode()
            forms = [body] if status != 200 or dialect == "ollama" else [body, b"data: " + body + b"\n\n"]
            for form in forms:
                engine = make()
                answering(engine, status, "application/json", form)
                got = await meaning(engine)
                assert isinstance(got, EngineError), (status, data, got)
                # A document without an answer is an error; a stream that ends without one broke off.
                broke_off = (
                    form is not body and got.cause == Cause.ENGINE_UNAVAILABLE and data in ({}, {"error": {}})
                )
                assert (
                    got.cause == cause or broke_off or (dialect == "ollama" and data in ({}, {"error": {}}))
                )
                got.message.encode()
                assert "\x00" not in got.message
        for status, data, is_loading in NOT_READY:
            engine = make()
            answering(engine, status, "application/json", json.dumps(data).encode())
            got = await meaning(engine)
            assert isinstance(got, EngineNotReady) and got.is_loading is is_loading, (data, got)

    run(scenario())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_in_the_middle_of_an_answer_ends_it(dialect: str) -> None:
    make, write, kind = DIALECTS[dialect]
    if dialect == "openai-whole":
        return

    async def scenario() -> None:
        begun = write(Said(is_cut=True))
        error = json.dumps({"error": {"message": "the engine died", "type": "server_error"}}).encode()
        ends = {"ollama": [error + b"\n"]}.get(
            dialect,
            [
                b"data: " + error + b"\n\n",
                b"event: error\ndata: " + error + b"\n\n",
                b'event: error\ndata: {"code": 500, "reason": "the engine died"}\n\n',
                b"event: error\ndata: the engine died\n\n",
                b"error: " + error + b"\n\n",
            ],
        )
        for end in ends:
            engine = make()
            answering(engine, 200, kind, begun + end + b"data: [DONE]\n\n" * (dialect != "ollama"))
            got = await meaning(engine)
            assert isinstance(got, EngineError) and got.cause == Cause.ENGINE_ERROR, (end, got)

    run(scenario())
