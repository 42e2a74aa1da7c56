"""The transparency log as C2SP tlog-tiles serves it, and the proofs made from it. Public."""

import asyncio
import gzip
import hashlib
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from aitbc.coordinator.api.native.dialect import NATIVE, Responses, errors
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import QueryFields, Router
from aitbc.coordinator.chain import proofs, sealer
from aitbc.coordinator.flows.views import log_entries
from aitbc.core.log.merkle import EMPTY_ROOT
from aitbc.core.signing import encode_b64

router = Router(NATIVE, tags=["Log"])

FRESH = {"Cache-Control": "no-cache"}
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
TAG_HEX_CHARS = 32
GZIP_LEVEL = 5
TEXT = "text/plain; charset=utf-8"
_TEXT_REPLY: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_BYTES_REPLY: Responses = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
_NOT_CHANGED: Responses = {304: {"description": "It is what If-None-Match names"}}


def _tagged(request: ApiRequest, body: bytes, cache: dict[str, str], media_type: str) -> Response:
    """200 with the body and its ETag; 304 without it where the caller has that already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:TAG_HEX_CHARS]}"'
    headers = {**cache, "ETag": tag}
    asked = request.fields.get(b"if-none-match", b"").decode("latin-1")
    if any(known.strip().removeprefix("W/") in (tag, "*") for known in asked.split(",")):
        return Response(None, 304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


class Sizes(QueryFields):
    old: int = Field(ge=0, le=(1 << 63) - 1)
    new: int = Field(ge=0, le=(1 << 63) - 1)


@router.get(
    "/log/checkpoint",
    summary="The newest signed tree head",
    response_class=Response,
    responses={**_TEXT_REPLY, **_NOT_CHANGED, **errors(503)},
)
async def checkpoint(request: ApiRequest) -> Response:
    """A C2SP checkpoint with its witnesses' cosignatures; before the first block, that of the empty tree."""
    runtime = request.runtime
    text = await runtime.read_log(proofs.latest_checkpoint)
    if text is None:  # whatever follows continues it, so that nothing has to be kept of it
        text = sealer.signed_checkpoint(runtime.network.origin, 0, EMPTY_ROOT, runtime.signing_key)
    return _tagged(request, text.encode(), FRESH, TEXT)


@router.get(
    "/log/tile/{path:path}",
    summary="A tile of hashes, or a bundle of entries",
    response_class=Response,
    responses={**_BYTES_REPLY, **_NOT_CHANGED, **errors(404, 503)},
)
async def tile(request: ApiRequest, path: str) -> Response:
    """C2SP tlog-tiles: `<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`. What is served never changes.

    Entries are sent with `Content-Encoding: gzip` to whoever accepts it; hashes do not get any smaller."""
    data = await request.runtime.read_log(log_entries.tile_bytes, path)
    if not path.startswith("entries/"):
        return _tagged(request, data, IMMUTABLE, "application/octet-stream")
    headers = {**IMMUTABLE, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.fields.get(b"accept-encoding", b"").decode("latin-1")):
        data = await asyncio.to_thread(gzip.compress, data, GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return _tagged(request, data, headers, "application/octet-stream")


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding takes gzip (RFC 9110, 12.5.3): named, or by `*`, and not with a weight of 0."""
    weights: dict[str, float] = {}
    for part in accepted.split(","):
        coding, _, weight = part.partition(";")
        name, _, number = weight.strip().partition("=")
        try:
            weights[coding.strip().lower()] = float(number) if name.strip().lower() == "q" else 1.0
        except ValueError:
            continue
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


@router.get(
    "/log/consistency",
    summary="A proof that one tree continues another",
    response_class=Response,
    responses={**_TEXT_REPLY, **_NOT_CHANGED, **errors(400, 503)},
)
async def consistency(request: ApiRequest, query: Annotated[Sizes, Query()]) -> Response:
    """RFC 6962 consistency proof between any two sizes of this log, a base64 hash a line. It never changes."""
    hashes = await request.runtime.read_log(proofs.consistency, query.old, query.new)
    text = "".join(f"{encode_b64(hashed)}\n" for hashed in hashes)
    return _tagged(request, text.encode(), IMMUTABLE, TEXT)


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
    text = await request.runtime.read_log(log_entries.receipt_proof, receipt_id, interval_s)
    return Response(text, media_type=TEXT)
