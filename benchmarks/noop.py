"""An endpoint that does nothing, as FastAPI runs it and on the program's own router."""

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from aitbc.coordinator.api.native.dialect import NATIVE
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.routing import Body, Router


class NoOp(BaseModel):
    """A small body: the shape of a submission."""

    prompt: str
    model: str
    params: dict[str, Any] = {}


class NoOpAnswer(BaseModel):
    model: str
    size: int


async def noop(body: NoOp) -> NoOpAnswer:
    """What a FastAPI programmer would write."""
    return NoOpAnswer(model=body.model, size=len(body.prompt))


class NoOpBody(Body):
    prompt: str
    model: str
    params: dict[str, Any] = {}


own_router = Router(NATIVE, include_in_schema=False)


@own_router.post("/bench/endpoint")
async def noop_endpoint(body: NoOpBody) -> Response:
    """The same on the router that every endpoint of the program is on."""
    return reply({"model": body.model, "size": len(body.prompt)})
