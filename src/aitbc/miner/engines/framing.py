"""An engine's body cut into JSON values, whatever it calls itself: server-sent events, JSON lines, one document.

Servers label their answers wrongly, and what they split lines on is decided by the formats and not by
Unicode: U+2028, U+0085 and the like are letters of an answer. So everything here works on bytes, and how a
body begins says what it is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from aitbc.core.canonical import is_deep
from aitbc.core.causes import Cause
from aitbc.miner.engines.base import EngineError

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""One event, line or document of an engine's body. More than this is a runaway engine, not an answer."""

MAX_DIGITS = 64

TOO_LARGE = "the engine's answer is larger than a result may be"
END_OF_STREAM = "[DONE]"
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
JSON_BEGINS = b'{["'
END = object()
"""The value of the last frame of a body that ended as its form demands: `[DONE]`, or a whole last document."""


class Event(NamedTuple):
    """A server-sent event: its type ("" where none is named) and its data."""

    kind: str
    data: str


class Frame(NamedTuple):
    """One decoded JSON value, or `END`. `is_error`: the stream itself calls it an error."""

    value: Any
    is_error: bool


class SseDecoder:
    """Server-sent events out of bytes, however they are cut.

    Source: the event stream grammar of the HTML standard (9.2.5, 9.2.6): UTF-8, one optional BOM, lines that
    end with CR LF, LF or CR and with nothing else, `data` joined by line feeds, comments and unknown fields
    ignored. Two things beyond it: an `error` field is an event of the type "error" (llama.cpp wrote such for
    years), and `end` gives an event that the stream's end leaves without its empty line.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._begin: bytes | None = b""  # what may yet become a BOM; None once that is decided
        self._after_cr = False
        self._rest: list[bytes] = []  # the parts of a line that has not ended
        self._kind = ""
        self._data: list[str] = []
        self._size = 0  # bytes of the event so far, its unfinished line included

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. EngineError: one is larger than `max_bytes`."""
        if self._begin is not None:
            chunk = self._begin + chunk
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._begin = chunk
                return
            self._begin = None
            chunk = chunk.removeprefix(BOM)
        if self._after_cr and chunk:
            # The CR ended its line at once; a LF that follows belongs to it.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or chunk.endswith(b"\r")
        # bytes.splitlines, unlike that of str, knows CR LF, LF and CR only.
        for line in chunk.splitlines(keepends=True):
            self._rest.append(line)
            self._size += len(line)
            if self._size > self._max_bytes:
                raise EngineError(Cause.ENGINE_ERROR, TOO_LARGE)
            if line.endswith((b"\n", b"\r")):
                whole = b"".join(self._rest)
                self._rest = []
                yield from self._line(whole.rstrip(b"\r\n"))

    def end(self) -> Iterator[Event]:
        """What the end of the stream completes."""
        if self._rest:
            yield from self._line(b"".join(self._rest))
            self._rest = []
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[Event]:
        if not line:
            if self._data:
                yield Event(self._kind, "\n".join(self._data))
            self._kind, self._data, self._size = "", [], 0
            return
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
        elif name == b"event":
            self._kind = text
        elif name == b"error":
            self._kind = "error"
            self._data.append(text)


