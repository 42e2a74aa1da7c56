"""The transparency log as C2SP tlog-tiles serves it, and the proofs made from it. Public."""

from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from aitbc.api.requests import ApiRequest
from aitbc.api.responses import Responses, errors
from aitbc.api.routing import QueryFields, Router
from aitbc.chain import proofs
from aitbc.core.signing import encode_b64
from aitbc.flows import log_entries

router = Router(tags=["Log"])

FRESH = {"Cache-Control": "no-cache"}
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
TEXT = "text/plain; charset=utf-8"
_TEXT_REPLY: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_BYTES_REPLY: Responses = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


class Sizes(QueryFields):
    old: int = Field(ge=0, le=(1 << 63) - 1)
    new: int = Field(ge=0, le=(1 << 63) - 1)


@router.get(
    "/log/checkpoint",
    summary="The newest signed tree head",
    response_class=Response,
    responses={**_TEXT_REPLY, **errors(404, 503)},
)
async def checkpoint(request: ApiRequest) -> Response:
    """A C2SP checkpoint with its witnesses' cosignatures. 404 before the first block."""
    text = await request.runtime.db.read(proofs.latest_checkpoint)
    return Response(text, headers=FRESH, media_type=TEXT)


@router.get(
    "/log/tile/{path:path}",
    summary="A tile of hashes, or a bundle of entries",
    response_class=Response,
    responses={**_BYTES_REPLY, **errors(404, 503)},
)
async def tile(request: ApiRequest, path: str) -> Response:
    """C2SP tlog-tiles: `<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`. What is served never changes."""
    data = await request.runtime.db.read(log_entries.tile_bytes, path)
    return Response(data, headers=IMMUTABLE, media_type="application/octet-stream")


@router.get(
    "/log/consistency",
    summary="A proof that one tree continues another",
    response_class=Response,
    responses={**_TEXT_REPLY, **errors(400, 503)},
)
async def consistency(request: ApiRequest, query: Annotated[Sizes, Query()]) -> Response:
    """RFC 6962 consistency proof between any two sizes of this log, a base64 hash a line."""
    hashes = await request.runtime.db.read(proofs.consistency, query.old, query.new)
    return Response("".join(f"{encode_b64(hashed)}\n" for hashed in hashes), media_type=TEXT)


@router.get(
    "/v1/receipts/{receipt_id}/proof",
    tags=["Receipts"],
    summary="A receipt's proof of inclusion",
    response_class=Response,
    responses={**_TEXT_REPLY, **errors(404, 409, 503)},
)
async def receipt_proof(request: ApiRequest, receipt_id: str) -> Response:
    """A C2SP tlog-proof that verifies offline. 409 NOT_SEALED, with Retry-After, until the next block."""
    interval_s = request.runtime.settings.block_interval_s
    text = await request.runtime.db.read(log_entries.receipt_proof, receipt_id, interval_s)
    return Response(text, media_type=TEXT)
