"""Bodies cut into events and JSON values, by the formats' own grammars, wherever the network cuts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aitbc.core.causes import Cause
from aitbc.miner.engines.base import EngineError
from aitbc.miner.engines.framing import END, Event, SseDecoder, frames

CUTS = [1, 2, 3, 5, 8, 10_000]

# Inputs of the HTML standard's own examples (9.2.6) and of its grammar, with the events that a browser sees.
STREAMS: list[tuple[bytes, list[Event]]] = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("", "YHOO\n+2\n10")]),
    (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
     [Event("", "first event"), Event("", "second event"), Event("", " third event")]),
    (b"data\n\ndata\ndata\n\ndata:", [Event("", ""), Event("", "\n"), Event("", "")]),
    (b"data:test\n\ndata: test\n\n", [Event("", "test"), Event("", "test")]),
    (b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
     [Event("add", "73857293"), Event("remove", "2153")]),
    (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [Event("", "a\nb"), Event("", "c")]),
    (b"data: a\rdata: b\r\rdata: c\r\r", [Event("", "a\nb"), Event("", "c")]),
    (b"data: a\rdata: b\ndata: c\r\n\n", [Event("", "a\nb\nc")]),
    (b"\xef\xbb\xbfdata: with a BOM\n\n", [Event("", "with a BOM")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: two of them\n\n", []),
    ("data: one\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven\n\n".encode(),
     [Event("", "one\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven")]),
    ("data: \u00e4\u20ac\U0001f600\n\n".encode(), [Event("", "\u00e4\u20ac\U0001f600")]),
    (b"data: \xff\xfe torn\n\n", [Event("", "\ufffd\ufffd torn")]),
    (b"event: lonely\n\ndata: x\n\n", [Event("", "x")]),
    (b"data : not a field\nother: y\ndata: x\n\n", [Event("", "x")]),
    (b"retry: 10\n:\n::\n\ndata: x:y: z\n\n", [Event("", "x:y: z")]),
    (b"data: a\x00b\n\n", [Event("", "a\x00b")]),
    (b"data: no empty line at the end", [Event("", "no empty line at the end")]),
    (b'error: {"message":"boom"}\n\n', [Event("error", '{"message":"boom"}')]),
    (b"", []),
    (b"\n\n\r\r\n", []),
]  # fmt: skip


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize(("body", "expected"), STREAMS)
def test_events_are_those_of_the_standard_however_they_are_cut(body: bytes, expected: list[Event]) -> None:
    for size in CUTS:
        decoder = SseDecoder()
        seen = [event for chunk in cut(body, size) for event in decoder.feed(chunk)]
        assert seen + list(decoder.end()) == expected, f"cut every {size} bytes"


def test_an_event_is_seen_as_soon_as_its_line_ends_whatever_ends_it() -> None:
    for ending in (b"\n", b"\r", b"\r\n"):
        decoder = SseDecoder()
        assert list(decoder.feed(b"data: x" + ending + ending)) == [Event("", "x")]


def test_an_endless_event_is_refused() -> None:
    decoder = SseDecoder(max_bytes=1000)
    with pytest.raises(EngineError):
        for _ in range(1000):
            list(decoder.feed(b"data: more\n"))
    decoder = SseDecoder(max_bytes=1000)
    with pytest.raises(EngineError):
        for _ in range(1000):
            list(decoder.feed(b"no line ends here"))


def values_of(body: bytes, size: int = 10_000) -> list[Any]:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in cut(body, size):
            yield chunk

    async def all_of_them() -> list[Any]:
        return [frame.value async for frame in frames(chunks())]

    return asyncio.run(all_of_them())


A, B = {"a": "x\u2028\u0085y\u00e4"}, {"b": [1, {"c": None}]}
LINE_A, LINE_B = (json.dumps(each, ensure_ascii=False).encode() for each in (A, B))
PRETTY = json.dumps(A, indent=2, ensure_ascii=False).encode()

BODIES: list[tuple[bytes, list[Any]]] = [
    (LINE_A + b"\n" + LINE_B + b"\n", [A, B, END]),
    (LINE_A + b"\r\n\r\n" + LINE_B, [A, B, END]),
    (b"\xef\xbb\xbf" + LINE_A, [A, END]),
    (b"\n \n" + LINE_A + b"\n\n", [A, END]),
    (PRETTY, [A, END]),
    (b"\xef\xbb\xbf" + PRETTY + b"\n" + LINE_B + b"\n" + PRETTY, [A, B, A, END]),
    (LINE_A + b"\n" + LINE_B[:-4], [A]),
    (b"data: " + LINE_A + b"\n\ndata: " + LINE_B + b"\n\ndata: [DONE]\n\nthe rest is not read", [A, B, END]),
    (b"data: " + LINE_A + b"\n\n", [A]),
    (b"data: " + LINE_A + b"\ndata: " + LINE_B + b"\ndata: [DONE]\n", [A, B, END]),
    (b"data: " + PRETTY.replace(b"\n", b"\ndata: ") + b"\n\n", [A]),
    (b"data: " + LINE_A + b"\n\ndata: " + LINE_B[:-3], [A]),
    (b"\n\n: hello\n\ndata: " + LINE_A, [A]),
    (b"event: ping\ndata: ping\n\nevent: message\ndata: " + LINE_A + b"\n\n", [A]),
    (b'{"n": ' + b"9" * 6000 + b"}\n", [{"n": float("inf")}, END]),
    (b'{"n":\n-' + b"9" * 6000 + b"}", [{"n": float("-inf")}, END]),
    (b'data: {"n": ' + b"9" * 64 + b"}\n\n", [{"n": 10**64 - 1}]),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_a_body_says_itself_what_it_is(body: bytes, expected: list[Any]) -> None:
    for size in CUTS:
        assert values_of(body, size) == expected, f"cut every {size} bytes"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"Internal Server Error",
        b"data: oops\n\n",
        b"event: message\ndata: oops\n\n",
        b'event: delta\ndata: {"torn": \n\n',
        b"data: " + LINE_A + b"\n\ndata: oops\n\n",
        b'{"half": ',
        b"[" * 100_000,
        b"[" * 100_000 + b"\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_what_is_no_answer_is_an_engine_error(body: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        values_of(body)
    assert caught.value.cause == Cause.ENGINE_ERROR
