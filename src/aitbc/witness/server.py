"""The witness's HTTP server: add-checkpoint, its key, and what it last saw."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aitbc.core.witness_protocol import MAX_REQUEST_BYTES
from aitbc.witness.service import TEXT, Witness

MAX_HEAD_BYTES = 16_384
MAX_CONNECTIONS = 512
"""Above these it answers 503; put a proxy with time limits in front of a witness that everybody may reach."""
KEEP_ALIVE_S = 10
BODY_S = 20.0
"""How long a request's body may take."""


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