class JsonDecoder:
    """JSON values out of bytes: a value a line, or documents that take several lines.

    Only LF ends a line: it cannot stand inside a JSON value's string, and every other separator can.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest: list[bytes] = []
        self._size = 0
        self._by_line = True

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """The values that `chunk` completes. EngineError: one is larger than `max_bytes`."""
        *lines, rest = chunk.split(b"\n") if self._by_line else [chunk]
        for line in lines:
            whole = b"".join([*self._rest, line])
            self._rest, self._size = [], 0
            if not self._by_line or not whole.strip(BLANK):
                self._keep(whole + b"\n")
                continue
            try:
                value = decode_json(whole)
            except ValueError:
                # A document over several lines: its end is that of the body.
                self._by_line = False
                self._keep(whole + b"\n")
            else:
                yield value
        self._keep(rest)

    def end(self) -> Iterator[Any]:
        """The values left at the end of the body. ValueError where the last is not whole."""
        data = b"".join(self._rest)
        if is_deep(data):
            raise ValueError("nested too deeply")
        text = data.decode("utf-8", "replace")
        decoder, at = json.JSONDecoder(parse_int=_integer), 0
        while at < len(text):
            if text[at] in " \t\r\n":
                at += 1
                continue
            value, at = decoder.raw_decode(text, at)
            yield value

    def _keep(self, data: bytes) -> None:
        self._rest.append(data)
        self._size += len(data)
        if self._size > self._max_bytes:
            raise EngineError(Cause.ENGINE_ERROR, TOO_LARGE)


def decode_json(data: bytes | str) -> Any:
    """The JSON value in `data`; bytes that are not UTF-8 become U+FFFD. ValueError, whatever is wrong."""
    if is_deep(data if isinstance(data, bytes) else data.encode("utf-8", "replace")):
        raise ValueError("nested too deeply")
    text = data.decode("utf-8-sig", "replace") if isinstance(data, bytes) else data
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | float:
    """An integer. One of more digits than any count has is no reason to lose the answer beside it: Python
    refuses to read it, and a float, however large, is no count."""
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """The JSON values of a body, and `END` where it came to its end; what follows `[DONE]` is not read.

    A last value that is cut in two is left out: what came before it says that the answer is not whole.
    EngineError: the body is neither JSON nor events with JSON in them.
    """
    begin = b""
    decoder: SseDecoder | JsonDecoder | None = None
    seen = False
    async for chunk in chunks:
        if decoder is None:
            begin += chunk
            at = begin.removeprefix(BOM).lstrip(BLANK)
            if not at or BOM.startswith(begin):
                begin = begin if BOM.startswith(begin) else b""
                continue
            is_json = at[0] in JSON_BEGINS
            decoder, chunk = (JsonDecoder(), at) if is_json else (SseDecoder(), begin)
        for frame in _decoded(decoder, chunk):
            seen = True
            yield frame
            if frame.value is END:
                return
    try:
        for frame in _decoded(decoder, None) if decoder is not None else ():
            seen = True
            yield frame
            if frame.value is END:
                return
    except ValueError:
        if seen:
            return
        seen = False
    if not seen:
        raise EngineError(Cause.ENGINE_ERROR, "the engine's answer is not JSON")
    if isinstance(decoder, JsonDecoder):
        yield Frame(END, False)


def _decoded(decoder: SseDecoder | JsonDecoder, chunk: bytes | None) -> Iterator[Frame]:
    """The frames that `chunk` (None: the body's end) completes."""
    if isinstance(decoder, JsonDecoder):
        for value in decoder.end() if chunk is None else decoder.feed(chunk):
            yield Frame(value, False)
        return
    for event in decoder.end() if chunk is None else decoder.feed(chunk):
        try:
            yield from _values(event)
        except ValueError:
            if chunk is None:
                raise  # the stream was cut within this event
            raise EngineError(
                Cause.ENGINE_ERROR, "the engine's answer is not JSON: an event of it is something else"
            ) from None


def _values(event: Event) -> Iterator[Frame]:
    """The values of one event: one, or one a line where a server leaves out the empty lines between events."""
    is_error = event.kind == "error"
    text = event.data.strip(" \t\r\n")
    if not text:
        return
    try:
        yield Frame(END if text == END_OF_STREAM else decode_json(text), is_error)
        return
    except ValueError:
        if is_error:
            yield Frame(text, True)
            return
        if event.kind not in ("", "message") and text.encode()[0] not in JSON_BEGINS:
            return  # a ping or another event of the server's own: no part of the answer
        lines = [line.strip(" \t\r") for line in text.split("\n")]
        if len(lines) == 1:
            raise
    for line in lines:
        if line:
            yield Frame(END if line == END_OF_STREAM else decode_json(line), is_error)
