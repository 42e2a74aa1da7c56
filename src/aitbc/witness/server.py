"""The witness's HTTP server: add-checkpoint, its key, and what it last saw."""

from __future__ import annotations

import asyncio
import time

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aitbc.connections.limits import Answer, Bounds, ConnectionLimits, Why
from aitbc.connections.protocol import protocol_within
from aitbc.connections.server import LimitedServer
from aitbc.core.log.witness_protocol import MAX_REQUEST_BYTES
from aitbc.witness.service import TEXT, Witness

DRAIN_S = 3
BODY_S = 20.0
"""How long a request's body may take."""
BOUNDS = Bounds(
    connections=512,
    connections_of_peer=64,
    head_bytes=16_384,
    headers=128,
    pipelined=4,
    head_s=10,
    body_s=BODY_S,
    answer_s=BODY_S,
    idle_s=10,
    rate=MAX_REQUEST_BYTES,
    discarded_bytes=MAX_REQUEST_BYTES,
    unsent_bytes=1 << 20,
)
"""A log asks once for each of its checkpoints, from one address: this is room for many logs, and for auditors."""
SAID = {
    Why.MALFORMED: (400, b"this is not HTTP/1.1"),
    Why.FRAMING: (400, b"the body is mostly framing"),
    Why.HEAD_SIZE: (431, b"the request's head is too large"),
    Why.TIME: (408, b"the request took too long"),
    Why.BUSY: (503, b"the witness is busy"),
}


class WitnessTerms:
    """`connections.limits.Terms` of a witness: the same for all of them."""

    bounds = BOUNDS
    trusted = frozenset({"127.0.0.1", "::1"})  # a proxy on the same machine
    always_open: frozenset[bytes] = frozenset()

    def answer(self, why: Why, target: bytes) -> Answer:
        status, text = SAID[why]
        return Answer(status, ((b"content-type", TEXT.encode()),), text + b"\n")

    def opened(self, connections: int) -> None:
        """A witness has no metrics."""

    def refused(self, reason: str) -> None:
        """A witness has no metrics."""


def run(app: Starlette, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, within `BOUNDS`."""
    limits = ConnectionLimits(WitnessTerms(), time.monotonic)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol_within(limits),
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    LimitedServer(config, limits).run()


def create_app(witness: Witness) -> Starlette:
    """The ASGI application of one witness."""

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    body += part
                    if len(body) > MAX_REQUEST_BYTES:
                        return PlainTextResponse("the request is too large\n", 413)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except TimeoutError:
            return PlainTextResponse("the request took too long\n", 408, headers={"Connection": "close"})
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return PlainTextResponse("the request is not UTF-8\n", 400)
        verdict = await asyncio.to_thread(witness.add_checkpoint, text)
        return Response(verdict.body, verdict.status, headers={"Content-Type": verdict.media_type})

    async def key(_request: Request) -> Response:
        return Response(witness.verifier.vkey + "\n", headers={"Content-Type": TEXT})

    async def latest(request: Request) -> Response:
        text = await asyncio.to_thread(witness.latest, request.path_params["origin_hash"])
        if text is None:
            return PlainTextResponse("nothing was cosigned for such a log\n", 404)
        return Response(text, headers={"Content-Type": TEXT})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/key", key, methods=["GET"]),
            Route("/{origin_hash}/checkpoint", latest, methods=["GET"]),
        ]
    )
