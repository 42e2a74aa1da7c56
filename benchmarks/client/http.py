"""A light HTTP/1.1 client, so that the server is what is measured.

Requests are bytes made beforehand as far as possible. A connection has one request under way at a time and
stays open. Answers must have a Content-Length, as this server's all have.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import orjson

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")


class BadAnswer(RuntimeError):
    """The server answered something that a measurement cannot count: the text has status and body."""


def request_head(method: str, target: str, key: str | None) -> bytes:
    """Everything of a request up to its length: for a GET append `END`, for a POST use `with_body`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    if key is not None:
        lines.append(f"X-Api-Key: {key}")
    return "\r\n".join(lines).encode()


END = b"\r\n\r\n"


def with_body(head: bytes, body: bytes) -> bytes:
    """A whole request with a JSON body."""
    return b"%b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class Connection(asyncio.Protocol):
    """One keep-alive connection. `received_s` is when the last answer was complete (perf_counter)."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._buffer = b""
        self._body_at = 0
        self._needed = 0
        self.status = 0
        self.received_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self._needed:
            end = data.find(END)
            if end < 0:
                self._buffer = data
                return
            found = _LENGTH.search(data, 0, end)
            self.status = int(data[9:12])
            self._body_at = end + len(END)
            self._needed = self._body_at + (int(found[1]) if found else 0)
        if len(data) < self._needed:
            self._buffer = data
            return
        self.received_s = time.perf_counter()
        body = data[self._body_at : self._needed]
        self._buffer, self._needed = b"", 0
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(body)

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """Sends a request; the future's result is the answer's body, `status` its status."""
        assert self._waiting is None, "one request at a time"
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    async def json(self, request: bytes, status: int = 200) -> Any:
        """The answer as JSON. Raises BadAnswer for another status."""
        body = await self.send(request)
        if self.status != status:
            raise BadAnswer(f"{request.split(b' HTTP', 1)[0].decode()}: {self.status} {body[:500]!r}")
        return orjson.loads(body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def connect(host: str, port: int) -> Connection:
    """Opens one connection."""
    _transport, protocol = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return protocol


async def connect_many(host: str, port: int, count: int) -> list[Connection]:
    """Opens `count` connections, a hundred at a time."""
    opened: list[Connection] = []
    while len(opened) < count:
        batch = min(100, count - len(opened))
        opened += await asyncio.gather(*(connect(host, port) for _ in range(batch)))
    return opened
