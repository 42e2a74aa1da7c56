"""uvicorn's HTTP/1.1 connection, within limits: what arrives, for how long, and how much of it is kept.

uvicorn reads whatever it is sent for as long as it is sent. Here a connection's bytes go to the parser in small
slices, and the next slice only while no request waits for an earlier one; heads are measured, and so is what
comes beside a body (chunk extensions, trailers). Times and numbers of all connections together are in
`connections.limits`. What is refused gets an answer in the server's own words, where one is still possible, and ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from aitbc.connections.limits import ConnectionLimits, Peer, Stage, Why

HEAD_SLICE_BYTES = (
    1024  # between bodies; the requests in one slice are begun before we look how many they are
)
BODY_SLICE_BYTES = 16_384
PLAIN_BYTES = 8192  # a request that came in one piece of no more is read as such
END = b"\r\n\r\n"
UNSENT_BYTES = 65_536  # of an answer; less is looked at once a second
MAX_HELD_BYTES = 1 << 20  # what arrived while requests before it were under way
FRAMING_PER_BYTE = 16  # of chunks: a chunk of one byte takes five
PIECES = 512  # of a body, after which others have their turn: a body may come in a million chunks of one byte


class _Refused(Exception):
    """Ends the parser from inside one of its callbacks."""


class _Flow(FlowControl):
    """Reads on when nothing is held any more, whoever asks for it."""

    holds = False

    def resume_reading(self) -> None:
        if not self.holds:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `limits` is set on a subclass, one for each server."""

    limits: ConnectionLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage = Stage.IDLE
        self.since = 0.0  # when it began to wait for what `stage` says
        self.served = False  # whether it has had an answer
        self.url = b""  # of the newest request
        self.body_bytes = 0  # of the request that arrives
        self.unread_since, self.read_bytes = 0.0, 0  # of answers; kept by the limits
        self.peer: Peer = None  # type: ignore[assignment]
        self._reserved = False
        self._last = False  # nothing more is read: it ends with the answers to what was
        self._head_bytes = 0  # that earlier slices brought
        self._slice_bytes = 0  # of the slice in the parser
        self._framing_bytes = 0
        self._discarded_bytes = 0
        self._pieces = 0  # of bodies, since others had their turn
        self._goes_on = False  # `_go_on` is about to be called
        self._waits = True
        self._active: Any = None  # the request that is answered now; `cycle` is the newest
        self._held: deque[memoryview] = deque()
        self._held_bytes = 0

    # --- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: _Flow = _Flow(transport)
        self.since = self.limits.now()
        admitted = self.limits.admit(self, self.client[0] if self.client else "unknown")
        if admitted is None:
            self.stage = Stage.REFUSED
            self.connections.discard(self)
            self._write_refusal(Why.BUSY)
            transport.close()
            return
        self.peer, self._reserved = admitted

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._active is not None:  # uvicorn tells only the newest request that nobody reads its answer
            self._active.disconnected = True
            self._active.message_event.set()
            self._active = None
        if self.peer is not None:
            self.limits.leave(self, self.peer)
        self.stage = Stage.REFUSED
        self.transport.close()
        # Requests know their connection and it knows them: undone here, or they wait for the garbage collector.
        self.pipeline.clear()
        self._held.clear()
        self.scope = self.headers = self.cycle = None  # type: ignore[assignment]

    def cut(self) -> None:
        """Ends it at once."""
        self.stage = Stage.REFUSED
        self.transport.abort()

    def close_idle(self) -> None:
        self.limits.leave(self, self.peer)
        self.stage = Stage.REFUSED
        self.transport.close()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def shutdown(self) -> None:
        """The server's end: who was refused need not be waited for."""
        if self.stage == Stage.REFUSED:
            self.transport.close()
        else:
            super().shutdown()

    # --- what arrives -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.stage == Stage.REFUSED or self._last:
            return
        if len(data) <= PLAIN_BYTES and not self._held and not self.pipeline and data.count(END) <= 1:
            self._feed(data)
        else:
            self._held.append(memoryview(data))
            self._held_bytes += len(data)
            if self._held_bytes > MAX_HELD_BYTES:
                self.refuse("pipelining", None)
                return
            self._feed_held()
        self._tell()

    def _feed_held(self) -> None:
        """Gives the parser what is held, until a request waits for an earlier one or others have their turn."""
        self._pieces = 0
        while self._held and not self.pipeline and self.stage != Stage.REFUSED and not self._last:
            if self._pieces > PIECES:
                self._go_on_soon()
                break
            data = self._held[0]
            size = BODY_SLICE_BYTES if self.stage == Stage.BODY else HEAD_SLICE_BYTES
            if len(data) > size:
                self._held[0], data = data[size:], data[:size]
            else:
                self._held.popleft()
            self._held_bytes -= len(data)
            self._feed(data)
        self.flow.holds = bool(self._held)
        if self._held:
            self.flow.pause_reading()

    def _go_on_soon(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        if self.stage != Stage.REFUSED and not self.transport.is_closing():
            self._feed_held()
            # What asks for a body reads on itself once it has taken what came.
            if not self._held and not (self._answering and len(self.cycle.body) > HIGH_WATER_LIMIT):
                self.flow.resume_reading()
            self._tell()

    def _feed(self, data: bytes | memoryview) -> None:
        before, size = self.stage, len(data)
        self._slice_bytes = size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Another protocol is wished for. The request is answered in this one, and is the last.
            self._last = True
            self.stage = Stage.WHOLE
            if self.cycle is not None:
                self.cycle.keep_alive = self.cycle.more_body = False
        except httptools.HttpParserError:
            if self.stage != Stage.REFUSED and not self._last:
                self.refuse("malformed", Why.MALFORMED)
            return
        if self.stage == Stage.HEAD:
            if before <= Stage.HEAD:
                self._head_bytes += size
                if self._head_bytes > self.limits.bounds.head_bytes:
                    self.refuse("head_size", Why.HEAD_SIZE)
        elif self.stage == Stage.BODY == before:
            self._framing_bytes += size
            allowed = self.limits.bounds.head_bytes + (1 + FRAMING_PER_BYTE) * self.body_bytes
            if self.cycle.response_complete:
                self._discarded_bytes += size
            if self._discarded_bytes > self.limits.bounds.discarded_bytes:
                self.refuse("body_size", None)
            elif self._framing_bytes > allowed:
                self.refuse("malformed", Why.FRAMING)

    def _tell(self) -> None:
        """Tells the limits whether we wait for the other side."""
        if self.stage == Stage.REFUSED:
            return
        waits = self.stage == Stage.BODY or (self.stage < Stage.BODY and not self._answering)
        if waits != self._waits:
            self._waits = waits
            (self.limits.waits if waits else self.limits.works)(self, self.peer)

    # --- what the parser finds --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.stage = Stage.HEAD
        self.since = self.limits.now()
        self._head_bytes = 0
        if self.peer.trusted:
            self.scope["aitbc.limits"] = self.limits  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage == Stage.HEAD:  # else a trailer, which nobody asks for
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        bounds = self.limits.bounds
        if len(self.headers) > bounds.headers or (
            self._head_bytes + self._slice_bytes > bounds.head_bytes and self._head_size() > bounds.head_bytes
        ):
            self._refuse_here("head_size", Why.HEAD_SIZE)
        if self._reserved and self.url.partition(b"?")[0] not in self.limits.terms.always_open:
            self._refuse_here("connections", Why.BUSY)
        if len(self.pipeline) >= bounds.pipelined and self._answering:
            self._refuse_here("pipelining", None)
        super().on_headers_complete()
        self.stage = Stage.BODY
        self.since = self.limits.now()
        self.body_bytes = self._framing_bytes = self._discarded_bytes = 0

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        self._pieces += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.stage = Stage.WHOLE
        if not self._answering:
            self._becomes_idle()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self.served = True
        if self.transport.is_closing():
            return
        unsent = self.transport.get_write_buffer_size()
        if unsent > UNSENT_BYTES:
            self.limits.unsent(self, unsent)
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._last:
            self.close_idle()
            return
        elif self.stage == Stage.WHOLE:
            self._becomes_idle()
        else:
            self.since = self.limits.now()
        if self._held:
            self._go_on_soon()
        else:
            self.flow.resume_reading()
        self._tell()

    def _becomes_idle(self) -> None:
        self.stage = Stage.IDLE
        self.since = self.limits.now()

    # --- refusals ---------------------------------------------------------------------------------------

    def _refuse_here(self, reason: str, why: Why | None) -> None:
        """`refuse` for the parser's callbacks, which it ends."""
        self.refuse(reason, why)
        raise _Refused(reason)

    def refuse(self, reason: str, why: Why | None) -> None:
        """Reads no more from this connection, says why where that is still possible, and ends it.

        Requests that arrived whole before are still answered.
        """
        self.limits.report(reason, self.peer.name)
        self._held.clear()
        self._held_bytes = 0
        self.flow.holds = False
        cycle = self.cycle
        if self._answering and (self.pipeline or self.stage != Stage.BODY):
            self._last = True
            return
        if self._answering:  # what asks for the body hears that there is no more of it
            cycle.disconnected = True
            cycle.message_event.set()
        self.limits.works(self, self.peer)
        self.stage = Stage.REFUSED
        self.since = self.limits.now()
        if why is None or (self._answering and cycle.response_started):
            self.limits.leave(self, self.peer)
            self.transport.abort()
            return
        self._write_refusal(why)
        self.flow.resume_reading()  # what is unread when it ends would undo the answer
        self.limits.lingers(self)

    def _write_refusal(self, why: Why) -> None:
        status, headers, body = self.limits.terms.answer(why, self.url)
        self.transport.write(
            STATUS_LINE[status]
            + b"".join(b"%b: %b\r\n" % header for header in headers)
            + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


def protocol_within(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """The protocol of one server's connections, as uvicorn's `http` option takes it."""
    return type("Protocol", (LimitedProtocol,), {"limits": limits})
